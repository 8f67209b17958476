"""Learning curves and the result for TensorBoard, MLflow and W&B, which a resumed study continues."""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgenes.errors import ConfigError
from edgenes.parsing import reason
from tune_jobs.files.layout import MLFLOW, TENSORBOARD, WANDB
from tune_jobs.messages import Report

_log = logging.getLogger(__name__)
PACKAGES = {
    "tensorboard": ("tensorboardX", "tensorboardX"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "wandb": ("wandb", "wandb"),
}
"""By kind of log: the module that it needs, and the package of pip that has it."""
_CURVES = ("search", "sweep")
_RESULT = "result"
_RUN = "edgenes.run"


def check_loggers(kinds: Iterable[str]) -> None:
    """Raise ConfigError, before anything is run, if a log is wanted whose package is missing."""
    for kind in kinds:
        module, package = PACKAGES[kind]
        if find_spec(module) is None:
            raise ConfigError(
                f"--log {kind} needs the Python package {package}: pip install {package} "
                "(or edgenes-studio[watch], which brings all three)."
            )


def tracking_uri(folder: Path) -> str:
    """Where MLflow keeps its runs: MLFLOW_TRACKING_URI, else a database in the study's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / MLFLOW / 'mlflow.db'}"


class Logs:
    """The logs of these kinds for one stage; only the search, the sweep and the result have any.

    A log that cannot be written ends with a warning: the study continues without it.
    """

    def __init__(self, kinds: Iterable[str], folder: Path, stage: str):
        makers = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
        self._loggers = {kind: makers[kind](folder, stage) for kind in kinds if stage in (*_CURVES, _RESULT)}

    def started(self, trial: str, config: Mapping[str, Any]) -> None:
        """A trial began, or began again."""
        self._each("started", trial, config)

    def reported(self, trial: str, report: Report) -> None:
        """Log the numbers of a report that has a step."""
        if report.step is not None:
            self.numbers(trial, report.record(), report.step)

    def numbers(self, trial: str, values: Mapping[str, Any], step: int) -> None:
        """Log what is a number among `values`."""
        self._each("reported", trial, {key: value for key, value in values.items() if _is_number(value)}, step)

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
                fault = f"{type(error).__name__}: {reason(error)}"
                _log.warning("--log %s ends here: %s. The study continues.", kind, fault)


def log_result(kinds: Iterable[str], folder: Path, result: Mapping[str, Any]) -> None:
    """Log the final ensemble's scores, against the number of trials: a run beside those of the trials."""
    logs, name = Logs(kinds, folder, _RESULT), "final ensemble"
    scores = {f"{part}/{score}": value for part in ("validation", "test") for score, value in result[part].items()}
    logs.started(name, {})
    logs.numbers(name, scores | {"control_error": result["control_error"]}, result["trials"])
    logs.ended(name, failed=False)
    logs.close()


def _parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the trial of this configuration from others."""
    described = {key: value for key, value in config.items() if key in ("trial", "seed", "job")}
    return {**described, **config.get("params", {})}


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
        (self._folder / MLFLOW).mkdir(exist_ok=True)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would begin when MLflow is imported
        from mlflow import MlflowClient  # takes seconds

        logging.getLogger("mlflow").setLevel(logging.WARNING)
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
        for key, value in _parameters(config).items():
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


class _Wandb:
    """One run a trial, which the next driver continues.

    Ray's own callback would give a resumed trial a new run, and keep two processes a trial.
    """

    def __init__(self, folder: Path, stage: str):
        self._folder, self._stage = folder, stage
        self._runs: dict[str, Any] = {}

    @cached_property
    def _wandb(self) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # takes seconds

        return wandb

    @cached_property
    def _mode(self) -> str:
        """WANDB_MODE, else online where W&B knows the user and answers."""
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        try:
            return "online" if self._wandb.login(prompt=False) else "offline"
        except self._wandb.Error as error:
            _log.warning("--log wandb is offline, in %s: %s", self._folder / WANDB, reason(error))
            return "offline"

    def started(self, trial: str, config: Mapping[str, Any]) -> None:
        self.ended(trial)
        self._runs[trial] = self._wandb.init(
            mode=self._mode,
            dir=self._folder,
            project=os.environ.get("WANDB_PROJECT") or self._folder.name,
            group=self._stage,
            name=trial,
            id=hashlib.sha256(f"{self._folder}|{self._stage}|{trial}".encode()).hexdigest()[:16],
            resume="allow",
            reinit="create_new",  # trials run beside each other
            config=_parameters(config),
            settings=self._wandb.Settings(console="off", symlink=False, disable_git=True, x_disable_stats=True),
        )
        # W&B links its own log, out of the study's folder: such a folder is not opened again.
        for path in (self._folder / WANDB).glob("*/logs/*"):
            if path.is_symlink():
                path.unlink()

    def reported(self, trial: str, numbers: Mapping[str, float], step: int) -> None:
        self._runs[trial].log(dict(numbers), step=step)

    def ended(self, trial: str, failed: bool = False) -> None:
        if trial in self._runs:
            self._runs.pop(trial).finish(exit_code=int(failed))

    def close(self) -> None:
        for trial in list(self._runs):
            self.ended(trial)
