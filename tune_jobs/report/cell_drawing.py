"""A cell as a directed graph: a staircase in which no two labels and no two wires can overlap.

Inputs stand at the top left, each intermediate node one step further right and down, the output at the
right. A wire leaves its source downwards, turns once, and enters its target from the left in a lane of its
own. Lanes lie below all earlier nodes and wires to the output above all later ones, so no wire passes a box,
and wires meet only at right angles. This holds for any number of nodes and of inputs a node.

All lengths are pixels; y grows downwards.
"""

from dataclasses import dataclass

import pandas as pd

from edgenes.space.genotype import Genotype, counted_edges
from edgenes.space.operations import label
from tune_jobs.report.style import BLUE, GREY, VERMILLION
from tune_jobs.report.svg import box, drawing, line, path, text

LANE, STEP, BOX = 27, 92, 36  # a lane's height, a step to the right, a box's width
INPUT_STEP = 26  # in 1 stands only so far right of in 0 that the wires of in 0 pass it
LANE_GAP = 16  # between one node's lanes and the next's, so that a label above a lane is clear of the box above
TRUNKS, TRUNK_STEP = 14, 7  # width that the wires leaving one source share, and the most between two of them
CORNER = 9
MARGIN = 16


@dataclass(frozen=True)
class Box:
    """A node of the cell."""

    text: str
    left: float
    top: float
    height: float

    @property
    def right(self) -> float:
        return self.left + BOX

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


@dataclass(frozen=True)
class Wire:
    """An edge: from (x, top) down to the lane at height `lane`, and along it to the right until `end`."""

    x: float
    top: float
    lane: float
    end: float


def cell_frame(genotype: Genotype, optimal: Genotype | None = None, either_input: bool = False) -> pd.DataFrame:
    """The edges of a genotype: columns cell_type, node, input, operation, label, shared; a row an edge.

    Nodes are numbered as inputs are: 0 and 1 are the cell's inputs, 2 the first intermediate node. `shared`
    says whether `optimal` has the edge too (same node, input and operation), and is None without `optimal`;
    `either_input` as in `shared_edges`.
    """
    own = None if optimal is None else set(counted_edges(optimal, either_input))
    counted = iter(counted_edges(genotype, either_input))
    rows = [
        {
            "cell_type": name,
            "node": node + 2,
            "input": edge.input,
            "operation": edge.operation,
            "label": label(edge.operation),
            "shared": None if own is None else next(counted) in own,
        }
        for name, cell in zip(genotype.space.cell_types, genotype.cells, strict=True)
        for node, edges in enumerate(cell)
        for edge in edges
    ]
    return pd.DataFrame(rows).astype({"shared": object})


def layout_cell(edges: pd.DataFrame, top: float = 0.0) -> tuple[list[Box], list[Wire]]:
    """Boxes (inputs, intermediate nodes, output) of one cell from `top` down, and a wire for each edge.

    edges: columns node (2 is the first intermediate one) and input, a row an edge.
    """
    boxes = [Box("in 0", MARGIN, top, LANE), Box("in 1", MARGIN + INPUT_STEP, top + 1.3 * LANE, LANE)]
    lanes: dict[int, float] = {}
    for node in range(2, edges["node"].max() + 1):
        rows = edges.index[edges["node"] == node]
        top = boxes[-1].bottom + LANE_GAP
        lanes |= {row: top + (k + 0.5) * LANE for k, row in enumerate(rows)}
        boxes.append(Box(str(node), MARGIN + INPUT_STEP + STEP * (node - 1), top, LANE * len(rows)))
    output = Box("out", boxes[-1].left + BOX + 12, boxes[2].top, boxes[-1].bottom - boxes[2].top)

    trunks: dict[int, float] = {}
    for source in set(edges["input"]):
        # The nearest target turns off first: it leaves from the right, or it would cross the others. All leave
        # from the left half of their source, which makes room for the label of a wire to the next node.
        rows = sorted(edges.index[edges["input"] == source], key=lanes.get)
        step = min(TRUNK_STEP, TRUNKS / max(1, len(rows) - 1))
        trunks |= {row: boxes[source].left + BOX / 2 - 2 - step * k for k, row in enumerate(rows)}
    wires = [
        Wire(trunks[row], boxes[source].bottom, lanes[row], boxes[node].left)
        for row, node, source in zip(edges.index, edges["node"], edges["input"], strict=True)
    ]
    return [*boxes, output], wires


def cell_svg(genotype: Genotype, optimal: Genotype | None = None, title: str = "", either_input: bool = False) -> str:
    """A genotype's cells, one below the other; edges that `optimal` lacks are dashed."""
    parts, bottom, right = [text(MARGIN, 24, title, 17)] if title else [], 32.0 if title else 0.0, 0.0
    for name, edges in cell_frame(genotype, optimal, either_input).groupby("cell_type", sort=False):
        shared = "" if optimal is None else f": {edges['shared'].sum()} of {len(edges)} edges shared"
        parts.append(text(MARGIN, bottom + 20, f"{name} cell{shared}", 14))
        boxes, wires = layout_cell(edges, bottom + 34)
        parts += _cell(boxes, wires, edges)
        bottom, right = boxes[-1].bottom + MARGIN, boxes[-1].right
    return drawing(right + MARGIN, bottom, parts)


def _cell(boxes: list[Box], wires: list[Wire], edges: pd.DataFrame) -> list[str]:
    *nodes, output = boxes
    parts = [line([(node.right, node.middle), (output.left, node.middle)], "#C9CED6", 1.5) for node in nodes[2:]]
    for wire, edge in zip(wires, edges.itertuples(), strict=True):
        different = edge.shared is False
        color = VERMILLION if different else BLUE
        turn = f"V{wire.lane - CORNER:.1f}q0 {CORNER} {CORNER} {CORNER}"
        parts += [
            path(f"M{wire.x:.1f} {wire.top:.1f}{turn}H{wire.end:.1f}", color, 1.8, dashed=different),
            f'<path d="M{wire.end:.1f} {wire.lane:.1f}l-7 -4v8z" fill="{color}"/>',
            text(wire.end - 8, wire.lane - 4, edge.label, 12, color, "end"),
        ]
    for node in boxes:
        parts += [
            box(node.left, node.top, BOX, node.height, "#F1F3F5", GREY),
            text(node.left + BOX / 2, node.middle + 4, node.text, 12, anchor="middle"),
        ]
    return parts
