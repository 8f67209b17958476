"""What the experiments of the paper have in common; a study takes all of it from here."""

from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import accuracy_of, jobs_by_seed, result_frame, trained
from tune_jobs.experiments.tables import against_zero, comparison_table, slope_frame, verdicts
from tune_jobs.report.findings import Findings, Section

__all__ = [
    "ExperimentConfig",
    "Findings",
    "Section",
    "accuracy_of",
    "against_zero",
    "comparison_table",
    "experiment_main",
    "jobs_by_seed",
    "result_frame",
    "slope_frame",
    "trained",
    "verdicts",
]
