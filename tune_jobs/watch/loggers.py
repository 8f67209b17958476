"""TensorBoard and MLflow, by Ray's own callbacks: written in the study's folder, where a resumed study goes on."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION

from edgenes.errors import ConfigError
from tune_jobs.config import SweepConfig
from tune_jobs.searcher import NOT_METRICS

_log = logging.getLogger(__name__)

PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow-skinny")}
"""By kind of log: the module that it needs, and the package of pip that has it."""
_RUN = "edgenes.run"
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


def tracking_uri(folder: Path) -> str:
    """Where MLflow keeps its runs: MLFLOW_TRACKING_URI, else a database in the study's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"


def loggers(config: SweepConfig, stage: str, name_of: Callable[[Trial], str]) -> list[tune.Callback]:
    """The callbacks of one stage that `config.log` asks for."""
    makers = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
    return [_Lenient(kind, makers[kind](config, stage, name_of)) for kind in config.log]


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
        if "step" in result:
            numbers = {key: value for key, value in result.items() if _is_number(key, value)}
            # A resumed trial's reports are counted anew by Ray; its steps are not.
            numbers[TRAINING_ITERATION] = result["step"]
            self._pass("on_trial_result", iteration, trials, trial, numbers, **info)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        failed = (trial.last_result or {}).get("status") == "failed"  # to Tune it ended well: it reported so
        self._pass("on_trial_error" if failed else "on_trial_complete", iteration, trials, trial, **info)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass("on_trial_error", iteration, trials, trial, **info)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._pass("on_experiment_end", trials, **info)


def _is_number(key: str, value: Any) -> bool:
    return key not in NOT_METRICS and isinstance(value, int | float) and not isinstance(value, bool)


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


class _MLflow(MLflowLoggerCallback):
    """Ray's callback, with one run a trial, which the next driver goes on with; a report is one transaction."""

    def __init__(self, config: SweepConfig, stage: str, name_of: Callable[[Trial], str]):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._config, self._stage, self._name_of = config, stage, name_of
        super().__init__(tracking_uri(config.folder), experiment_name=config.folder.name, tags={"stage": stage})

    def setup(self, *arguments: Any, **info: Any) -> None:
        (self._config.folder / "mlflow").mkdir(exist_ok=True)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        super().setup(*arguments, **info)

    def log_trial_start(self, trial: Trial) -> None:
        client, experiment = self.mlflow_util._get_client(), self.mlflow_util.experiment_id
        name = self._name_of(trial)
        run = f"{self._config.folder}|{self._stage}|{name}"
        found = client.search_runs([experiment], f"tags.`{_RUN}` = '{run}'", max_results=1)
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            self._trial_runs[trial] = found[0].info.run_id
            return
        made = client.create_run(experiment, run_name=name, tags={**self.tags, _RUN: run})
        self._trial_runs[trial] = made.info.run_id
        params = _plain_params(trial.config)
        self.mlflow_util.log_params(params, run_id=made.info.run_id)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), result.pop(TRAINING_ITERATION)
        metrics = [Metric(key, float(value), now, step) for key, value in result.items()]
        self.mlflow_util._get_client().log_batch(self._trial_runs[trial], metrics=metrics)


def _plain_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters; where it began and how often is no parameter."""
    rest = {key: value for key, value in config.items() if key in ("trial", "seed", "job")}
    return {**rest, **config.get("params", {})}
