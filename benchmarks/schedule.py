"""Does one driver keep 64 and 512 workers busy? Its seconds a trial, and the share of the workers' time that is lost.

`python -m benchmarks schedule` prints four tables.

1. Ray's part of the driver: real Tune runs of trials that only report, on fractions of a CPU. The CPU seconds of this
   process are fitted to a sum for each trial and for each report.
2. Schedules of many workers on a simulated clock. Whatever the driver itself does is done for real: the study is in an
   SQLite file, the searcher asks it, judges each report, records curves and checkpoints, and shows the best trial, in
   the order in which the events come. Each event takes the CPU seconds that it took, those of as many commits to the
   database as it made, each as long as one takes in the temporary folder, and Ray's part from the first table; so the
   figures hardly depend on what else the machine does. The driver does one thing at a time, and a worker waits until
   its report is dealt with, as with Tune. Trials only take time.
3. What the driver's own view of its database saves: the end of a trial and the next suggestion with so many running,
   and the same with Optuna's cache, in turns.
4. One of these schedules for real, with as many processes as fit, beside its simulation.
"""

import heapq
import itertools
import os
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from optuna.storages import RDBStorage, get_storage
from ray import tune

from benchmarks.printing import machine, spread, table
from benchmarks.sweep_driver import EPOCHS, REPORTS, Driver, report_of, result_of
from tune_jobs.execution.worker import CHECKPOINT_SECONDS
from tune_jobs.study.cached_storage import SoleWriterStorage

SPREAD = 0.2  # a trial's seconds differ by up to this part of them


@dataclass(frozen=True, kw_only=True)
class Options:
    """Simulate schedules of many workers."""

    workers: tuple[int, ...] = (64, 512)
    """Workers of the schedules."""
    seconds: tuple[float, ...] = (60.0, 600.0)
    """Seconds of a trial."""
    trials_per_worker: int = 3
    """Trials of a schedule, for each worker."""
    sampler: str = "tpe"
    """Optuna's sampler."""
    real_reports: int = 2000
    """Reports of a schedule that the driver deals with for real; each further one takes as long as one of them."""
    commit_seconds: float | None = None
    """Seconds of a commit to the database, instead of those measured in the temporary folder (TMPDIR)."""
    real_workers: tuple[int, ...] = (8, 16)
    """Worker processes of the real Tune runs."""
    real_trials: int = 64
    """Trials of each real Tune run behind Ray's part."""
    repeats: int = 3
    """Real Tune runs of each kind."""
    ray_seconds: tuple[float, float] | None = None
    """Ray's CPU seconds for a trial and for a report, instead of the real runs."""


@dataclass(frozen=True)
class Costs:
    """Seconds that are measured once and added to the driver's own."""

    trial: float
    """Ray's, for a trial."""
    report: float
    """Ray's, for a report."""
    commit: float
    """The disk's, for a commit to the database."""


# --- 2. the simulated clock -------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """What a worker does at present."""

    trial: Any = None
    step: int = 0
    seconds: float = 0.0  # of its trial
    saved: float = 0.0  # when it last sent a checkpoint


@dataclass
class Schedule:
    """What a simulated schedule came to."""

    driver: list[float] = field(default_factory=list)  # the driver's seconds for each trial
    own: dict[str, float] = field(default_factory=dict)  # CPU seconds of the driver without Ray, by what it did
    commits: int = 0
    lost: float = 0.0  # seconds in which a worker waited for the driver
    first: float = 0.0  # of these, before its first trial
    busy: float = 0.0  # seconds in which a worker worked
    end: float = 0.0  # simulated seconds

    @property
    def share(self) -> float:
        """The share of the workers' time that is lost."""
        return self.lost / (self.lost + self.busy)

    @property
    def steady_share(self) -> float:
        """The same once a worker has its first trial."""
        return (self.lost - self.first) / (self.lost - self.first + self.busy)


