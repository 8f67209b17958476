"""A cell as a directed graph: a staircase in which no two labels and no two wires can overlap.

Inputs stand at the top left, each intermediate node one step further right and down, the output at the
right. A wire leaves its source downwards, turns once, and enters its target from the left in a lane of its
own. Lanes lie below all earlier nodes and wires to the output above all later ones, so no wire passes a box,
and wires meet only at right angles. This holds for any number of nodes and of inputs a node.

Units are steps of the staircase in x (so that a drawing stretches with its page) and lanes in y.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.errors import ConfigError
from tune_jobs.report.style import BLUE, GREY, VERMILLION, style

OPERATION_NAMES = {
    "max_pool_3x3": "max 3×3",
    "avg_pool_3x3": "avg 3×3",
    "skip_connect": "skip",
    "sep_conv_3x3": "sep 3×3",
    "sep_conv_5x5": "sep 5×5",
    "dil_conv_3x3": "dil 3×3",
    "dil_conv_5x5": "dil 5×5",
}
GENOTYPE_FORM = '{"cells": {cell type: [[{"input": 0, "operation": "skip_connect"}, ...] for each node]}}'
BOX_WIDTH = 0.36
INPUT_STEP = 0.25  # in 1 stands only so far right of in 0 that the wires of in 0 pass it
OUTPUT_STEP = 0.45
LANE_GAP = 0.6  # between one node's lanes and the next's, so that a label above a lane is clear of the box above
TRUNKS = 0.15  # width that the wires leaving one source share
TRUNK_STEP = 0.07
CORNER = (0.12, 0.35)
LANE_PIXELS = 27


@dataclass(frozen=True)
class Box:
    """A node of the cell, centred at (x, y)."""

    text: str
    x: float
    y: float
    height: float

    @property
    def left(self) -> float:
        return self.x - BOX_WIDTH / 2

    @property
    def right(self) -> float:
        return self.x + BOX_WIDTH / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2

    @property
    def top(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class CellLayout:
    """Boxes (inputs, intermediate nodes, output), and paths (points, 2) of the edges and to the output."""

    boxes: tuple[Box, ...]
    edges: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]

    @property
    def bottom(self) -> float:
        """The lowest point of the cell, which the output shares with the last node."""
        return self.boxes[-1].bottom


def layout_cell(edges: pd.DataFrame, top: float = 0.0) -> CellLayout:
    """Lays out one cell, whose inputs reach up to `top`, from its edges, whose order the paths have.

    edges: columns node (2 is the first intermediate one) and input, a row an edge.
    """
    nodes = int(edges["node"].max()) + 1
    boxes = [Box("in 0", 0.0, top - 0.5, 1.0), Box("in 1", INPUT_STEP, top - 1.8, 1.0)]
    lanes: dict[int, float] = {}
    floor = boxes[1].bottom
    for node in range(2, nodes):
        rows = edges.index[edges["node"] == node]
        height = max(1, len(rows))
        top = floor - LANE_GAP
        lanes |= {row: top - 0.5 - lane for lane, row in enumerate(rows)}
        boxes.append(Box(str(node), INPUT_STEP + node - 1, top - height / 2, height))
        floor = top - height
    first, last = boxes[2], boxes[-1]
    output = Box("out", last.x + OUTPUT_STEP, (first.top + last.bottom) / 2, first.top - last.bottom)

    trunks: dict[int, float] = {}
    for source in set(edges["input"]):
        # The nearest target turns off first: it leaves from the right, or it would cross the others. All leave
        # from the left half of their source, which makes room for the label of a wire to the next node.
        rows = sorted(edges.index[edges["input"] == source], key=lanes.get, reverse=True)
        step = min(TRUNK_STEP, TRUNKS / max(1, len(rows) - 1))
        trunks |= {row: boxes[source].x - 0.02 - step * k for k, row in enumerate(rows)}
    paths = tuple(
        _route(trunks[row], boxes[source].bottom, boxes[node].left, lanes[row])
        for row, node, source in zip(edges.index, edges["node"], edges["input"], strict=True)
    )
    outputs = tuple(np.array([[box.right, box.y], [output.left, box.y]]) for box in boxes[2:])
    return CellLayout((*boxes, output), paths, outputs)


def _route(x: float, top: float, end: float, lane: float) -> np.ndarray:
    """Down from (x, top), through a round corner, and along the lane to `end`; (points, 2)."""
    width, height = CORNER
    angle = np.linspace(0, np.pi / 2, 9)
    corner = np.stack([x + width * (1 - np.cos(angle)), lane + height * (1 - np.sin(angle))], axis=-1)
    return np.concatenate([[[x, top]], corner, [[end, lane]]])


def cell_frame(genotype: Mapping[str, Any], optimal: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """The edges of a genotype: columns cell_type, node, input, operation, label, shared; a row an edge.

    Nodes are numbered as inputs are: 0 and 1 are the cell's inputs, 2 the first intermediate node. `shared`
    says whether `optimal` has the edge too (same node, input and operation), and is None without `optimal`.
    Raises ConfigError for what is no genotype.
    """
    edges = _edges(genotype)
    known = None if optimal is None else set(_edges(optimal))
    rows = [
        (
            *edge,
            OPERATION_NAMES.get(edge[3], edge[3].replace("_", " ")),
            None if known is None else edge in known,
        )
        for edge in edges
    ]
    frame = pd.DataFrame(rows, columns=["cell_type", "node", "input", "operation", "label", "shared"])
    return frame.astype({"shared": object})


def cell_figure(genotype_json: Mapping[str, Any], highlight_shared_with: Mapping[str, Any] | None = None) -> go.Figure:
    """A genotype's cells as directed graphs, one below the other.

    Takes genotypes as their JSON values: {"cells": {cell type: [[{"input", "operation"}, ...] a node]}}. With
    `highlight_shared_with`, edges that this genotype has too are solid, and all others dashed in an accent.
    """
    frame = cell_frame(genotype_json, highlight_shared_with)
    figure = go.Figure()
    top = right = 0.0
    for name, edges in frame.groupby("cell_type", sort=False):
        figure.add_annotation(
            x=-BOX_WIDTH / 2,
            y=top,
            text=_cell_title(name, edges),
            font_size=15,
            xanchor="left",
            yanchor="top",
            showarrow=False,
        )
        layout = layout_cell(edges, top - 1.4)
        _draw_cell(figure, edges, layout)
        top, right = layout.bottom - 1.0, max(right, layout.boxes[-1].right)
    for shared in (True, False):
        if (frame["shared"] == shared).any():
            line, name = _edge_look(shared)
            figure.add_scatter(x=[None], y=[None], mode="lines", name=name, line=line)
    style(figure, None, round(LANE_PIXELS * -top) + 50)
    figure.update_layout(margin={"l": 4, "r": 4, "t": 10, "b": 10}, legend={"orientation": "h", "x": 0, "y": 0})
    figure.update_xaxes(visible=False, fixedrange=True, range=[-0.22, max(4.5, right + 0.04)])
    figure.update_yaxes(visible=False, fixedrange=True, range=[top, 0])
    return figure


def _draw_cell(figure: go.Figure, edges: pd.DataFrame, layout: CellLayout) -> None:
    for path in layout.outputs:
        _wire(figure, path, {"color": "#C9CED6", "width": 1.5}, "to the output")
    for path, edge in zip(layout.edges, edges.itertuples(), strict=True):
        line, _ = _edge_look(edge.shared)
        _wire(figure, path, line, f"node {edge.node} from {edge.input}: {edge.operation}")
        end, lane = path[-1]
        figure.add_annotation(
            x=end,
            y=lane,
            ax=-8,
            ay=0,
            arrowcolor=line["color"],
            arrowwidth=2,
            arrowsize=0.8,
            arrowhead=2,
            showarrow=True,
        )
        figure.add_annotation(
            x=end,
            y=lane,
            text=edge.label,
            font={"size": 11, "color": line["color"]},
            xanchor="right",
            yanchor="bottom",
            yshift=2,
            showarrow=False,
        )
    for box in layout.boxes:
        figure.add_shape(
            x0=box.left,
            x1=box.right,
            y0=box.bottom,
            y1=box.top,
            fillcolor="#F1F3F5",
            line={"color": GREY, "width": 1},
        )
        figure.add_annotation(x=box.x, y=box.y, text=box.text, font_size=10, showarrow=False)


def _wire(figure: go.Figure, path: np.ndarray, line: Mapping[str, Any], text: str) -> None:
    figure.add_scatter(
        x=path[:, 0],
        y=path[:, 1],
        mode="lines",
        line=line,
        showlegend=False,
        text=text,
        hovertemplate="%{text}<extra></extra>",
    )


def _cell_title(name: str, edges: pd.DataFrame) -> str:
    if edges["shared"].isna().all():
        return f"{name} cell"
    return f"{name} cell: {int(edges['shared'].sum())} of {len(edges)} edges shared"


def _edge_look(shared: bool | None) -> tuple[dict[str, Any], str]:
    if shared is False:
        return {"color": VERMILLION, "dash": "5px,3px", "width": 1.8}, "different"
    return {"color": BLUE, "dash": "solid", "width": 1.8}, "shared"


def _edges(genotype: Mapping[str, Any]) -> list[tuple[str, int, int, str]]:
    """(cell type, node, input, operation) of all edges, with nodes from 2 on."""
    try:
        edges = [
            (cell_type, node, operator.index(edge["input"]), str(edge["operation"]))
            for cell_type, nodes in genotype["cells"].items()
            for node, chosen in enumerate(nodes, start=2)
            for edge in chosen
        ]
        sound = edges and all(0 <= source < node for _, node, source, _ in edges)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"a genotype must be {GENOTYPE_FORM}; got another form ({error!r})") from error
    if not sound:
        raise ConfigError(f"a genotype must be {GENOTYPE_FORM}, each input before its node; got {edges or 'no edge'}")
    return edges
