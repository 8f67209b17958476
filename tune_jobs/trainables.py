"""Thin Tune trainables around the training functions: they report, save, and turn exceptions into outcomes."""

import json
import logging
import posixpath
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from edgenes.checkpoint import is_unwritable, load_checkpoint, save_checkpoint, write_text
from edgenes.collapse import warn_of_collapse
from edgenes.data import Dataset, Part
from edgenes.errors import CheckpointError, EdgeNESError
from edgenes.genotype import Genotype, random_genotype
from edgenes.halving import best_by_halving
from edgenes.memory import with_less_memory
from edgenes.metrics import accuracy
from edgenes.search import SearchResult, search_genotype
from edgenes.seeds import stable_seed
from edgenes.work import search_work
from tune_jobs.allocator import keep_freed_memory
from tune_jobs.cache import Cache, open_cache
from tune_jobs.compiler import leave_out_compiler
from tune_jobs.config import SweepConfig
from tune_jobs.environment import hardware
from tune_jobs.final import Finalist, final_ensemble, final_training
from tune_jobs.remote import Remote, StudyFiles
from tune_jobs.saved import GENOTYPE, LOGITS
from tune_jobs.search_store import SearchStore, StoredTrainer
from tune_jobs.searcher import RAY
from tune_jobs.searches import searched
from tune_jobs.store import PredictionStore
from tune_jobs.trial import TrialSettings, run_trial
from tune_jobs.watch.speed import Speed

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 10.0
"""Seconds between two checkpoints of a trial: what a killed worker or driver loses at most, and an epoch."""
RANDOM_RIVALS = 6
"""Random genotypes that stand beside the searched one."""
_STATE = "state.pt"
_TRACEBACK = 2000  # characters: the end of a traceback names the cause


def use_resources() -> None:
    """Let torch use as many threads as the trial has CPUs, whatever the actor had before; begin fast, keep memory."""
    keep_freed_memory()
    leave_out_compiler()
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    torch.set_num_threads(max(1, int(cpus)))


class _Collected(logging.Handler):
    """Warnings of the code that runs: a worker's own log is seen by nobody."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def outcome_of(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `run` returns, with the "warnings" it logged; if it raises, its "status", "reason", "traceback".

    The status is "failed", or "unwritable" where the disk is full or read-only: that is not the trial's fault.
    """
    collected, loggers = _Collected(), [logging.getLogger(name) for name in ("edgenes", "tune_jobs")]
    for logger in loggers:
        logger.addHandler(collected)
    try:
        outcome = run()
    except Exception as error:  # a trial's fault is recorded with the trial, and the sweep goes on
        known = isinstance(error, EdgeNESError)
        outcome = {
            "status": "unwritable" if is_unwritable(error) else "failed",
            "reason": str(error) if known else f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc()[-_TRACEBACK:],
            "attributes": {"hardware": hardware()},
        }
    finally:
        for logger in loggers:
            logger.removeHandler(collected)
    return outcome | {"warnings": collected.texts}


class Reporter:
    """Passes metrics to Tune, with a checkpoint of the state when the last one is `every` seconds old."""

    def __init__(self, shared: Remote, every: float = CHECKPOINT_SECONDS):
        self._shared = shared
        self._every = every
        self._saved = time.monotonic()

    def __call__(self, metrics: dict[str, Any], state: dict[str, Any] | None, last: bool = False) -> None:
        now = time.monotonic()
        if state is None or (now - self._saved < self._every and not last):
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder) / _STATE, "trial", state)
            with self._shared.reaching():
                tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
        self._saved = time.monotonic()


