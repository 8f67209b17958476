"""The rows of the report's final comparison, and Optuna's pictures of a study with several objectives."""

import pytest
from optuna.trial import create_trial

from tune_jobs.report.comparison import NAMES, comparison
from tune_jobs.report.sweep_report import study_figures
from tune_jobs.study.optuna_study import METRICS, open_study
from tune_jobs.study.space import search_space

PARAMETERS = METRICS["parameters"]


def scores(k):
    """Scores in which every number is another one."""
    names = ("accuracy", "nll", "ece", "standard_error")
    return {
        part: {name: k + i + j / 10 for j, name in enumerate(names)} for i, part in enumerate(("validation", "test"))
    }


def test_rivals_come_in_one_order_and_those_that_are_missing_are_left_out():
    rows = comparison({**scores(10), "baseline": {"best_member": scores(30), "mean_member": scores(20)}})
    assert [row["name"] for row in rows] == [NAMES[key] for key in ("ensemble", "mean_member", "best_member")]
    numbers = ("validation", "test", "test_nll", "test_ece", "test_standard_error")
    assert [[row[name] for name in numbers] for row in rows] == [
        [10, 11, 11.1, 11.2, 11.3],
        [20, 21, 21.1, 21.2, 21.3],
        [30, 31, 31.1, 31.2, 31.3],
    ]


@pytest.mark.parametrize("objectives", [("value", "parameters"), ("value", "control", "parameters")])
def test_the_pareto_front_has_an_axis_for_each_objective(objectives, tmp_path):
    study = open_study("s", tmp_path / "study.db", space=search_space("exact"), objectives=objectives)
    for value, other in ((0.5, 1e5), (0.6, 2e5), (0.4, 3e5)):
        study.add_trial(create_trial(values=[value, *[other] * (len(objectives) - 1)]))
    [figure] = study_figures(study)
    layout = figure.layout.scene if len(objectives) == 3 else figure.layout
    titles = [layout.xaxis.title.text, layout.yaxis.title.text]
    assert titles[0] == "accuracy" and titles[1] == ("control error" if len(objectives) == 3 else PARAMETERS)
    assert len(objectives) == 2 or layout.zaxis.title.text == PARAMETERS
    assert {len(trace.x) for trace in figure.data if trace.x} == {1, 2}, "two trials of three are best"
