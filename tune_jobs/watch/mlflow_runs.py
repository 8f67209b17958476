"""MLflow's runs of a study, by Ray's own callback: in the study's folder, or on the server that MLflow is set to."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities import Metric
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.result import TRAINING_ITERATION

from tune_jobs.config.sweep import SweepConfig
from tune_jobs.watch.names import tracking_uri

_RUN = "edgenes.run"


class MLflowRuns(MLflowLoggerCallback):
    """Ray's callback, with one run a trial, which the next driver goes on with; a report is one transaction."""

    def __init__(self, config: SweepConfig, stage: str, name_of: Callable[[Trial], str]):
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
        now, step = int(time.time() * 1000), result.pop(TRAINING_ITERATION)
        metrics = [Metric(key, float(value), now, step) for key, value in result.items()]
        self.mlflow_util._get_client().log_batch(self._trial_runs[trial], metrics=metrics)


def _plain_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters; where it began and how often is no parameter."""
    rest = {key: value for key, value in config.items() if key in ("trial", "seed", "job")}
    return {**rest, **config.get("params", {})}