def resume_state(noted: str | None, shared: Remote, device: str) -> dict[str, Any] | None:
    """The newest sound checkpoint: Tune's own after a worker died, then the `noted` one of the shared files, or None.

    A damaged one is passed over for the one before, which Tune keeps beside it.
    """
    own = tune.get_checkpoint()
    for newest in filter(None, (own and shared.name_of(own.path), noted)):
        for name in (newest, *_older(shared, newest)):
            try:
                with tune.Checkpoint(shared.path(name), shared.filesystem).as_directory() as folder:
                    return load_checkpoint(Path(folder) / _STATE, "trial", device)
            except (CheckpointError, OSError) as error:
                log.warning("%s: %s The checkpoint before it is taken, or the trial begins anew.", name, error)
    return None


def newest_checkpoint(shared: Remote, stage: str) -> str | None:
    """The newest checkpoint of the only trial of a stage, whichever driver's it was; None if there is none."""
    numbers = [name.removeprefix(f"{RAY}/{stage}-") for name in shared.entries(RAY)]
    for number in sorted((int(number) for number in numbers if number.isdecimal()), reverse=True):
        for place in shared.entries(f"{RAY}/{stage}-{number}"):
            for name in reversed(shared.entries(place)):
                if posixpath.basename(name).startswith("checkpoint_"):
                    return name
    return None


def _older(shared: Remote, checkpoint: str) -> list[str]:
    """The checkpoints beside this one that came before it, newest first."""
    beside = shared.entries(posixpath.dirname(checkpoint))
    return [n for n in reversed(beside) if posixpath.basename(n).startswith("checkpoint_") and n < checkpoint]


def sweep_trial(config: dict[str, Any], data: Dataset, settings: TrialSettings) -> None:
    """One trial of the sweep; config holds "trial", "seed", "attempt", "params", "checkpoint" (or None)."""
    use_resources()
    settings = settings.on_this_node()
    shared = settings.files.shared
    # A trial that has lost its process once saves each epoch: one that is killed again and again gets further.
    reporter = Reporter(shared, CHECKPOINT_SECONDS if config["attempt"] == 1 else 0)
    epochs = settings.config.hypernetwork_epochs

    def report(metrics: dict[str, Any], state: dict[str, Any] | None) -> None:
        reporter(metrics, state, last=metrics["step"] == epochs)

    def run() -> dict[str, Any]:
        resume = resume_state(config.get("checkpoint"), shared, settings.device)
        return run_trial(settings, data, config["trial"], config["seed"], config["params"], report, resume)

    tune.report(outcome_of(run))


def candidate_retraining(config: dict[str, Any], data: Dataset, settings: TrialSettings, jobs: list[dict]) -> None:
    """Retrain one candidate fully and leave it in the store; config["job"] is its position among `jobs`."""
    use_resources()
    settings = settings.on_this_node()
    job = jobs[config["job"]]

    def run() -> dict[str, Any]:
        training = final_training(settings, job["repeat"])
        genotype = Genotype.from_dict(job["genotype"])
        retrained = settings.store.retrained(training, data, genotype, weights=True)
        hits = {"cached": retrained.cached, "shared": retrained.shared}
        return {"status": "complete", "key": retrained.key, "seconds": retrained.seconds, **hits}

    tune.report(outcome_of(run) | {"step": 1, "steps": 1})


