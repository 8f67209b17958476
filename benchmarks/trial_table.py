"""A measured table of trials: the study's own trial, run at points spread evenly over its search space.

`python -m benchmarks trial_table --out FOLDER` runs what is not in FOLDER yet, one file a measurement, so it goes on
where it was stopped; several processes may work on one folder. The measurements are ordered so that every prefix of
them is a table.

Four kinds of measurement:

- `row`: a trial with all its steps, and its candidates retrained from a second seed where its control error is
  allowed, so that what a sampler sees and what it is scored by are not the same draw. Row 0 is the defaults.
- `default`: a trial at the default parameters with a seed of its own: what trials differ by when nothing is changed.
- `control`: the hypernetwork alone, with the `gumbel` estimator, at the parameters and seed of a row or a default.
- `retraining`: a candidate of a row, retrained for several numbers of epochs.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from edgenes.checkpoint import read_json, write_json
from edgenes.data.dataset import Dataset
from edgenes.data.loading import load_data
from edgenes.errors import DataError, DivergedError
from edgenes.metrics import accuracy, nll
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import CONTROL_LIMIT
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.environment import environment
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.optuna_study import trial_seed
from tune_jobs.study.space import search_space, with_derived
from tune_jobs.study.spread import parameters

EPOCHS = (1, 2, 8, 15, 4)
"""Epochs of the short retrainings that are ranked; those of the study come from its store."""
DEFAULTS = 1000
"""Added to the index of a trial at the defaults, so that its seed is no row's."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a table of trials."""

    out: Path
    """Folder of the measurements."""
    rows: int = 200
    """Rows of the table."""
    smoke_test: bool = False
    """The budgets of the study's own smoke test."""


@dataclass(frozen=True)
class Job:
    """One measurement: its kind and its place among those of that kind."""

    kind: str
    index: int

    @property
    def name(self) -> str:
        """The stem of its file."""
        return f"{self.kind}-{self.index:04d}"


