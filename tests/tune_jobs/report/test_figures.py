"""The numbers in the frames and in the figures; and for cells, that nothing in the drawing overlaps."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from edgenes.nn.operations import OPERATIONS
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.report.cell_drawing import OPERATION_NAMES, cell_figure, cell_frame, layout_cell
from tune_jobs.report.figures import (
    control_error,
    control_figure,
    control_frame,
    ensemble_figure,
    members_frame,
    weight_figure,
    weight_frame,
)


def trials_frame():
    rows = [
        # number, state, value, standard_error, c_end, control_error, feasible, pruned_step
        (4, "COMPLETE", 0.90, 0.01, 1.0, 0.0, True, None),
        (0, "COMPLETE", 0.95, 0.01, 0.003, 1.15, False, None),
        (1, "COMPLETE", 0.92, 0.01, 3.0, 0.25, True, None),
        (2, "PRUNED", 0.99, 0.01, 0.1, 0.1, True, 2),
        (3, "PRUNED", 0.80, 0.01, 0.2, None, None, 1),
        (5, "PRUNED", None, None, 0.2, None, None, 0),
        (6, "FAIL", None, None, 0.2, None, None, None),
        (7, "COMPLETE", 0.92, 0.01, 10.0, 0.2, True, None),
    ]
    columns = ["number", "state", "value", "standard_error", "c_end", "control_error", "feasible", "pruned_step"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(c_start=0.1 * frame["c_end"], t_start=1.0, t_end=0.2)


def points(figure, name):
    """All points of the traces of this name, (x, y), without the marks of the legend."""
    traces = [trace for trace in figure.data if trace.name == name and trace.x[0] is not None]
    return sorted((float(x), float(y)) for trace in traces for x, y in zip(trace.x, trace.y, strict=True))


def assert_fills_any_page(figure):
    assert figure.layout.width is None and figure.layout.autosize and figure.layout.height > 0
    title = figure.layout.title.text
    assert title is None or len(title) <= 28
    json.loads(figure.to_json())


# ---------------------------------------------------------------- weight


def test_weight_frame_sorts_trials_into_kinds_and_finds_the_best():
    frame = weight_frame(trials_frame())
    assert frame["number"].tolist() == [0, 1, 2, 3, 4, 7]
    kinds = ["uncontrolled", "controlled", "pruned", "pruned", "controlled", "controlled"]
    assert frame["kind"].tolist() == kinds
    # Neither the better uncontrolled nor the better pruned one, and of two equal ones the first.
    assert frame.loc[frame["best"], "number"].tolist() == [1]


@pytest.mark.parametrize("x", ["c_end", "c_start"])
def test_weight_figure_shows_every_valued_trial_once(x):
    trials = trials_frame()
    figure = weight_figure(trials, x=x)
    assert_fills_any_page(figure)
    assert figure.layout.xaxis.type == "log"
    for kind, numbers in {"controlled": [1, 4, 7], "uncontrolled": [0], "pruned": [2, 3]}.items():
        chosen = trials[trials["number"].isin(numbers)]
        assert points(figure, kind) == sorted(zip(chosen[x], chosen["value"], strict=True))
        marks = [trace for trace in figure.data if trace.name == kind and trace.showlegend is None]
        assert len(marks) == 1
    best = trials[trials["number"] == 1].iloc[0]
    assert points(figure, "best") == [(best[x], best["value"])]
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert symbols["uncontrolled"] == "circle-open" and len(set(symbols.values())) == 3
    assert "2 trials without a value" in figure.layout.xaxis.title.text
    bars = [trace.error_y.array for trace in figure.data if trace.error_y.array is not None]
    assert sum(map(len, bars)) == 6 and all((bar == 0.01).all() for bar in bars)


def color_at(axis, error):
    """The colour that plotly gives a control error: within the last pair of stops that includes it."""
    share = (error - axis.cmin) / (axis.cmax - axis.cmin)
    stops = axis.colorscale
    low = max(i for i, (at, _) in enumerate(stops[:-1]) if at <= share)
    return stops[low][1], stops[low + 1][1]


def test_colours_change_at_the_limit_and_the_limit_is_named():
    axis = weight_figure(trials_frame()).layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0, 1.15)
    assert color_at(axis, 0.2) == color_at(axis, CONTROL_LIMIT) != color_at(axis, 0.26) == color_at(axis, 1.1)
    assert CONTROL_LIMIT in axis.colorbar.tickvals and "limit 0.25" in axis.colorbar.ticktext


def test_a_trial_without_control_error_is_grey_and_all_others_are_on_the_colour_axis():
    figure = weight_figure(trials_frame())
    colored = [trace for trace in figure.data if trace.marker.coloraxis]
    assert sorted(value for trace in colored for value in trace.marker.color) == [0, 0.1, 0.2, 0.25, 1.15]
    (grey,) = [trace for trace in figure.data if trace.showlegend is False and not trace.marker.coloraxis]
    assert list(grey.y) == [0.80]


def test_no_controlled_trial_means_no_ring_and_no_trial_an_empty_figure():
    trials = trials_frame()
    figure = weight_figure(trials[trials["feasible"].ne(True)])
    assert "best" not in {trace.name for trace in figure.data}
    figure = weight_figure(trials.head(0))
    assert len(figure.data) == 0
    assert_fills_any_page(figure)


@pytest.mark.parametrize(("low", "high", "expected"), [(0.004, 9, "0.001 0.01 0.1 1 10"), (2, 9, "1 2 5 10 20 50")])
def test_ticks_of_the_weight_are_few_and_round(low, high, expected):
    trials = trials_frame().head(2).assign(c_end=[low, high])
    assert " ".join(weight_figure(trials).layout.xaxis.ticktext) == expected


def test_weight_figure_refuses_what_it_cannot_draw():
    with pytest.raises(ConfigError, match=r"one of c_start, c_end.*'lr'"):
        weight_figure(trials_frame(), x="lr")
    with pytest.raises(ConfigError, match="lacks control_error, feasible"):
        weight_figure(trials_frame().drop(columns=["feasible", "control_error"]))


# ---------------------------------------------------------------- control


CURVE = [{"lambda": x, "shared": s} for x, s in [(0, 0), (0.5, 1), (1, 1), (2, 1), (1.5, 2), (3, 3), (4, 3)]]
CANDIDATES = [
    {"lambda": 2, "shared": 1, "accuracy": 0.9, "standard_error": 0.01, "source": "argmax"},
    {"lambda": 3.0, "shared": 0, "accuracy": 0.8, "standard_error": 0.02, "source": "sample"},
]


def test_control_frame_and_error():
    frame = control_frame(CURVE, CANDIDATES)
    assert frame["lambda"].tolist() == [0, 0.5, 1, 1.5, 2, 2, 3, 3, 4]
    assert (frame["ideal"] == frame["lambda"]).all()
    assert frame["source"].tolist().count("sample") == 1
    assert frame["accuracy"].notna().sum() == 2
    # Whole lambdas 0..4, each once, without halves and without the sample at 3: (0 + 0 + 1 + 0 + 1) / 5.
    assert control_error(frame) == pytest.approx(0.4)
    assert np.isnan(control_error(control_frame([{"lambda": 0.5, "shared": 1}])))


def test_control_figure_holds_both_panels():
    frame = control_frame(CURVE, CANDIDATES)
    figure = control_figure(frame)
    assert_fills_any_page(figure)
    assert figure.layout.title.text == "Control error 0.40 edges"
    by_panel = {(trace.name, trace.yaxis): trace for trace in figure.data}
    assert by_panel["ideal", "y"].x.tolist() == by_panel["ideal", "y"].y.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4]
    assert by_panel["argmax", "y"].y.tolist() == [0, 1, 1, 2, 1, 1, 3, 3]
    assert by_panel["sample", "y"].y.tolist() == [0]
    assert by_panel["argmax", "y2"].y.tolist() == [0.9] and by_panel["argmax", "y2"].x.tolist() == [2]
    assert by_panel["sample", "y2"].error_y.array.tolist() == [0.02]
    assert sorted(trace.name for trace in figure.data if trace.showlegend is not False) == ["argmax", "ideal", "sample"]


def test_control_figure_without_accuracies_has_one_panel():
    figure = control_figure(control_frame(CURVE))
    assert {trace.yaxis for trace in figure.data} == {"y"}
    assert figure.layout.height < control_figure(control_frame(CURVE, CANDIDATES)).layout.height


def test_control_frame_refuses_other_items():
    with pytest.raises(ConfigError, match="lacks lambda"):
        control_frame([{"shared": 1}])
    with pytest.raises(ConfigError, match="lacks lambda"):
        control_frame([])
    with pytest.raises(ConfigError, match=r"argmax or sample; got .*'mean'"):
        control_frame([{"lambda": 1, "shared": 1, "source": "mean"}])


# ---------------------------------------------------------------- cells


@st.composite
def genotypes(draw, cell_types=("reduction",)):
    nodes, inputs = draw(st.integers(1, 5)), draw(st.integers(1, 2))

    def node(j):
        sources = draw(st.lists(st.integers(0, j + 1), min_size=inputs, max_size=inputs, unique=True))
        return [{"input": i, "operation": draw(st.sampled_from(OPERATIONS))} for i in sorted(sources)]

    return {"cells": {name: [node(j) for j in range(nodes)] for name in cell_types}}


def worst_genotypes():
    """The most crowded cells: five nodes that all take the inputs, or the two nodes just before."""
    for first, second in [(lambda j: 0, lambda j: 1), (lambda j: j, lambda j: j + 1)]:
        names = ("max_pool_3x3", "avg_pool_3x3")  # the longest labels
        yield {
            "cells": {
                "reduction": [
                    [{"input": i(j), "operation": name} for i, name in zip((first, second), names, strict=True)]
                    for j in range(5)
                ]
            }
        }


def overlap(a, b):
    """Whether two rectangles (left, right, bottom, top) have an inner point in common."""
    return max(a[0], b[0]) < min(a[1], b[1]) and max(a[2], b[2]) < min(a[3], b[3])


def assert_nothing_overlaps(genotype, width):
    """On a page of `width` pixels, with labels of 6.4 pixels a character and 14 in height."""
    figure = cell_figure(genotype)
    edges = cell_frame(genotype)
    layout = layout_cell(edges, top=-1.4)
    margin = figure.layout.margin
    x_range, y_range = figure.layout.xaxis.range, figure.layout.yaxis.range
    x_scale = (width - margin.l - margin.r) / (x_range[1] - x_range[0])
    y_scale = (figure.layout.height - margin.t - margin.b) / (y_range[1] - y_range[0])

    labels = []
    for label in figure.layout.annotations:
        if label.text in OPERATION_NAMES.values():
            right, bottom = label.x * x_scale, label.y * y_scale + label.yshift
            labels.append((right - 6.4 * len(label.text), right, bottom, bottom + 14))
    boxes = [(b.left * x_scale, b.right * x_scale, b.bottom * y_scale, b.top * y_scale) for b in layout.boxes]
    wires = [path * [x_scale, y_scale] for path in layout.edges]
    outputs = [path * [x_scale, y_scale] for path in layout.outputs]
    assert len(labels) == len(wires) == len(edges)

    assert not any(overlap(a, b) for a, b in itertools.combinations(labels + boxes, 2))
    for path in wires + outputs:
        for start, end in itertools.pairwise(path):
            segment = (*sorted((start[0], end[0])), *sorted((start[1], end[1])))
            # Widened by a hair, as a line has no inside; its two ends touch the boxes that it joins.
            line = (segment[0] - 1e-6, segment[1] + 1e-6, segment[2] - 1e-6, segment[3] + 1e-6)
            shrunk = [(b[0] + 1e-3, b[1] - 1e-3, b[2] + 1e-3, b[3] - 1e-3) for b in boxes]
            assert not any(overlap(line, other) for other in shrunk + labels)
    # No two wires run along each other: trunks and lanes are their own.
    assert len({path[0, 0] for path in wires}) == len({path[-1, 1] for path in wires}) == len(wires)


@settings(deadline=None, max_examples=20)
@given(genotypes())
def test_no_label_box_or_wire_lies_on_another(genotype):
    assert_nothing_overlaps(genotype, 400)


@pytest.mark.parametrize("genotype", list(worst_genotypes()))
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_overlaps_in_the_most_crowded_cells(genotype, width):
    assert_nothing_overlaps(genotype, width)


@settings(deadline=None, max_examples=40)
@given(genotypes())
def test_wires_join_the_nodes_of_their_edges_and_the_output_all(genotype):
    edges = cell_frame(genotype)
    layout = layout_cell(edges)
    *nodes, output = layout.boxes
    for path, edge in zip(layout.edges, edges.itertuples(), strict=True):
        source, target = nodes[edge.input], nodes[edge.node]
        assert source.left < path[0, 0] < source.right and path[0, 1] == source.bottom
        assert path[-1, 0] == target.left and target.bottom < path[-1, 1] < target.top
        assert source.x < target.x and source.y > target.y
    for (i, a), (j, b) in itertools.combinations(zip(edges["input"], layout.edges, strict=True), 2):
        if i == j:  # wires of one source do not cross: what turns off higher starts further right
            assert (a[0, 0] > b[0, 0]) == (a[-1, 1] > b[-1, 1])
    assert len(layout.outputs) == len(nodes) - 2
    for path, node in zip(layout.outputs, nodes[2:], strict=True):
        assert tuple(path[0]) == (node.right, node.y)
        assert path[1, 0] == output.left and output.bottom < path[1, 1] < output.top
    assert [node.text for node in nodes] == ["in 0", "in 1", *map(str, range(2, len(nodes)))]


OPTIMAL = {
    "cells": {
        "normal": [[{"input": 0, "operation": "sep_conv_3x3"}], [{"input": 2, "operation": "skip_connect"}]],
        "reduction": [[{"input": 1, "operation": "max_pool_3x3"}], [{"input": 0, "operation": "dil_conv_5x5"}]],
    }
}
OTHER = {
    "cells": {
        "normal": [[{"input": 0, "operation": "sep_conv_5x5"}], [{"input": 2, "operation": "skip_connect"}]],
        "reduction": [[{"input": 0, "operation": "max_pool_3x3"}], [{"input": 1, "operation": "dil_conv_5x5"}]],
    }
}


def test_cell_frame_knows_shared_edges_by_node_input_and_operation():
    frame = cell_frame(OTHER, OPTIMAL)
    assert frame["cell_type"].tolist() == ["normal", "normal", "reduction", "reduction"]
    assert frame["node"].tolist() == [2, 3, 2, 3] and frame["input"].tolist() == [0, 2, 0, 1]
    assert frame["label"].tolist() == ["sep 5×5", "skip", "max 3×3", "dil 5×5"]
    assert frame["shared"].tolist() == [False, True, False, False]
    assert cell_frame(OPTIMAL, OPTIMAL)["shared"].all()
    assert cell_frame(OTHER)["shared"].isna().all()


def test_every_operation_has_a_short_name_of_its_own():
    assert set(OPERATION_NAMES) >= set(OPERATIONS)
    assert len(set(OPERATION_NAMES.values())) == len(OPERATION_NAMES)
    odd = {"cells": {"reduction": [[{"input": 0, "operation": "conv_1x1"}]]}}
    assert cell_frame(odd)["label"].tolist() == ["conv 1x1"]


def test_cell_figure_draws_shared_and_different_edges_apart():
    figure = cell_figure(OTHER, OPTIMAL)
    assert_fills_any_page(figure)
    texts = [note.text for note in figure.layout.annotations if note.text]
    assert "normal cell: 1 of 2 edges shared" in texts and "reduction cell: 0 of 2 edges shared" in texts
    legend = {trace.name: trace.line for trace in figure.data if trace.name}
    assert set(legend) == {"shared", "different"}
    wires = {trace.text: trace.line for trace in figure.data if trace.text and "from" in trace.text}
    assert len(wires) == 4
    for text, line in wires.items():
        name = "shared" if text == "node 3 from 2: skip_connect" else "different"
        assert (line.color, line.dash) == (legend[name].color, legend[name].dash)
    assert legend["shared"].color != legend["different"].color and legend["shared"].dash != legend["different"].dash
    arrows = [note for note in figure.layout.annotations if note.showarrow]
    assert len(arrows) == 4


def test_cell_figure_without_an_optimal_genotype_has_no_legend():
    figure = cell_figure(OPTIMAL)
    assert not [trace for trace in figure.data if trace.name]
    assert "normal cell" in [note.text for note in figure.layout.annotations]


def test_cells_of_several_types_stand_below_each_other():
    figure = cell_figure(OPTIMAL)
    titles = [note for note in figure.layout.annotations if note.text and note.text.endswith("cell")]
    assert titles[0].y > titles[1].y
    upper = [shape for shape in figure.layout.shapes[:5]]
    assert min(shape.y0 for shape in upper) > titles[1].y
    assert min(shape.y0 for shape in figure.layout.shapes) > figure.layout.yaxis.range[0]


@pytest.mark.parametrize(
    "genotype",
    [
        {},
        None,
        {"cells": []},
        {"cells": {}},
        {"cells": {"reduction": [[{"input": 0}]]}},
        {"cells": {"reduction": [[{"input": "0", "operation": "skip_connect"}]]}},
        {"cells": {"reduction": [[{"input": 2, "operation": "skip_connect"}]]}},
        {"cells": {"reduction": [[{"input": -1, "operation": "skip_connect"}]]}},
    ],
)
def test_what_is_no_genotype_is_refused(genotype):
    with pytest.raises(ConfigError, match="a genotype must be"):
        cell_figure(genotype)


# ---------------------------------------------------------------- ensemble


RESULTS = [
    {"name": "ensemble", "validation": 0.95, "test": 0.944, "test_standard_error": 0.011},
    {"name": "mean single member", "validation": 0.93, "test": 0.92, "test_standard_error": 0.012},
    {"name": "logistic regression", "test": 0.941, "test_standard_error": None},
    {"name": "DARTS", "validation": 0.9},
]


def test_members_frame_keeps_order_and_leaves_open_what_was_not_measured():
    frame = members_frame(RESULTS)
    assert frame["name"].tolist() == [result["name"] for result in RESULTS]
    assert frame["test"].tolist()[:3] == [0.944, 0.92, 0.941] and np.isnan(frame["test"].iloc[3])
    assert frame.isna().sum().tolist() == [0, 1, 1, 2]
    with pytest.raises(ConfigError, match="lacks name"):
        members_frame([{"test": 0.9}])
    with pytest.raises(ConfigError, match="lacks name"):
        members_frame([])


def test_ensemble_figure_shows_each_result_in_its_row_with_its_error():
    figure = ensemble_figure(members_frame(RESULTS))
    assert_fills_any_page(figure)
    validation, test = figure.data[:2]
    assert validation.name == "validation" and test.name.startswith("test")
    np.testing.assert_array_equal(test.x, [0.944, 0.92, 0.941, np.nan])
    np.testing.assert_array_equal(validation.x, [0.95, 0.93, np.nan, 0.9])
    assert test.error_x.array[:2].tolist() == [0.011, 0.012]
    assert test.y.tolist() == validation.y.tolist() == [0, 1, 2, 3]
    low, high = figure.layout.yaxis.range
    assert low > 3 and high < 0  # the first result on top
    names = {note.y: note.text for note in figure.layout.annotations}
    assert names[0] == "ensemble: 0.944 ± 0.011" and names[2] == "logistic regression: 0.941"
    assert names[3] == "DARTS: not measured"
    assert figure.layout.shapes[0].x0 == 0.944
    assert test.marker.color[0] not in test.marker.color[1:]