def genotype_search(
    config: dict[str, Any], data: Dataset, study: SweepConfig, files: StudyFiles, device: str, cache: str | None
) -> None:
    """Search the optimal genotype, on from config["checkpoint"] (or None); leaves GENOTYPE and LOGITS among the files.

    A search that any study of the same `cache` (a setting) has made is not made again.
    Beside it stands the cheapest rival: random genotypes, retrained as shortly as the found one.
    """
    use_resources()
    files = files.on_this_node()
    reporter, speed = Reporter(files.shared), Speed(len(data.weights), device)

    def report(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
        note = f"loss {metrics['loss']:.3f}, {metrics['parameter_free']} of {study.space.max_edges} edges pool or skip"
        progress = {"step": epoch + 1, "steps": study.search_epochs, "note": note}
        reporter({**progress, **metrics, **speed.measured()}, state)
        speed.restart()

    def search(resume: dict[str, Any] | None, accumulate: int) -> SearchResult:
        return search_genotype(study.search_config(device), data, resume=resume, report=report, accumulate=accumulate)

    def whole_search() -> tuple[dict[str, Any], bool]:
        resume = resume_state(config["checkpoint"], files.shared, device)
        found, out_of_memory = with_less_memory(search, resume)
        logits = {"alpha": found.logits.alpha.detach().cpu(), "beta": found.logits.beta.detach().cpu()}
        whole = resume is None and out_of_memory is None
        return {"genotype": found.genotype.to_dict(), **logits, "out_of_memory": out_of_memory}, whole

    def halved(opened: Cache | None) -> Genotype:
        """By successive halving of random genotypes, which the search it stands for pays for."""
        stores = SearchStore(files.below("searches"), opened), PredictionStore(files.below("predictions"), opened)
        trained = 0

        def say(note: str) -> None:
            nonlocal trained
            trained += 1
            tune.report({"step": trained, "steps": 0, "note": f"halving, {note}"})

        trainer = StoredTrainer(data, *stores, say, weights=False)
        return best_by_halving(study.setting(device), trainer, search_work(study.search_config(device), data))

    def searched_genotype(opened: Cache | None) -> tuple[Genotype, bool]:
        with tempfile.TemporaryDirectory() as folder:
            found, cached = searched(opened, study.search_config(device), data, whole_search, Path(folder))
        genotype = Genotype.from_dict(found["genotype"])
        if cached:  # else the search has warned
            warn_of_collapse(genotype)
        logits = {name: found[name] for name in ("alpha", "beta", "out_of_memory")}
        save_checkpoint(files.folder / LOGITS, "logits", logits)
        files.publish(LOGITS)
        return genotype, cached

    def run() -> dict[str, Any]:
        start, opened = time.monotonic(), open_cache(cache)
        genotype, cached = (halved(opened), False) if study.optimal == "halving" else searched_genotype(opened)
        seconds = f"{time.monotonic() - start:.0f} s" + (", from the cache" if cached else "")
        note = f"Optimal genotype: {genotype} ({seconds})."
        if study.baselines:
            store = PredictionStore(files.below("predictions"), opened)
            # Halving chose by the first retraining's score, which would flatter its choice.
            training = study.training_config(study.short_epochs, int(study.optimal == "halving"), device)
            generator = torch.Generator().manual_seed(stable_seed("search baseline", study.seed))
            rivals = [random_genotype(study.space, generator) for _ in range(RANDOM_RIVALS)]
            scores = [
                accuracy(store.retrained(training, data, rival).probabilities, data.validation.labels)
                for rival in [genotype, *rivals]
            ]
            note += (
                f" After {study.short_epochs} epochs of retraining its validation accuracy is {scores[0]:.3f}; "
                f"{RANDOM_RIVALS} random genotypes: mean {sum(scores[1:]) / RANDOM_RIVALS:.3f}, "
                f"best {max(scores[1:]):.3f}."
            )
        write_text(files.folder / GENOTYPE, genotype.to_json() + "\n")
        files.publish(GENOTYPE)
        return {"status": "complete", "summary": note}

    tune.report(outcome_of(run) | {"step": study.search_epochs, "steps": study.search_epochs})


def ensemble_selection(
    config: dict[str, Any], data: Dataset, test: Part, settings: TrialSettings, finalist: Finalist
) -> None:
    """The final trial: the ensemble of the hypernetwork that was chosen, whose digest is config["hypernetwork"]."""
    use_resources()
    settings = settings.on_this_node()

    def run() -> dict[str, Any]:
        result = final_ensemble(settings, replace(data, test=test), finalist, config["hypernetwork"])
        return {"status": "complete", "result": json.dumps(result)}

    tune.report(outcome_of(run) | {"step": 1, "steps": 1})
