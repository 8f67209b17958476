"""One driver's work on a study: the Ray cluster it joins, and how a stage becomes a Ray Tune run."""

import dataclasses
import functools
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air._internal import usage

from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError, WriteError
from edgenes.methods.budget import Setting
from edgenes.registry import add_entries, own_entries
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.execution.footprint import Footprint, measure, when_memory_is_free
from tune_jobs.execution.resources import check_fits, slots
from tune_jobs.files.layout import RAY
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.messages import Report, Status
from tune_jobs.progress.display import Progress
from tune_jobs.watch.loggers import Logs
from tune_jobs.watch.metrics import Metrics
from tune_jobs.watch.names import named
from tune_jobs.watch.stage_callback import StageCallback

# Ray's usage statistics, which are off, import MLflow and W&B where they are installed: 2.8 s of CPU a driver.
usage.tag_callbacks = lambda callbacks: False


@dataclasses.dataclass
class Run:
    """One driver's work on a study: what its stages need."""

    execution: ExecutionOptions
    data: Dataset
    progress: Progress
    check: Callable[[], None]
    nodes: list[dict[str, float]]
    files: StudyFiles
    metrics: Metrics
    footprint: Footprint | None = None

    @property
    def folder(self) -> Path:
        return self.files.folder

    @property
    def gpus(self) -> float:
        """GPUs of a trial."""
        asked = self.execution.gpus_per_trial
        if asked == "auto" and self.footprint is not None:
            return self.footprint.share
        if asked in (None, "auto"):
            there = any(node.get("GPU", 0) >= 1 for node in self.nodes)
            return 1.0 if there and self.execution.device != "cpu" else 0.0
        return float(asked)

    @property
    def asked(self) -> dict[str, float]:
        """What a trial asks Ray for; the node's memory only where it was measured."""
        measured = {} if self.footprint is None else {"memory": self.footprint.memory}
        return {"CPU": self.execution.cpus_per_trial, "GPU": self.gpus, **measured}

    @property
    def device(self) -> str:
        """Where trials compute."""
        if self.execution.device != "auto":
            return self.execution.device
        return "cuda" if self.gpus > 0 else "cpu"

    def check_resources(self) -> None:
        """Raise ConfigError where a trial asks for more than any node has: it would wait for ever."""
        check_fits(self.nodes, self.asked)
        if self.device == "cuda" and self.gpus == 0:
            raise ConfigError(
                "--device cuda needs GPUs, and the cluster has none or --gpus-per-trial is 0: leave --device out, "
                "or raise --gpus-per-trial."
            )

    def measure(self, setting: Setting, supernet: bool = True) -> None:
        """Measure a trial's memory, where --gpus-per-trial is auto: what it asks for follows."""
        if self.execution.gpus_per_trial != "auto":
            return
        self.progress.say("Measuring the memory of a trial.")
        self.footprint = measure(setting, self.data_ref, self.execution.cpus_per_trial, supernet)
        self.check_resources()
        card = f"{self.footprint.device / 2**30:.1f} GiB of a GPU's {self.footprint.card / 2**30:.0f} GiB, and "
        self.progress.say(
            f"A trial takes {card if self.footprint.card else ''}{self.footprint.host / 2**30:.1f} GiB of memory: "
            f"{self.slots} at once."
        )

    @cached_property
    def data_ref(self) -> ray.ObjectRef:
        """The data without T in Ray's object store: once a node, whatever number of workers and stages read it."""
        return ray.put(self.data.without_test())

    @property
    def slots(self) -> int:
        """Trials at once: as many as fit, at most --max-concurrent."""
        return min(slots(self.nodes, self.asked), self.execution.max_concurrent or 10**6)

    def tune(
        self,
        stage: str,
        trainable: Callable,
        space: dict[str, Any],
        name_of: Callable[[Any], str],
        parameters: dict[str, Any],
        callbacks: list[tune.Callback] | None = None,
        **options: Any,
    ) -> list[Report]:
        """One Ray Tune run under `ray/`, a folder of its own a driver; returns each trial's last report."""
        self.check()
        shared, reused = self.files.shared, self.gpus == 0
        there = shared.entries(RAY)
        name = next(f"{stage}-{k}" for k in itertools.count(1) if f"{RAY}/{stage}-{k}" not in there)
        if self.gpus > 0:
            needed = 0 if self.footprint is None else self.footprint.device
            trainable = when_memory_is_free(trainable, self.gpus, needed)
        trainable = tune.with_parameters(with_own_entries(trainable), **parameters, own=own_entries())
        trainable = tune.with_resources(trainable, self.asked)
        trainable = named(trainable, self.folder.name, stage, name_of, reused)
        logs = Logs(self.execution.log, self.folder, stage)
        watching = StageCallback(self.progress, self.metrics, logs, stage, name_of, describe)
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                reuse_actors=reused,
                trial_name_creator=name_of,
                trial_dirname_creator=lambda trial: f"{name_of(trial)}-{trial.trial_id}".replace(" ", "-"),
                max_concurrent_trials=self.slots,
                **options,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=shared.path(RAY),
                storage_filesystem=None if shared.local else shared.filesystem,
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # that of a notebook clears the cell
                callbacks=[*(callbacks or []), watching],
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
        with no_handler_left():
            outcomes = [_outcome(result) for result in tuner.fit()]  # type: ignore[attr-defined]
        if "search_alg" not in options:  # a searcher has recorded those of its trials, and said them
            for warning in dict.fromkeys(text for outcome in outcomes for text in outcome.warnings):
                self.progress.say(warning)
        return outcomes

    def clean(self, stage: str) -> None:
        """Remove Ray's files of a finished stage: what the study needs is elsewhere."""
        shared = self.files.shared
        with suppress(WriteError):  # what is left costs space and no more
            for name in shared.entries(RAY):
                if name.startswith(f"{RAY}/{stage}-"):
                    shared.remove(name)


def with_own_entries(trainable: Callable) -> Callable:
    """The trainable in a worker that knows what the user has registered: operations, selection methods, baselines."""

    @functools.wraps(trainable)
    def extended(config: dict[str, Any], own: dict[str, dict[str, Any]], **parameters: Any) -> None:
        add_entries(own)
        trainable(config, **parameters)

    return extended


def describe(config: dict[str, Any]) -> str:
    params = config.get("params")
    return f"c {params['c_start']:.3g} to {params['c_end']:.3g}, {params['pivots']} pivots" if params else ""


def _outcome(result: tune.Result) -> Report:
    """A trial's last report; one whose worker died too often has failed, and is not merely interrupted."""
    outcome = Report.from_dict(result.metrics or {})
    if result.error is not None and outcome.status is None:
        reason = "its worker died more often than allowed; out of memory?"
        return dataclasses.replace(outcome, status=Status.FAILED, reason=reason)
    return outcome


@contextmanager
def no_handler_left() -> Iterator[None]:
    """Take away the handler of SIGINT that Tune leaves behind: it would swallow the next Ctrl-C after its run.

    In another thread than the main one there are no handlers, and Tune sets none.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
