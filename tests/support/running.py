"""A driver's work on a study in memory, on the Ray that has been started."""

import optuna

from edgenes.data.dataset import Dataset
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.resources import live_nodes
from tune_jobs.execution.run import Run
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.display import Progress
from tune_jobs.watch.metrics import Metrics


def run_of(config: SweepConfig, data: Dataset) -> Run:
    """The run of a configuration whose folder is there."""
    files, metrics = StudyFiles(config.folder), Metrics(config.folder.name, optuna.create_study())
    return Run(config.execution, data, Progress(), lambda: None, live_nodes(), files, metrics)