def simulate(workers: int, seconds: float, options: Options, costs: Costs, differ: float = SPREAD) -> Schedule:
    """One schedule, of trials whose seconds differ by up to a part `differ` of them."""
    rng = np.random.default_rng(0)
    found = Schedule()
    with tempfile.TemporaryDirectory() as place:
        driver = Driver(Path(place), workers * options.trials_per_worker, options.sampler)
        free = 0.0  # when the driver has time again
        spent: dict[str, float] = {}
        samples: dict[str, list[tuple[float, int]]] = {}
        queue = [(0.0, k, "ask", Worker()) for k in range(workers)]
        order = itertools.count(workers)

        def timed(what: str, act: Callable[[], Any]) -> Any:
            seen = samples.setdefault(what, [])
            if what.startswith("report") and len(seen) >= options.real_reports:
                cpu, commits = seen[rng.integers(len(seen))]
                found.own[what] += cpu
                found.commits += commits
                return None, cpu + commits * costs.commit
            start, before = time.process_time(), driver.commits
            result = act()
            took, commits = time.process_time() - start, driver.commits - before
            found.own[what] = found.own.get(what, 0.0) + took
            found.commits += commits
            seen.append((took, commits))
            return result, took + commits * costs.commit

        with driver.stage:
            while queue:
                now, _, what, worker = heapq.heappop(queue)
                trial = worker.trial
                if what == "ask":
                    started, took = timed("ask", driver.ask)
                    took += costs.trial
                    if started is None:
                        continue  # no work is left: not the driver's fault
                    worker.trial, worker.step = started, 0
                    worker.seconds = seconds * rng.uniform(1 - differ, 1 + differ)
                    spent[started.trial_id] = 0.0
                elif what == "report":
                    worker.step += 1
                    result, checkpoint = report_of(trial.config["trial"], worker.step, rng), None
                    if worker.step <= EPOCHS and (now - worker.saved >= CHECKPOINT_SECONDS or worker.step == EPOCHS):
                        checkpoint, worker.saved = driver.checkpoint(trial, worker.step), now
                    kind = "report" if checkpoint is None else "report with a checkpoint"
                    _, took = timed(kind, lambda t=trial, r=result, c=checkpoint: driver.report(t, r, c))
                    took += costs.report
                else:
                    result = result_of(trial.config["trial"], rng)
                    _, took = timed("end", lambda t=trial, r=result: (driver.report(t, r), driver.complete(t)))
                    took += 2 * costs.report
                done = max(now, free) + took
                free = done
                spent[worker.trial.trial_id] += took
                found.lost += done - now
                found.first += done - now if worker.trial.config["trial"] < workers and what == "ask" else 0.0
                found.end = done
                if what == "end":
                    found.driver.append(spent.pop(trial.trial_id))
                    heapq.heappush(queue, (done, next(order), "ask", worker))
                    continue
                if what == "ask":
                    worker.saved = done
                step = worker.seconds / REPORTS
                found.busy += step if worker.step < REPORTS else 0.0
                after = (done + step, "report") if worker.step < REPORTS else (done, "end")
                heapq.heappush(queue, (after[0], next(order), after[1], worker))
    return found


def schedules(options: Options, costs: Costs) -> Iterator[tuple[str, ...]]:
    """The rows of the second table."""
    for workers, seconds in itertools.product(options.workers, options.seconds):
        found = simulate(workers, seconds, options, costs)
        trials = len(found.driver)
        yield (
            f"{workers}",
            f"{seconds:.0f}",
            f"{trials}",
            spread(found.driver, 2),
            f"{sum(found.own.values()) / trials:.2f}",
            f"{found.commits / trials:.0f}",
            f"{sum(found.driver) / found.end:.0%}",
            f"{found.share:.1%}",
            f"{found.steady_share:.1%}",
        )


# --- 3. the driver's view of its database -----------------------------------------------------------------------------


