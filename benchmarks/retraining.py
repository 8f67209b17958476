"""Candidates retrained a second: a study's parallel trials, on the whole machine, against one after the other.

`python -m benchmarks retraining` prints a table. Each round retrains the same new random genotypes on digits three
times, alternately: in a loop in this process, in a study's stage with one trial at a time, and with all that fit.
Nothing is cached. The first round is not counted. A stage's time holds the start of its workers, as in a study.
"""

import io
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import ray
import torch
from rich.console import Console

from benchmarks.printing import machine, quantiles, table
from edgenes import random_genotype
from edgenes.methods.result import Member
from edgenes.space.genotype import Genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.jobs import Bench, Job, run_jobs
from tune_jobs.execution.resources import live_nodes
from tune_jobs.execution.run import Run
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.progress.display import Progress
from tune_jobs.stages.finalists import Entry, retrain_job, retraining_jobs
from tune_jobs.study.saved import load_study_data
from tune_jobs.watch.callbacks import Watch


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how many candidates are retrained a second."""

    candidates: int = 8
    """Candidates a round."""
    epochs: int = 15
    """Epochs of each."""
    rounds: int = 5
    """Rounds."""
    device: str = "auto"
    """auto, cpu or cuda."""
    gpus_per_trial: float | None = None
    """Share of a GPU for each; the default is the study's own."""


Work = Callable[[Run, Bench, list[Genotype]], None]


def study(options: Options, folder: Path, at_once: int | None) -> tuple[Run, Bench]:
    """A study without trials in a folder of its own."""
    config = SweepConfig.of(
        final_epochs=options.epochs,
        max_concurrent=at_once,
        gpus_per_trial=options.gpus_per_trial,
        device=options.device,
        out=folder,
    )
    folder.mkdir()
    data, files = load_study_data(config), StudyFiles(folder)
    progress = Progress(console=Console(file=io.StringIO()))
    run = Run(config.execution, data, progress, lambda: None, live_nodes(), files, Watch(folder))
    place = Workplace(files)
    return run, Bench(place.trainer(data), config.setting(run.device), place)


def jobs_of(bench: Bench, genotypes: list[Genotype]) -> list[Job]:
    """The retrainings of the genotypes, as the finalists' stage has them."""
    return retraining_jobs([Entry(Member(each, bench.setting.training_config(each))) for each in genotypes])


def in_a_loop(run: Run, bench: Bench, genotypes: list[Genotype]) -> None:
    """Retrain one after the other in this process, on the threads of one trial."""
    torch.set_num_threads(run.execution.cpus_per_trial)
    for job in jobs_of(bench, genotypes):
        retrain_job(job, bench)


def in_trials(run: Run, bench: Bench, genotypes: list[Genotype]) -> None:
    """Retrain as a study's third stage does."""
    results = run_jobs(run, bench.place, bench.setting, "finalists", retrain_job, jobs_of(bench, genotypes))
    assert not results.failed and not any(result["cached"] for result in results.found)


def main(options: Options) -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ways = {"a loop": (1, in_a_loop), "one trial at a time": (1, in_trials), "all that fit": (None, in_trials)}
    generator, counter = torch.Generator().manual_seed(1), itertools.count()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:

        def rate(
            at_once: int | None, work: Callable[[Run, Bench, list[Genotype]], None], genotypes: list[Genotype]
        ) -> float:
            """Candidates a second."""
            run, bench = study(options, Path(place) / f"study-{next(counter)}", at_once)
            assert run.data_ref  # the data are put there once a study, before this stage
            start = time.perf_counter()
            work(run, bench, genotypes)
            return len(genotypes) / (time.perf_counter() - start)

        run, bench = study(options, Path(place) / "study", None)
        for k in range(options.rounds + 1):
            genotypes = [random_genotype(bench.setting.space, generator) for _ in range(options.candidates)]
            for name, (at_once, work) in ways.items():
                found = rate(at_once, work, genotypes)
                if k > 0:
                    rates[name].append(found)
        slots, device = run.slots, run.device
    ray.shutdown()
    print(
        f"Median [5%, 95%] of {options.rounds} rounds of {options.candidates} candidates, {options.epochs} epochs on "
        f"digits; {device}, {slots} trials at once fit, {run.execution.cpus_per_trial} thread each; {machine('ray')}\n"
    )
    rows = [
        (name, quantiles(found, 2), quantiles([a / b for a, b in zip(found, rates["a loop"], strict=True)], 2))
        for name, found in rates.items()
    ]
    print(table(["", "candidates a second", "of the loop's"], rows))