def jobs(rows: int) -> Iterator[Job]:
    """The measurements in the order in which they are made: some of the other kinds between the rows."""
    for row in range(rows):
        yield Job("row", row)
        if row % 5 == 1:
            yield Job("retraining", row)
        if row % 5 == 2:
            yield Job("control", row)
        if row % 16 == 3:
            yield Job("default", row)
            yield Job("control", DEFAULTS + row)


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    settings: TrialSettings
    data: Dataset
    points: list[dict[str, Any]]

    def measure(self, job: Job) -> dict[str, Any]:
        """Plain values of one measurement."""
        config = self.settings.config
        if job.kind == "retraining":
            return self._retraining(job.index)
        at_default = job.kind == "default" or job.index >= DEFAULTS
        params = self.points[0 if at_default else job.index]
        seed = trial_seed(config.seed, job.index + (DEFAULTS if job.kind == "default" else 0))
        if job.kind == "control":
            return {"params": params, "seed": seed, **self._control({**params, "estimator": "gumbel"}, seed)}
        return {"params": params, "seed": seed, **self._trial(job, params, seed)}

    def _trial(self, job: Job, params: dict[str, Any], seed: int) -> dict[str, Any]:
        """A trial as the study runs it; `b` is the same hypernetwork's with candidates of another training seed."""
        clock, last = Clock(), {}

        def report(metrics: dict[str, Any], state: dict[str, Any] | None) -> None:
            clock(metrics)
            if state is not None:
                last["state"] = state

        try:
            a = run_trial(self.settings, self.data, job.index, seed, with_derived(params), report)
        except DivergedError as error:
            return {"status": "failed", "reason": str(error), **clock.steps()}
        found = {**outcome(a), **clock.steps()}
        if job.kind == "row" and a["status"] == "complete" and a["control_error"] <= CONTROL_LIMIT:
            other = replace(self.settings, config=replace(self.settings.config, seed=self.settings.config.seed + 1))
            clock = Clock()
            b = run_trial(other, self.data, job.index, seed, with_derived(params), clock, last["state"])
            found["b"] = {**outcome(b), **clock.steps()}
        return found

    def _control(self, params: dict[str, Any], seed: int) -> dict[str, Any]:
        config, clock = self.settings.config, Clock()
        training = config.hypernetwork_config(with_derived(params), seed, "cpu")
        try:
            train_hypernetwork(
                training, self.data, self.settings.optimal, report=lambda epoch, metrics, state: clock(metrics)
            )
        except DivergedError as error:
            return {"status": "failed", "reason": str(error), **clock.steps()}
        return {"status": "complete", **clock.steps()}

    def _retraining(self, row: int) -> dict[str, Any]:
        """Candidate (row // 5) mod n of a row: (epochs, repeat) of which the last, the full one, has another seed."""
        config, store = self.settings.config, self.settings.store
        trial = read_json(self.settings.folder / f"{Job('row', row).name}.json")
        candidates = trial.get("candidates") or []
        if not candidates:
            return {"status": "failed", "reason": "the row has no candidates", "runs": []}
        genotype = Genotype.from_dict(candidates[row // 5 % len(candidates)]["genotype"])
        runs = []
        for epochs, repeat in [*((n, 0) for n in EPOCHS), (config.final_epochs, 0), (config.final_epochs, 1)]:
            start = time.thread_time()
            retrained = store.retrained(config.training_config(epochs, repeat, "cpu"), self.data, genotype)
            labels = self.data.validation.labels
            run = {"epochs": epochs, "repeat": repeat, "accuracy": accuracy(retrained.probabilities, labels)}
            run |= {"nll": nll(retrained.probabilities, labels)}
            runs.append(run | {"seconds": None if retrained.cached else round(time.thread_time() - start, 3)})
        return {"status": "complete", "genotype": genotype.to_dict(), "digest": genotype.digest, "runs": runs}


class Clock:
    """Receives the reports of a trial, and notes the CPU seconds of this thread between them."""

    def __init__(self):
        self._last = time.thread_time()
        self._epochs: list[dict[str, Any]] = []
        self._candidates: list[dict[str, Any]] = []

    def __call__(self, metrics: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        now = time.thread_time()
        seconds, self._last = round(now - self._last, 3), now
        if metrics.get("stage") == "candidates":
            # What came from the store was trained by an earlier measurement, which has its seconds.
            trained = "images_per_second" in metrics
            self._candidates.append({"intermediate": metrics["intermediate"], "seconds": seconds if trained else None})
        else:
            names = ("loss", "architecture_loss", "penalty", "control_error")
            self._epochs.append({"seconds": seconds, **{name: metrics[name] for name in names}})

    def steps(self) -> dict[str, Any]:
        """All steps so far."""
        return {"epochs": self._epochs, "retrained": self._candidates}


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What the study would store of a trial, its control curve and clock aside."""
    kept = ("standard_error", "mean_accuracy", "nll", "pool_size", "candidates")
    found = {name: result.get(name) for name in ("status", "reason", "value", "control_error")}
    return found | {name: result["attributes"].get(name) for name in kept}


def prepare(options: Options) -> Bench:
    """Data, optimal genotype and points; the genotype is searched once and kept in the folder."""
    config = SweepConfig(smoke_test=options.smoke_test)
    data = load_data(config.dataset, seed=config.seed).without_test()
    folder = options.out.absolute()
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    path = folder / "table.json"
    with FileLock(folder / "table.lock"):
        if not path.exists():
            optimal = search_genotype(config.search_config("cpu"), data).genotype
            about = {"config": config.to_dict(), "optimal": optimal.to_dict(), "data": data.digest}
            write_json(path, {**about, "environment": environment(), "threads": torch.get_num_threads()})
    about = read_json(path)
    if about["config"] != config.to_dict() or about["data"] != data.digest:
        raise DataError(f"{folder} holds a table of another configuration: give --out another folder.")
    settings = TrialSettings(config, folder, Genotype.from_dict(about["optimal"]), "cpu")
    return Bench(settings, data, parameters(options.rows, search_space(config.estimator), config.seed))


def build(bench: Bench, rows: int) -> None:
    """Make all measurements that are missing and that no other process is making."""
    folder = bench.settings.folder
    for job in [*jobs(rows), *jobs(rows)]:  # the second time, what waited for another process's row
        path, row = folder / f"{job.name}.json", folder / f"{Job('row', job.index).name}.json"
        if job.kind == "retraining" and not row.exists():
            continue
        try:
            with FileLock(folder / f"{job.name}.lock", timeout=0):
                if not path.exists():
                    start = time.monotonic()
                    write_json(path, bench.measure(job))
                    print(f"{job.name}: {time.monotonic() - start:.0f} s", flush=True)
        except Timeout:
            continue


def main(options: Options) -> None:
    """Make the measurements."""
    torch.set_num_threads(1)
    build(prepare(options), options.rows)