def compare_storages(workers: int, options: Options) -> tuple[str, ...]:
    """A row of the third table."""
    seconds: dict[str, list[float]] = {"optuna": [], "own": []}
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        driver = Driver(Path(place), workers * options.trials_per_worker, options.sampler)
        with driver.stage:
            running = [driver.ask() for _ in range(workers)]
            for _ in range(options.repeats):
                for name, made in (("optuna", get_storage), ("own", SoleWriterStorage)):
                    driver.study._storage = made(RDBStorage(f"sqlite:///{Path(place) / 'study.db'}"))
                    driver.study.get_trials(deepcopy=False)  # all of them, once
                    for _ in range(2):
                        trial = running.pop(0)
                        driver.report(trial, result_of(trial.config["trial"], rng))
                        start = time.process_time()
                        driver.complete(trial)
                        running.append(driver.ask())
                        seconds[name].append(time.process_time() - start)
    ratios = [one / other for one, other in zip(seconds["optuna"], seconds["own"], strict=True)]
    return (f"{workers}", f"{len(ratios)}", *(spread(values, 3) for values in seconds.values()), spread(ratios, 1))


# --- 4. one schedule for real -----------------------------------------------------------------------------------------


def sleeping(seconds: float, reports: list[dict[str, Any]], last: dict[str, Any], saved: set[int]) -> Callable:
    """A trial that sleeps and reports. It is sent by value: its workers need neither this file nor torch."""

    def trainable(config: dict[str, Any]) -> None:
        started = time.time()
        for report in reports:
            time.sleep(seconds / len(reports))
            if report["step"] not in saved:
                tune.report(report)
                continue
            with tempfile.TemporaryDirectory() as folder:
                tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))
        tune.report({**last, "started": started, "ended": time.time(), "worker": os.getpid()})

    return trainable


def real_schedule(workers: int, options: Options, costs: Costs) -> tuple[str, ...]:
    """A row of the fourth table: a schedule under Tune, with so many worker processes, and its simulation."""
    seconds, rng = min(options.seconds), np.random.default_rng(0)
    trials = workers * options.trials_per_worker
    reports = [report_of(0, step + 1, rng) for step in range(REPORTS)]
    between = int(CHECKPOINT_SECONDS / (seconds / REPORTS)) + 1
    trainable = sleeping(seconds, reports, result_of(0, rng), {*range(between, EPOCHS, between), EPOCHS})
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as place:
            driver = Driver(Path(place), trials, options.sampler)
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"CPU": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=driver.searcher,
                    scheduler=driver.scheduler,
                    num_samples=-1,
                    max_concurrent_trials=workers,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
                ),
                run_config=tune.RunConfig(
                    name="sweep-1",
                    storage_path=str(Path(place) / "ray"),
                    verbose=0,
                    callbacks=driver.callbacks,
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                ),
            )
            start = time.process_time()
            with driver.stage:
                ended = [result.metrics for result in tuner.fit() if result.metrics and "worker" in result.metrics]
            spent = time.process_time() - start
    finally:
        ray.shutdown()
    if len(ended) != trials:
        raise RuntimeError(f"{len(ended)} of {trials} trials ended")
    lost = sum(one["ended"] - one["started"] - seconds for one in ended)
    by_worker = defaultdict(list)
    for one in sorted(ended, key=lambda one: one["started"]):
        by_worker[one["worker"]].append(one)
    for turns in by_worker.values():
        lost += sum(after["started"] - before["ended"] for before, after in itertools.pairwise(turns))
    simulated = simulate(workers, seconds, options, costs, differ=0.0)
    on_cpu = sum(simulated.own.values()) / trials + costs.trial + (REPORTS + 2) * costs.report
    return (
        f"{workers}",
        f"{seconds:.0f}",
        f"{trials}",
        f"{spent / trials:.3f}",
        f"{on_cpu:.3f}",
        f"{lost / (lost + trials * seconds):.1%}",
        f"{simulated.steady_share:.1%}",
    )


# --- 1. Ray's part ----------------------------------------------------------------------------------------------------


def reporting(reports: int) -> Callable:
    """A trial that only reports, sent by value."""

    def trainable(config: dict[str, Any]) -> None:
        for step in range(reports):
            tune.report({"step": step + 1, "steps": reports, "note": "a note", "loss": 0.5, "control_error": 0.1})

    return trainable


