"""TensorBoard and MLflow, by Ray's own callbacks: written in the study's folder, where a resumed study goes on."""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION

from edgenes.errors import ConfigError
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.messages import Report, Status

_log = logging.getLogger(__name__)
PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow-skinny")}
"""By kind of log: the module that it needs, and the package of pip that has it."""
_CURVES = ("search", "sweep")
_FLUSH_SECONDS = 2  # Ray's call to flush does not wait for what is still in the writer's queue


def check_loggers(config: SweepConfig) -> None:
    """Raise ConfigError, before anything is run, if a log is asked for whose package is missing."""
    for kind in config.log:
        module, package = PACKAGES[kind]
        if find_spec(module) is None:
            raise ConfigError(
                f"--log {kind} needs the Python package {package}: pip install {package} "
                "(or edgenes-studio[watch], which brings both)."
            )


def loggers(config: SweepConfig, stage: str, name_of: Callable[[Trial], str]) -> list[tune.Callback]:
    """The callbacks of one stage that `config.log` asks for; only the search and the sweep have curves to log."""
    if stage not in _CURVES:
        return []
    makers = {"tensorboard": _TensorBoard, "mlflow": _mlflow}
    return [_Lenient(kind, makers[kind](config, stage, name_of)) for kind in config.log]


def _mlflow(*arguments: Any) -> LoggerCallback:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would begin when MLflow is imported
    from tune_jobs.watch.mlflow_runs import MLflowRuns  # takes seconds

    return MLflowRuns(*arguments)


class _Lenient(tune.Callback):
    """A logger that stops logging, and says so once, where it would have stopped the study."""

    def __init__(self, kind: str, logger: LoggerCallback):
        self._kind, self._logger = kind, logger

    def __getstate__(self) -> dict[str, Any]:
        return {"_kind": self._kind, "_logger": None}  # Ray pickles it; open files and connections stay here

    def _pass(self, hook: str, *arguments: Any, **info: Any) -> None:
        if self._logger is None:
            return
        try:
            getattr(self._logger, hook)(*arguments, **info)
        except Exception as error:  # a log is worth less than what it tells of
            self._logger = None
            reason = str(error).strip().partition("\n")[0]
            _log.warning("--log %s ends here: %s: %s. The study goes on.", self._kind, type(error).__name__, reason)

    def setup(self, *arguments: Any, **info: Any) -> None:
        self._pass("setup", *arguments, **info)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass("on_trial_start", iteration, trials, trial, **info)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = Report.from_dict(result)
        if report.step is not None:
            numbers = {key: value for key, value in report.record().items() if _is_number(value)}
            # A resumed trial's reports are counted anew by Ray; its steps are not.
            numbers[TRAINING_ITERATION] = report.step
            self._pass("on_trial_result", iteration, trials, trial, numbers, **info)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        failed = Report.from_dict(trial.last_result or {}).status == Status.FAILED  # to Tune it ended well
        self._pass("on_trial_error" if failed else "on_trial_complete", iteration, trials, trial, **info)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass("on_trial_error", iteration, trials, trial, **info)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._pass("on_experiment_end", trials, **info)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _TensorBoard(TBXLoggerCallback):
    """Ray's callback, with a folder a trial under STUDY/tensorboard instead of Ray's, which goes with the stage."""

    def __init__(self, config: SweepConfig, stage: str, name_of: Callable[[Trial], str]):
        super().__init__()
        self._folder, self._name_of = config.folder / "tensorboard" / stage, name_of

    def log_trial_start(self, trial: Trial) -> None:
        if trial in self._trial_writer:
            self._trial_writer[trial].close()
        place = self._folder / self._name_of(trial).replace(" ", "-")
        # A file is named after the second it is begun in: one begun again in the same would replace it.
        suffix = f".{len(list(place.glob('*')))}"
        self._trial_writer[trial] = self._summary_writer_cls(
            str(place), flush_secs=_FLUSH_SECONDS, filename_suffix=suffix
        )
        self._trial_result[trial] = {}

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        for writer in self._trial_writer.values():  # of trials that were interrupted
            writer.close()
