"""Learning curves for TensorBoard and MLflow, which a resumed study continues."""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgenes.errors import ConfigError
from tune_jobs.files.layout import MLFLOW, TENSORBOARD
from tune_jobs.messages import Report

_log = logging.getLogger(__name__)
PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow-skinny")}
"""By kind of log: the module that it needs, and the package of pip that has it."""
_CURVES = ("search", "sweep")
_RUN = "edgenes.run"


def check_loggers(kinds: Iterable[str]) -> None:
    """Raise ConfigError, before anything is run, if a log is wanted whose package is missing."""
    for kind in kinds:
        module, package = PACKAGES[kind]
        if find_spec(module) is None:
            raise ConfigError(
                f"--log {kind} needs the Python package {package}: pip install {package} "
                "(or edgenes-studio[watch], which brings both)."
            )


def tracking_uri(folder: Path) -> str:
    """Where MLflow keeps its runs: MLFLOW_TRACKING_URI, else a database in the study's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / MLFLOW / 'mlflow.db'}"


class Logs:
    """The logs of these kinds for one stage; only the search and the sweep have curves.

    A log that cannot be written ends with a warning: the study continues without it.
    """

    def __init__(self, kinds: Iterable[str], folder: Path, stage: str):
        makers = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
        self._loggers = {kind: makers[kind](folder, stage) for kind in kinds if stage in _CURVES}

    def started(self, trial: str, config: Mapping[str, Any]) -> None:
        """A trial began, or began again."""
        self._each("started", trial, config)

    def reported(self, trial: str, report: Report) -> None:
        """Log the numbers of a report that has a step."""
        if report.step is not None:
            numbers = {key: value for key, value in report.record().items() if _is_number(value)}
            self._each("reported", trial, numbers, report.step)

    def ended(self, trial: str, failed: bool) -> None:
        """A trial ended."""
        self._each("ended", trial, failed)

    def close(self) -> None:
        """The stage ended; some of its trials may have been interrupted."""
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for kind, logger in list(self._loggers.items()):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # any of a library's or server's: no log may end a study
                del self._loggers[kind]
                reason = str(error).strip().partition("\n")[0]
                _log.warning("--log %s ends here: %s: %s. The study continues.", kind, type(error).__name__, reason)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _TensorBoard:
    """A folder a trial under STUDY/tensorboard."""

    def __init__(self, folder: Path, stage: str):
        self._folder = folder / TENSORBOARD / stage
        self._writers: dict[str, Any] = {}

    def started(self, trial: str, config: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self.ended(trial)
        place = self._folder / trial.replace(" ", "-")
        # A file is named after the second it is begun in: one begun again in the same would replace it.
        suffix = f".{len(list(place.glob('*')))}"
        self._writers[trial] = SummaryWriter(str(place), flush_secs=2, filename_suffix=suffix)

    def reported(self, trial: str, numbers: Mapping[str, float], step: int) -> None:
        for key, value in numbers.items():
            self._writers[trial].add_scalar(key, value, step)

    def ended(self, trial: str, failed: bool = False) -> None:
        if trial in self._writers:
            self._writers.pop(trial).close()

    def close(self) -> None:
        for trial in list(self._writers):
            self.ended(trial)


class _MLflow:
    """One run a trial, which the next driver continues; a report is one transaction."""

    def __init__(self, folder: Path, stage: str):
        self._folder, self._stage = folder, stage
        self._runs: dict[str, Any] = {}

    @cached_property
    def _client(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would begin when MLflow is imported
        from mlflow import MlflowClient  # takes seconds

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        (self._folder / MLFLOW).mkdir(exist_ok=True)
        return MlflowClient(tracking_uri(self._folder))

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._folder.name)
        return found.experiment_id if found else self._client.create_experiment(self._folder.name)

    def started(self, trial: str, config: Mapping[str, Any]) -> None:
        run = f"{self._folder}|{self._stage}|{trial}"
        found = self._client.search_runs([self._experiment], f"tags.`{_RUN}` = '{run}'", max_results=1)
        if found:
            self._runs[trial] = found[0].info.run_id
            self._client.update_run(self._runs[trial], status="RUNNING")
            return
        tags = {"stage": self._stage, _RUN: run}
        self._runs[trial] = self._client.create_run(self._experiment, run_name=trial, tags=tags).info.run_id
        described = {key: value for key, value in config.items() if key in ("trial", "seed", "job")}
        for key, value in {**described, **config.get("params", {})}.items():
            self._client.log_param(self._runs[trial], key, value)

    def reported(self, trial: str, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in numbers.items()]
        self._client.log_batch(self._runs[trial], metrics=metrics)

    def ended(self, trial: str, failed: bool) -> None:
        self._client.set_terminated(self._runs[trial], "FAILED" if failed else "FINISHED")

    def close(self) -> None:
        pass
