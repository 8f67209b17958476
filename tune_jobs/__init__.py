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
    """Run a study of the annealing, or resume it; `data` by default what the configuration names.

    Returns its folder, the values of its result.json, and the ensemble. Raises DataError, ConfigError, StudyError with
    what to do, Interrupted if it was stopped.

    Example:
        >>> from tune_jobs import SweepConfig, run_sweep
        >>> config = SweepConfig.of(trials=4, candidates=6, out="runs/mine")
        >>> result = run_sweep(config)  # doctest: +SKIP
    """
    # Ray reads how it is silenced while it is imported.
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
