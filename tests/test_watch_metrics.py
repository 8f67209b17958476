"""Ray's metrics of a study whose name Ray's tags cannot hold as it is."""

import optuna

from tune_jobs.watch.metrics import Metrics


def test_a_study_of_any_name_has_metrics():
    """Ray's tags are ASCII: it raised, and the sweep with it."""
    metrics = Metrics('ü\n"', optuna.create_study())
    metrics.started("search", "trial 0")
    metrics.reported("search", "trial 0", {"loss": 1.0})
    metrics.ended("search", "trial 0", "complete")
