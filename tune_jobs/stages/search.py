"""Stage 1: the optimal genotype."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgenes.checkpoint import save_checkpoint, write_text
from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError
from edgenes.methods.cost import search_work
from edgenes.methods.halving import best_by_halving
from edgenes.metrics import accuracy
from edgenes.seeds import stable_seed
from edgenes.space.genotype import Genotype, random_genotype
from edgenes.training.collapse import warn_of_collapse
from edgenes.training.darts import SearchResult, search_genotype
from edgenes.training.memory import with_less_memory
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.checkpoints import newest_checkpoint, resume_state
from tune_jobs.execution.run import Run, failure
from tune_jobs.execution.speed import Speed
from tune_jobs.execution.worker import (
    RANDOM_RIVALS,
    Reporter,
    outcome_of,
    send,
    use_resources,
)
from tune_jobs.files.cache import Cache, open_cache
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.layout import GENOTYPE, LOGITS, PREDICTIONS, SEARCHES
from tune_jobs.files.search_store import SearchStore, StoredTrainer, searched
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.messages import Report, Status
from tune_jobs.study.saved import stored_genotype


def search_stage(run: Run) -> Genotype:
    """Stage 1: the optimal genotype, searched once, or the user's own; kept in search/genotype.json."""
    path = run.files.fetch(GENOTYPE)
    if path.exists():
        return stored_genotype(run.folder, run.config)
    if run.config.genotype_file:
        genotype = read_genotype(run.config.genotype_file, run.config)
        write_text(path, genotype.to_json() + "\n")
        return genotype
    with run.progress.stage("Search", total=1, unit="search"):
        outcomes = run.tune(
            "search",
            genotype_search,
            {"checkpoint": newest_checkpoint(run.files.shared, "search")},
            lambda trial: "search",
            {
                "data": run.data_ref,
                "study": run.config,
                "files": run.files,
                "device": run.device,
                "cache": run.config.cache,
            },
        )
        if not outcomes or outcomes[0].status != Status.COMPLETE:
            raise failure(outcomes[0] if outcomes else Report(), "the search")
    run.clean("search")
    run.progress.say(outcomes[0].attributes["summary"])
    if run.config.optimal == "darts":
        run.files.fetch(LOGITS)
    run.files.fetch(GENOTYPE)
    return stored_genotype(run.folder, run.config)


def read_genotype(path: Path, config: SweepConfig) -> Genotype:
    """The user's optimal genotype; raises ConfigError if it is no genotype of the study's space."""
    try:
        genotype = Genotype.from_json(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"--optimal must be darts, halving or a genotype file; {path} cannot be read: {error.strerror}."
        ) from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"--optimal must be darts, halving or a genotype file; {path}: {error}") from error
    if genotype.space != config.space:
        raise ConfigError(
            f"the genotype in {path} has {genotype.space.nodes} nodes with {genotype.space.inputs_per_node} inputs, "
            f"the study has {config.nodes} with {config.inputs_per_node}: give --nodes and --inputs-per-node alike."
        )
    return genotype


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
        metrics = {**metrics, **speed.measured()}
        reporter(Report(step=epoch + 1, steps=study.search_epochs, note=note, metrics=metrics), state)
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
        stores = SearchStore(files.below(SEARCHES), opened), PredictionStore(files.below(PREDICTIONS), opened)
        trained = 0

        def say(note: str) -> None:
            nonlocal trained
            trained += 1
            send(Report(step=trained, steps=0, note=f"halving, {note}"))

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

    def run() -> Report:
        start, opened = time.monotonic(), open_cache(cache)
        genotype, cached = (halved(opened), False) if study.optimal == "halving" else searched_genotype(opened)
        seconds = f"{time.monotonic() - start:.0f} s" + (", from the cache" if cached else "")
        note = f"Optimal genotype: {genotype} ({seconds})."
        if study.baselines:
            store = PredictionStore(files.below(PREDICTIONS), opened)
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
        return Report(status=Status.COMPLETE, attributes={"summary": note})

    send(replace(outcome_of(run), step=study.search_epochs, steps=study.search_epochs))