def ray_run(workers: int, trials: int, reports: int, folder: Path) -> float:
    """CPU seconds of this process for a real Tune run."""
    tuner = tune.Tuner(
        tune.with_resources(reporting(reports), {"CPU": 1}),
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers, reuse_actors=True),
        run_config=tune.RunConfig(name=f"run-{time.monotonic_ns()}", storage_path=str(folder), verbose=0),
    )
    start = time.process_time()
    results = tuner.fit()
    spent = time.process_time() - start
    if results.num_errors or len(results) != trials:
        raise RuntimeError(f"{results.num_errors} of {len(results)} trials failed")
    return spent


def ray_share(options: Options) -> tuple[str, float, float]:
    """The first table, and Ray's CPU seconds for a trial and for a report with the most workers."""
    few, many = 1, REPORTS
    rows, per_trial, per_report = [], 0.0, 0.0
    for workers in options.real_workers:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        trials_only, reports_only = [], []
        with tempfile.TemporaryDirectory() as folder:
            ray_run(workers, workers, few, Path(folder))  # the workers' processes start
            for _ in range(options.repeats):
                short = ray_run(workers, options.real_trials, few, Path(folder)) / options.real_trials
                long = ray_run(workers, options.real_trials, many, Path(folder)) / options.real_trials
                reports_only.append((long - short) / (many - few))
                trials_only.append(short - few * reports_only[-1])
        ray.shutdown()
        milliseconds = [[1e3 * value for value in values] for values in (trials_only, reports_only)]
        rows.append((f"{workers}", f"{options.real_trials}", *(spread(values, 1) for values in milliseconds)))
        per_trial, per_report = statistics.median(trials_only), statistics.median(reports_only)
    return table(["workers", "trials", "ms a trial", "ms a report"], rows), per_trial, per_report


def commit_seconds(count: int = 50) -> list[float]:
    """Seconds of each of `count` commits to an SQLite file on the disk of the temporary folder."""
    taken = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "x.db")) as connection,
    ):
        connection.execute("CREATE TABLE x (y)")
        for _ in range(count):
            connection.execute("INSERT INTO x VALUES (1)")
            start = time.perf_counter()
            connection.commit()
            taken.append(time.perf_counter() - start)
    return taken


def main(options: Options) -> None:
    """Print the tables."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    print(f"{machine('ray', 'optuna')}\n")
    if options.ray_seconds is None:
        text, *seconds = ray_share(options)
        print(f"Ray's part: CPU time of the driver, median [smallest, largest] of {options.repeats}.\n\n{text}\n")
    else:
        seconds = options.ray_seconds
    taken = [1e3 * value for value in ([options.commit_seconds] if options.commit_seconds else commit_seconds())]
    costs = Costs(*seconds, statistics.median(taken) / 1e3)
    print(
        f"Simulated schedules: {REPORTS} reports a trial, Ray's {1e3 * costs.trial:.1f} ms a trial and "
        f"{1e3 * costs.report:.2f} ms a report, {spread(taken, 1)} ms a commit; median [smallest, largest].\n"
    )
    header = ["workers", "s a trial", "trials", "driver's s a trial", "of it CPU without Ray", "commits a trial"]
    header += ["driver busy", "lost", "lost after the first trials began"]
    rows = []
    for row in schedules(options, costs):
        rows.append(row)
        print(f"  {' | '.join(row)}", flush=True)
    print(f"\n{table(header, rows)}\n", flush=True)
    print("The end of a trial and the next suggestion: CPU time of the driver, median [smallest, largest].\n")
    header = ["running trials", "n", "s with Optuna's cache", "s with the driver's own view", "ratio"]
    print(table(header, [compare_storages(workers, options) for workers in options.workers]) + "\n", flush=True)
    print(
        "Real schedules, trials that sleep, each as long, beside their simulation: CPU seconds of the driver, Ray's "
        "included; share of the workers' time lost after the first trials began.\n"
    )
    header = ["workers", "s a trial", "trials", "driver's CPU s a trial", "simulated", "lost", "simulated"]
    print(table(header, [real_schedule(workers, options, costs) for workers in options.real_workers]))
    print(f"\n{machine('ray', 'optuna')} at the end")
