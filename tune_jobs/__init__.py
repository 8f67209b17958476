"""Hyperparameter studies of EdgeNES on Optuna and Ray Tune.

>>> from tune_jobs import SweepConfig, run_sweep
>>> result = run_sweep(SweepConfig(trials=12))  # doctest: +SKIP
>>> result.ensemble.predict(images)  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgenes.data.dataset import Dataset
    from tune_jobs.config.experiment import ExperimentConfig
    from tune_jobs.config.sweep import SweepConfig
    from tune_jobs.experiments.experiment import run_experiment
    from tune_jobs.progress.display import Progress
    from tune_jobs.stages.pipeline import SweepResult
    from tune_jobs.study.saved import open_saved

__all__ = ["ExperimentConfig", "SweepConfig", "open_saved", "run_experiment", "run_sweep"]
_HOMES = {
    "ExperimentConfig": "tune_jobs.config.experiment",
    "SweepConfig": "tune_jobs.config.sweep",
    "open_saved": "tune_jobs.study.saved",
    "run_experiment": "tune_jobs.experiments.experiment",
}


def run_sweep(
    config: "SweepConfig", data: "Dataset | None" = None, progress: "Progress | None" = None
) -> "SweepResult":
    """As `tune_jobs.stages.pipeline.run_sweep`, with Ray silenced, which reads how while it is imported."""
    from tune_jobs.execution.quiet import quiet_ray

    quiet_ray(local=not (config.execution.address or os.environ.get("RAY_ADDRESS")))
    from tune_jobs.stages import pipeline

    return pipeline.run_sweep(config, data, progress)


def __getattr__(name: str) -> Any:
    """Import a public name when it is used: the command line answers --help without torch, Ray and Optuna."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tune_jobs' has no attribute {name!r}")
