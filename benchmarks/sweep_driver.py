"""A sweep's driver outside of Tune: its real parts, called as Tune's controller calls them, and a trial's reports."""

import io
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ray import tune
from ray.tune.utils.util import flatten_dict
from rich.console import Console
from sqlalchemy import event

from edgenes import random_genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.run import describe
from tune_jobs.execution.searcher import RecordCallback, StudyPruning, StudySearcher
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.callback import ProgressCallback
from tune_jobs.progress.display import Progress
from tune_jobs.stages.sweep import BestCallback
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_sampler
from tune_jobs.study.space import search_space
from tune_jobs.study.storage import storage_from
from tune_jobs.watch.names import trial_name

CONFIG = SweepConfig()
SPACE = search_space(CONFIG.estimator)
EPOCHS, REPORTS = CONFIG.hypernetwork_epochs, CONFIG.hypernetwork_epochs + CONFIG.candidates


class Driver:
    """The searcher, the scheduler and the callbacks of a sweep over a study in `folder`."""

    def __init__(self, folder: Path, budget: int, sampler: str):
        storage = storage_from(folder / "study.db")
        self.commits = 0  # that wrote something
        self._writes = False
        event.listen(storage.engine, "before_cursor_execute", self._note_statement)
        event.listen(storage.engine, "commit", self._count_commit)
        self.study = open_study("s", storage, space=SPACE)
        self.searcher = StudySearcher(
            self.study,
            SPACE,
            budget=budget,
            max_failures=10**6,
            make_sampler=lambda seed: make_sampler(sampler, seed, max(4, budget // 4)),
            files=StudyFiles(folder),
        )
        progress = Progress(console=Console(file=io.StringIO()))
        self.scheduler = StudyPruning(self.searcher)
        self.callbacks = [
            RecordCallback(self.searcher),
            BestCallback(self.study, progress),
            ProgressCallback(progress, trial_name, describe),
        ]
        self.stage = progress.stage("Sweep", budget)
        self.folder = folder
        self.ids = itertools.count()

    def ask(self) -> Any:
        """A started trial, or None if there is no more to start."""
        trial = SimpleNamespace(trial_id=f"{next(self.ids):05x}", last_result={}, error_file=None)
        trial.config = self.searcher.suggest(trial.trial_id)
        if not isinstance(trial.config, dict):
            return None
        self._tell("on_trial_start", trial)
        return trial

    def report(self, trial: Any, result: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        """Deal with a report."""
        result = as_tune_passes_it(trial, result)
        self.scheduler.on_trial_result(None, trial, result)
        self.searcher.on_trial_result(trial.trial_id, result)
        self._tell("on_trial_result", trial, result=result)
        trial.last_result = result
        if checkpoint is not None:
            self._tell("on_checkpoint", trial, checkpoint=checkpoint)

    def complete(self, trial: Any) -> None:
        """Deal with the end of a trial."""
        self.searcher.on_trial_complete(trial.trial_id, trial.last_result)
        self._tell("on_trial_complete", trial)

    def _note_statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self._writes |= not statement.startswith("SELECT")

    def _count_commit(self, connection: Any) -> None:
        self.commits += self._writes
        self._writes = False

    def _tell(self, what: str, trial: Any, **more: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(iteration=0, trials=[], trial=trial, **more)

    def checkpoint(self, trial: Any, step: int) -> tune.Checkpoint:
        """A place as Tune makes one; not the driver's work."""
        number = trial.config["trial"]
        place = self.folder / "ray" / "sweep-1" / f"trial-{number}-{trial.trial_id}" / f"checkpoint_{step:06d}"
        place.mkdir(parents=True)
        return tune.Checkpoint.from_directory(str(place))


def report_of(number: int, step: int, rng: np.random.Generator) -> dict[str, Any]:
    """A report with the content of a real trial's."""
    if step <= EPOCHS:
        numbers = {name: rng.random() for name in ("loss", "architecture_loss", "penalty", "c", "temperature")}
        note = "hypernetwork, c 0.1, control error 0.10"
        return {"stage": "hypernetwork", "step": step, "steps": REPORTS, "note": note, "control_error": 0.1, **numbers}
    mean = 0.7 + 0.2 * np.sin(number) + 0.01 * rng.random()
    return {
        "stage": "candidates",
        "step": step,
        "steps": REPORTS,
        "note": f"candidates, mean accuracy {mean:.3f}, control error 0.10",
        "candidate_accuracy": mean,
        "intermediate": mean,
        "intermediate_step": step - EPOCHS,
        "control_error": 0.1,
    }


def result_of(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """The last report of a trial, with attributes as large as a real trial's."""
    generator = torch.Generator().manual_seed(number)
    genotypes = [random_genotype(CONFIG.space, generator) for _ in range(CONFIG.candidates)]
    rows = [
        {
            "digest": g.digest,
            "lambda": k / 2,
            "source": "sample",
            "shared": k % 5,
            "accuracy": 0.8,
            "genotype": g.to_dict(),
        }
        for k, g in enumerate(genotypes)
    ]
    attributes = {
        "candidates": rows,
        "control_curve": [
            {"lambda": k / 10, "shared": int(rng.integers(5))} for k in range(10 * CONFIG.space.max_edges + 1)
        ],
        "hypernetwork": f"trials/{number:04d}-hypernetwork.pt",
        **dict.fromkeys(("control_error", "standard_error", "mean_accuracy", "nll", "seconds"), 0.5),
        **{"pool_size": len(rows), "cache_hits": 1},
    }
    value = 0.7 + 0.2 * np.sin(number) + 0.02 * rng.random()
    return report_of(number, REPORTS, rng) | {"status": "complete", "value": value, "attributes": attributes}


def as_tune_passes_it(trial: Any, result: dict[str, Any]) -> dict[str, Any]:
    """A report flat, and with Tune's own entries."""
    own = {"trial_id": trial.trial_id, "training_iteration": result["step"], "pid": 1, "hostname": "node"}
    own |= {"date": "2026-01-01", "timestamp": 1, "time_total_s": 1.0, "time_this_iter_s": 1.0, "node_ip": "127.0.0.1"}
    return flatten_dict(result) | own | {"done": False}
