"""What a trial costs beyond its training: real sweeps of trials that report once and return, one after the other.

Everything around a trial is the real thing: Ray Tune with reused actors, the searcher, the callbacks, notes and
pictures, in the temporary folder (TMPDIR). A value is the time from the end of one trial to the end of the next; the
first two of a sweep, which start the worker, are left out. Sweeps of the two storages take turns.
"""

import io
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from ray import tune
from rich.console import Console

from benchmarks.printing import machine, quantiles, table
from benchmarks.trial_result import CONFIG, SPACE, result_of
from edgenes import random_genotype
from edgenes.data.loading import load_data
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.recording import RecordCallback, StudyPruning
from tune_jobs.execution.resources import live_nodes
from tune_jobs.execution.run import Run
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.execution.worker import send
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.display import Progress
from tune_jobs.stages.sweep import BestCallback
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_sampler
from tune_jobs.watch.callbacks import Watch
from tune_jobs.watch.names import trial_name

ROWS = {"SQLite": "{}/study.db", "journal": "journal:{}/study.log"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure seconds a trial beyond its training."""

    trials: int = 30
    """Trials of a sweep."""
    sweeps: int = 3
    """Sweeps of each row."""
    sampler: str = "tpe"
    """Optuna's sampler."""


class Clock(tune.Callback):
    """When trials end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ends.append(time.perf_counter())


def no_op(config: dict[str, Any]) -> None:
    """A trial that reports a real trial's result at once."""
    send(result_of(config["trial"], np.random.default_rng(config["trial"])))


def sweep(storage: str, options: Options, folder: Path) -> list[float]:
    """Seconds a trial of one sweep."""
    config = SweepConfig.of(out=folder, trials=options.trials, sampler=options.sampler)
    study = open_study("s", storage.format(folder), space=SPACE)
    progress, files, clock = Progress(console=Console(file=io.StringIO())), StudyFiles(folder), Clock()
    watch = Watch(folder, (), study)
    run = Run(config.execution, load_data("digits"), progress, lambda: None, live_nodes(), files, watch)
    searcher = StudySearcher(
        study,
        SPACE,
        budget=options.trials,
        max_failures=1,
        make_sampler=lambda seed: make_sampler(options.sampler, seed, max(4, options.trials // 4)),
        files=files,
        before_tell=watch.album(config, random_genotype(CONFIG.space, torch.Generator().manual_seed(0))),
    )
    with progress.stage("Sweep", options.trials):
        run.tune(
            "sweep",
            no_op,
            {},
            trial_name,
            {},
            callbacks=[RecordCallback(searcher), BestCallback(study, progress), clock],
            search_alg=searcher,
            scheduler=StudyPruning(searcher),
            num_samples=-1,
        )
    if len(clock.ends) != options.trials:
        raise RuntimeError(f"{len(clock.ends)} of {options.trials} trials ended")
    return [after - before for before, after in pairwise(clock.ends)][1:]


def main(options: Options) -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in ROWS}
    print(f"Trials that report once, {options.sampler}; median [5%, 95%]; {machine('ray', 'optuna')}\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            for k in range(options.sweeps):
                for name, storage in ROWS.items():
                    folder = Path(place) / f"{k}-{name}"
                    folder.mkdir()
                    seconds[name] += sweep(storage, options, folder)
        finally:
            ray.shutdown()
    rows = [(name, f"{len(taken)}", quantiles(taken, 3)) for name, taken in seconds.items()]
    ratios = [slow / fast for slow, fast in zip(*seconds.values(), strict=True)]
    rows.append(("ratio", f"{len(ratios)}", quantiles(ratios, 2)))
    print(table(["storage", "n", "s a trial"], rows))
    print(f"\n{machine('ray', 'optuna')} at the end")
