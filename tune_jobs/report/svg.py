"""A trial's pictures as SVG, drawn without a browser: they are made in the driver, between two trials."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tune_jobs.report.cell_drawing import CellLayout, cell_frame, layout_cell
from tune_jobs.report.figures import control_error, control_frame
from tune_jobs.report.style import BLUE, FONT, GREY, INK, LINE, VERMILLION

WIDTH, HEIGHT = 480, 320
STEP, LANE = 96, 26  # pixels of a cell's units: a step to the right, a lane down
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 60, 44  # margins around the control curve


def control_svg(curve: Iterable[Mapping[str, Any]], candidates: Iterable[Mapping[str, Any]] = ()) -> str:
    """Shared edges against lambda beside the ideal, the retrained candidates on it; arguments as `control_frame`."""
    frame = control_frame(curve, candidates)
    most = max(1.0, frame[["ideal", "shared"]].max(axis=None))

    def x(lam: float) -> float:
        return LEFT + lam / most * (WIDTH - LEFT - RIGHT)

    def y(shared: float) -> float:
        return HEIGHT - BOTTOM - shared / most * (HEIGHT - TOP - BOTTOM)

    side = _text(0, 0, "shared edges", anchor="middle")
    parts = [
        _text(12, 24, f"Control error {control_error(frame):.2f} edges", 17),
        _text(x(most / 2), HEIGHT - 8, "lambda", anchor="middle"),
        f'<g transform="translate(14 {y(most / 2):.0f}) rotate(-90)">{side}</g>',
    ]
    for tick in range(int(most) + 1):
        parts += [
            _line([(x(0), y(tick)), (x(most), y(tick))], LINE, 1),
            _line([(x(tick), y(0)), (x(tick), y(0) + 5)], GREY, 1),
            _text(x(0) - 8, y(tick) + 4, str(tick), anchor="end"),
            _text(x(tick), y(0) + 18, str(tick), anchor="middle"),
        ]
    argmax = frame[(frame["source"] == "argmax") & frame["accuracy"].isna()]
    parts += [
        _line([(x(0), y(0)), (x(most), y(0))], GREY, 1),
        _line([(x(0), y(0)), (x(most), y(most))], GREY, 1.5, dashed=True),
        _line([(x(lam), y(shared)) for lam, shared in zip(argmax["lambda"], argmax["shared"], strict=True)], BLUE, 2),
    ]
    retrained = frame[frame["accuracy"].notna() & frame["shared"].notna()]
    parts += [
        _circle(x(row["lambda"]), y(row["shared"]), f"lambda {row['lambda']:.2f}, accuracy {row['accuracy']:.3f}")
        for row in retrained.to_dict("records")
    ]
    parts += [_line([(LEFT, 42), (LEFT + 18, 42)], GREY, 1.5, dashed=True), _text(LEFT + 24, 46, "ideal")]
    parts += [_line([(LEFT + 90, 42), (LEFT + 108, 42)], BLUE, 2), _text(LEFT + 114, 46, "argmax genotype")]
    if len(retrained):
        parts += [_circle(LEFT + 250, 42), _text(LEFT + 262, 46, "retrained candidates")]
    return _page(WIDTH, HEIGHT, parts)


def cell_svg(genotype: Mapping[str, Any], optimal: Mapping[str, Any] | None = None, title: str = "") -> str:
    """A genotype's cells as `tune_jobs.report.cell_drawing` lays them out; edges that `optimal` lacks are dashed."""
    frame = cell_frame(genotype, optimal)
    parts, top, right = [_text(12, 24, title, 17)] if title else [], 0.0, 0.0
    shift = 44 if title else 16
    for name, edges in frame.groupby("cell_type", sort=False):
        shared = "" if edges["shared"].isna().all() else f": {int(edges['shared'].sum())} of {len(edges)} edges shared"
        parts.append(_text(12, shift - top * LANE + 8, f"{name} cell{shared}", 14))
        layout = layout_cell(edges, top - 1.2)
        parts += _cell(edges, layout, shift)
        top, right = layout.bottom - 1.0, max(right, layout.boxes[-1].right)
    return _page(round((right + 0.3) * STEP) + 40, round(shift - top * LANE), parts)


def _cell(edges: pd.DataFrame, layout: CellLayout, shift: float) -> list[str]:
    def place(point: Iterable[float]) -> tuple[float, float]:
        x, y = point
        return 40 + x * STEP, shift - y * LANE

    parts = [_line([place(point) for point in path], "#C9CED6", 1.5) for path in layout.outputs]
    for path, edge in zip(layout.edges, edges.itertuples(), strict=True):
        color = VERMILLION if edge.shared is False else BLUE
        end = place(path[-1])
        parts += [
            _line([place(point) for point in path], color, 1.8, dashed=edge.shared is False),
            f'<path d="M{end[0]:.1f} {end[1]:.1f}l-7 -4v8z" fill="{color}"/>',
            _text(end[0] - 8, end[1] - 4, edge.label, 11, color, "end"),
        ]
    for box in layout.boxes:
        (left, top), (right, bottom) = place((box.left, box.top)), place((box.right, box.bottom))
        parts += [
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
            f'fill="#F1F3F5" stroke="{GREY}"/>',
            _text((left + right) / 2, (top + bottom) / 2 + 4, box.text, 10, anchor="middle"),
        ]
    return parts


def _page(width: int, height: int, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{html.escape(FONT)}"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, size: int = 12, color: str = INK, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(text)}</text>"


def _line(points: Iterable[tuple[float, float]], color: str, width: float, dashed: bool = False) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'


def _circle(x: float, y: float, title: str = "") -> str:
    look = f'r="5" fill="white" stroke="{VERMILLION}" stroke-width="2"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}><title>{html.escape(title)}</title></circle>'
