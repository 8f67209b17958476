"""The parts of an SVG drawing, which needs no browser: the driver makes some between two trials."""

import html
from collections.abc import Callable, Iterable

from tune_jobs.report.style import FONT, INK

Point = tuple[float, float]


def drawing(width: float, height: float, parts: Iterable[str]) -> str:
    """A whole drawing, in pixels, that may be shown smaller."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{html.escape(FONT)}">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The line that takes `low` to `start` and `high` to `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def text(x: float, y: float, words: str, size: int = 12, color: str = INK, anchor: str = "start") -> str:
    """Words on the baseline `y`; `anchor` is start, middle or end."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(words)}</text>"


def line(points: Iterable[Point], color: str, width: float = 1, dashed: bool = False) -> str:
    """A line through the points."""
    return path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), color, width, dashed)


def path(steps: str, color: str, width: float = 1, dashed: bool = False) -> str:
    """A line given by SVG's own path commands."""
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'


def dot(x: float, y: float, color: str, hollow: bool = False, title: str = "") -> str:
    """A point, whose `title` a browser shows under the mouse."""
    look = f'r="4.5" fill="{"white" if hollow else color}" stroke="{color}" stroke-width="2"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}><title>{html.escape(title)}</title></circle>'


def box(left: float, top: float, width: float, height: float, fill: str, stroke: str) -> str:
    """A rectangle."""
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}"/>'
