"""The numbers in the drawings of the control curve and of cells, and that nothing in a cell overlaps."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgenes.space.genotype import Genotype, SearchSpace, random_genotype
from tests.support.toys import seeded
from tune_jobs.report.cell_drawing import BOX, cell_frame, cell_svg, layout_cell
from tune_jobs.report.control_drawing import control_error, control_frame, control_svg

SVG = "{http://www.w3.org/2000/svg}"
CURVE = [{"lambda": x, "shared": s} for x, s in [(0, 0), (0.5, 1), (1, 1), (2, 1), (1.5, 2), (3, 3), (4, 3)]]
CANDIDATES = [
    {"lambda": 2, "shared": 1, "accuracy": 0.9, "standard_error": 0.01, "source": "argmax"},
    {"lambda": 3.0, "shared": 0, "accuracy": 0.8, "standard_error": None, "source": "sample"},
]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def paths(svg):
    """(points, dashed) of each line."""
    lines = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return [(_points(line), line.get("stroke-dasharray") is not None) for line in lines if line.get("stroke")]


def _points(line):
    return np.array([float(number) for number in re.findall(r"[\d.]+", line.get("d"))]).reshape(-1, 2)


def test_control_frame_and_error():
    frame = control_frame(CURVE, CANDIDATES)
    assert frame["lambda"].tolist() == [0, 0.5, 1, 1.5, 2, 2, 3, 3, 4]
    assert frame["source"].tolist().count("sample") == 1
    assert frame["accuracy"].notna().sum() == 2
    # Whole lambdas 0..4, each once, without halves and without the sample at 3: (0 + 0 + 1 + 0 + 1) / 5.
    assert control_error(frame) == pytest.approx(0.4)
    assert np.isnan(control_error(control_frame([{"lambda": 0.5, "shared": 1}])))


def test_the_control_curve_shows_its_error_and_every_genotype():
    svg = control_svg(control_frame(CURVE))
    assert "Control error 0.40 edges" in texts(svg) and "accuracy" not in texts(svg)
    (ideal,) = [points for points, dashed in paths(svg) if dashed and points[0, 1] != points[1, 1]]
    (curve,) = [points for points, _ in paths(svg) if len(points) == len(CURVE)]
    (left, bottom), (right, top) = ideal  # lambda = shared = 0 and 4
    rows = sorted((item["lambda"], item["shared"]) for item in CURVE)
    expected = [[left + (right - left) * lam / 4, bottom - (bottom - top) * shared / 4] for lam, shared in rows]
    np.testing.assert_allclose(curve, expected, atol=0.1)


def test_retrained_candidates_have_their_accuracy_in_a_panel_of_its_own():
    page = ElementTree.fromstring(control_svg(control_frame(CURVE, CANDIDATES)))
    dots = [dot for dot in page.iter(f"{SVG}circle") if dot[0].text]
    assert [dot[0].text for dot in dots] == 2 * ["lambda 2.00: 0.900 ± 0.010", "lambda 3.00: 0.800"]
    shared, accuracy = dots[:2], dots[2:]
    assert [dot.get("cx") for dot in shared] == [dot.get("cx") for dot in accuracy]
    for argmax, sample in (shared, accuracy):  # both the greater number, in the greater accuracy
        assert float(argmax.get("cy")) < float(sample.get("cy"))
        assert argmax.get("stroke") != sample.get("stroke") and argmax.get("fill") != sample.get("fill")
    names = [element.text for element in page.iter(f"{SVG}text")]
    assert {"accuracy", "retrained argmax", "retrained sample", "0.8"} <= set(names)


@st.composite
def genotypes(draw):
    space = SearchSpace(nodes=draw(st.integers(1, 5)), inputs_per_node=draw(st.integers(1, 2)))
    return random_genotype(space, seeded(draw(st.integers(0, 10**6))))


def overlap(a, b):
    """Whether two rectangles (left, right, top, bottom) have an inner point in common."""
    return max(a[0], b[0]) < min(a[1], b[1]) and max(a[2], b[2]) < min(a[3], b[3])


def crowded(step):
    """Five nodes that all take the inputs (step 0), or the two nodes just before (1), with the longest labels."""
    nodes = [
        [{"input": step * j + k, "operation": f"{kind}_pool_3x3"} for k, kind in enumerate(("max", "avg"))]
        for j in range(5)
    ]
    space = SearchSpace(nodes=5, inputs_per_node=2)
    return Genotype.from_dict({"space": space.to_dict(), "cells": {"reduction": nodes}})


@settings(max_examples=20)
@given(genotypes())
@example(crowded(0))
@example(crowded(1))
def test_no_label_box_or_wire_lies_on_another(genotype):
    """With labels of 6.6 pixels a character and 14 in height."""
    edges = cell_frame(genotype)
    nodes, wires = layout_cell(edges)
    boxes = [(b.left, b.right, b.top, b.bottom) for b in nodes]
    labels = [
        (wire.end - 8 - 6.6 * len(label), wire.end - 8, wire.lane - 16, wire.lane - 2)
        for wire, label in zip(wires, edges["label"], strict=True)
    ]
    assert not any(overlap(a, b) for a, b in itertools.combinations(labels + boxes, 2))
    lines = [(wire.x, wire.x, wire.top, wire.lane) for wire in wires]
    lines += [(wire.x, wire.end, wire.lane, wire.lane) for wire in wires]
    lines += [(node.right, nodes[-1].left, node.middle, node.middle) for node in nodes[2:-1]]
    for left, right, top, bottom in lines:
        wide = (left - 1e-6, right + 1e-6, top - 1e-6, bottom + 1e-6)  # its two ends touch the boxes that it joins
        shrunk = [(b[0] + 1e-3, b[1] - 1e-3, b[2] + 1e-3, b[3] - 1e-3) for b in boxes]
        assert not any(overlap(wide, other) for other in shrunk + labels)
    # No two wires run along each other: trunks and lanes are their own.
    assert len({wire.x for wire in wires}) == len({wire.lane for wire in wires}) == len(wires)


@settings(max_examples=20)
@given(genotypes())
def test_wires_join_the_nodes_of_their_edges_and_the_output_all(genotype):
    edges = cell_frame(genotype)
    boxes, wires = layout_cell(edges)
    *nodes, output = boxes
    for wire, edge in zip(wires, edges.itertuples(), strict=True):
        source, target = nodes[edge.input], nodes[edge.node]
        assert source.left < wire.x < source.left + BOX / 2 and wire.top == source.bottom
        assert wire.end == target.left and target.top < wire.lane < target.bottom
    for (i, a), (j, b) in itertools.combinations(zip(edges["input"], wires, strict=True), 2):
        if i == j:  # wires of one source do not cross: what turns off higher starts further right
            assert (a.x > b.x) == (a.lane < b.lane)
    assert all(node.right < output.left and output.top < node.middle < output.bottom for node in nodes[2:])
    assert [node.text for node in boxes] == ["in 0", "in 1", *map(str, range(2, len(nodes))), "out"]


SPACE = SearchSpace(nodes=2, cell_types=("normal", "reduction"))


def genotype(normal, reduction):
    cells = {
        name: [[{"input": i, "operation": operation}] for i, operation in nodes]
        for name, nodes in (("normal", normal), ("reduction", reduction))
    }
    return Genotype.from_dict({"space": SPACE.to_dict(), "cells": cells})


OPTIMAL = genotype([(0, "sep_conv_3x3"), (2, "skip_connect")], [(1, "max_pool_3x3"), (0, "dil_conv_5x5")])
OTHER = genotype([(0, "sep_conv_5x5"), (2, "skip_connect")], [(0, "max_pool_3x3"), (1, "dil_conv_5x5")])


def test_cell_frame_knows_shared_edges_by_node_input_and_operation():
    frame = cell_frame(OTHER, OPTIMAL)
    assert frame["cell_type"].tolist() == ["normal", "normal", "reduction", "reduction"]
    assert frame["node"].tolist() == [2, 3, 2, 3] and frame["input"].tolist() == [0, 2, 0, 1]
    assert frame["label"].tolist() == ["sep 5×5", "skip", "max 3×3", "dil 5×5"]
    assert frame["shared"].tolist() == [False, True, False, False]
    assert cell_frame(OPTIMAL, OPTIMAL)["shared"].all()
    assert cell_frame(OTHER)["shared"].isna().all()


def test_a_drawing_has_each_cell_below_the_other_and_dashes_edges_that_differ():
    svg = cell_svg(OTHER, OPTIMAL, "a < b")
    assert texts(svg)[:2] == ["a < b", "normal cell: 1 of 2 edges shared"]
    assert "reduction cell: 0 of 2 edges shared" in texts(svg)
    wires = [dashed for points, dashed in paths(svg) if len(points) != 2]
    assert wires.count(True) == 3 and wires.count(False) == 1
    heights = {element.text: float(element.get("y")) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert heights["normal cell: 1 of 2 edges shared"] < heights["skip"] < heights["max 3×3"]
    alone = cell_svg(OPTIMAL)
    assert "normal cell" in texts(alone) and not any(dashed for _, dashed in paths(alone))
