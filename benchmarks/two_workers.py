"""Trials a second of a real digits sweep with two workers, beside one.

Both are the same study (equal seed, random sampler, so equal trials) of one thread a trial, in turns, each in a fresh
process and folder. A value is the finished trials by the seconds from the first trial's suggestion to the last trial's
end: neither the search nor Ray's start counts, the workers' start does. It needs as many idle cores as workers.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch

from benchmarks.printing import machine, spread, table
from edgenes import SearchSpace, random_genotype
from tune_jobs.errors import StudyError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare workers."""

    workers: tuple[int, int] = (1, 2)
    """Workers to compare; the second's rate is divided by the first's."""
    trials: int = 12
    """Trials of a study."""
    repeats: int = 3
    """Studies with each number of workers."""


def rate(workers: int, options: Options, folder: Path) -> float:
    """Trials a second of one study's sweep."""
    genotype = folder / "optimal.json"
    genotype.write_text(random_genotype(SearchSpace(), torch.Generator().manual_seed(0)).to_json())
    out = folder / f"study-{workers}-{time.monotonic_ns()}"
    command = [sys.executable, "studies/anneal_sweep.py", "--out", str(out), "--optimal", str(genotype)]
    command += ["--trials", str(options.trials), "--max-concurrent", str(workers), "--sampler", "random"]
    command += ["--no-baselines", "--final-epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise StudyError(f"the study ended with {done.returncode}: {done.stderr[-500:]}")
    storage = f"sqlite:///{out / 'study.db'}"
    trials = optuna.load_study(study_name=None, storage=storage).get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.is_finished()]
    first = min(trial.datetime_start for trial in finished)
    return len(finished) / (max(trial.datetime_complete for trial in finished) - first).total_seconds()


def main(options: Options) -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rates: dict[int, list[float]] = {workers: [] for workers in options.workers}
    print(f"{options.trials} trials a study; median [smallest, largest]; {machine('ray')}\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for _ in range(options.repeats):
            for workers, found in rates.items():
                found.append(rate(workers, options, Path(place)))
    one, two = rates.values()
    rows = [
        (f"{workers}", f"{len(found)}", spread([60 * value for value in found])) for workers, found in rates.items()
    ]
    rows.append(("ratio", f"{len(one)}", spread([b / a for a, b in zip(one, two, strict=True)])))
    print(table(["workers", "n", "trials a minute"], rows))
    print(f"\n{machine('ray')} at the end")
