"""The numbers in the frames of a sweep's report and in its figures."""

import json

import pandas as pd
import pytest

from tune_jobs.report.figures import ensemble_figure, weight_figure, weight_frame


@pytest.fixture
def trials():
    rows = [
        (4, "COMPLETE", 0.90, 1.0, 0.0, True, None),
        (0, "COMPLETE", 0.95, 0.003, 1.15, False, None),
        (1, "COMPLETE", 0.92, 3.0, 0.25, True, None),
        (2, "PRUNED", 0.99, 0.1, 0.1, True, 2),
        (3, "PRUNED", 0.80, 0.2, None, None, 1),
        (5, "PRUNED", None, 0.2, None, None, 0),
        (6, "FAIL", None, 0.2, None, None, None),
        (7, "COMPLETE", 0.92, 10.0, 0.2, True, None),
    ]
    columns = ["number", "state", "value", "c_end", "control_error", "feasible", "pruned_step"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(standard_error=0.01, c_start=0.1 * frame["c_end"], t_start=1.0, t_end=0.2)


def assert_fills_any_page(figure):
    assert figure.layout.width is None and figure.layout.autosize and figure.layout.height > 0
    assert len(figure.layout.title.text) <= 28
    json.loads(figure.to_json())


def test_weight_frame_sorts_trials_into_kinds_and_finds_the_best(trials):
    frame = weight_frame(trials)
    assert frame["number"].tolist() == [0, 1, 2, 3, 4, 7]
    kinds = ["uncontrolled", "controlled", "pruned", "pruned", "controlled", "controlled"]
    assert frame["kind"].tolist() == kinds
    # Neither the better uncontrolled nor the better pruned one, and of two equal ones the first.
    assert frame.loc[frame["best"], "number"].tolist() == [1]


@pytest.mark.parametrize("x", ["c_end", "c_start"])
def test_weight_figure_shows_every_valued_trial_once(trials, x):
    figure = weight_figure(weight_frame(trials, x), x)
    assert_fills_any_page(figure)
    assert figure.layout.xaxis.type == "log"
    for kind, numbers in {"controlled": [1, 4, 7], "uncontrolled": [0], "pruned": [2, 3], "best": [1]}.items():
        chosen = trials[trials["number"].isin(numbers)]
        (trace,) = [trace for trace in figure.data if trace.name == kind]
        assert sorted(zip(trace.x, trace.y, strict=True)) == sorted(zip(chosen[x], chosen["value"], strict=True))
        assert kind == "best" or (trace.error_y.array == 0.01).all()
    assert len({(trace.marker.symbol, trace.marker.color) for trace in figure.data}) == 4


def test_no_controlled_trial_means_no_ring_and_no_trial_an_empty_figure(trials):
    figure = weight_figure(weight_frame(trials[trials["feasible"].ne(True)]))
    assert "best" not in {trace.name for trace in figure.data}
    figure = weight_figure(weight_frame(trials.head(0)))
    assert len(figure.data) == 0
    assert_fills_any_page(figure)


def test_ensemble_figure_shows_each_result_in_its_row_with_its_error():
    rows = [("ensemble", 0.95, 0.944, 0.011), ("mean single member", 0.93, 0.92, 0.012)]
    figure = ensemble_figure(pd.DataFrame(rows, columns=["name", "validation", "test", "test_standard_error"]))
    assert_fills_any_page(figure)
    validation, test = figure.data[:2]
    assert validation.name == "validation" and test.name.startswith("test")
    assert test.x.tolist() == [0.944, 0.92] and validation.x.tolist() == [0.95, 0.93]
    assert test.error_x.array.tolist() == [0.011, 0.012]
    assert test.y.tolist() == validation.y.tolist() == [0, 1]
    low, high = figure.layout.yaxis.range
    assert low > 1 and high < 0  # the first result on top
    names = {note.y: note.text for note in figure.layout.annotations}
    assert names == {0: "ensemble: 0.944 ± 0.011", 1: "mean single member: 0.920 ± 0.012"}
    assert figure.layout.shapes[0].x0 == 0.944
    assert test.marker.color[0] not in test.marker.color[1:]
