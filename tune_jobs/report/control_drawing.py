"""The control curve of a hypernetwork: how many edges its genotypes share with the optimal one, for each lambda."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tune_jobs.report.style import BLUE, GREY, LINE, VERMILLION, with_error
from tune_jobs.report.svg import dot, drawing, line, scale, text

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 510, 56, 16, 60, 44
SHARED, ACCURACY, GAP = 210, 110, 24  # heights of the two panels, and what lies between them
LOOKS = {"argmax": (BLUE, False), "sample": (VERMILLION, True)}
"""By source of a genotype: colour, and whether its dots are hollow."""


def control_frame(curve: Iterable[Mapping[str, Any]], candidates: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Columns lambda, shared, accuracy, standard_error, source; sorted by lambda, NaN where nothing was measured.

    `curve` holds {"lambda", "shared"} of argmax genotypes; retrained `candidates` hold the other columns too. `source`
    is "argmax", the default, or "sample".
    """
    columns = ["lambda", "shared", "accuracy", "standard_error", "source"]
    frame = pd.DataFrame([dict(item) for item in (*curve, *candidates)]).reindex(columns=columns)
    frame["source"] = frame["source"].astype(object).fillna("argmax")
    return frame.astype(dict.fromkeys(columns[:-1], float)).sort_values("lambda", kind="stable", ignore_index=True)


def control_error(frame: pd.DataFrame) -> float:
    """Mean |lambda - shared| of the argmax genotypes at whole lambda; NaN where the frame has none."""
    rows = frame[(frame["source"] == "argmax") & frame["shared"].notna() & (frame["lambda"] % 1 == 0)]
    rows = rows.drop_duplicates("lambda")
    return float((rows["lambda"] - rows["shared"]).abs().mean())


def control_svg(frame: pd.DataFrame) -> str:
    """Shared edges against lambda beside the ideal, and below, where measured, the candidates' accuracy."""
    most = max(1.0, frame[["lambda", "shared"]].max(axis=None))
    measured = frame[frame["accuracy"].notna()]
    bottom = TOP + SHARED
    x, y = scale(0, most, LEFT, WIDTH - RIGHT), scale(0, most, bottom, TOP)
    steps = range(int(most) + 1)
    argmax = frame[(frame["source"] == "argmax") & frame["shared"].notna()]
    parts = [
        text(12, 24, f"Control error {control_error(frame):.2f} edges", 17),
        *_legend(measured["source"].unique()),
        *_panel("shared edges", steps, str, x, y, steps),
        line([(x(0), y(0)), (x(most), y(most))], GREY, 1.5, dashed=True),
        line([(x(lam), y(shared)) for lam, shared in zip(argmax["lambda"], argmax["shared"], strict=True)], BLUE, 2),
        *(_dot(x, y, row, "shared") for row in measured.to_dict("records")),
    ]
    if len(measured):
        errors = measured["standard_error"].fillna(0)
        levels = _levels((measured["accuracy"] - errors).min(), (measured["accuracy"] + errors).max())
        bottom += GAP + ACCURACY
        y = scale(levels[0], levels[-1], bottom, bottom - ACCURACY)
        parts += _panel("accuracy", levels, "{:.3g}".format, x, y, steps)
        for row, error in zip(measured.to_dict("records"), errors, strict=True):
            ends = [(x(row["lambda"]), y(row["accuracy"] + side * error)) for side in (-1, 1)]
            parts += [line(ends, GREY), _dot(x, y, row, "accuracy")]
    parts += [text(x(step), bottom + 18, str(step), anchor="middle") for step in steps]
    parts.append(text(x(most / 2), bottom + 36, "lambda", anchor="middle"))
    return drawing(WIDTH, bottom + BOTTOM, parts)


def _panel(
    title: str,
    levels: Iterable[float],
    name: Callable[[float], str],
    x: Callable[[float], float],
    y: Callable[[float], float],
    steps: range,
) -> list[str]:
    """Horizontal lines with their names, the marks of `steps` on the lowest one, and the title at the left."""
    levels = list(levels)
    left, right, low, middle = x(0), WIDTH - RIGHT, y(levels[0]), y((levels[0] + levels[-1]) / 2)
    parts = [f'<g transform="translate(14 {middle:.0f}) rotate(-90)">{text(0, 0, title, anchor="middle")}</g>']
    for level in levels:
        parts += [
            line([(left, y(level)), (right, y(level))], LINE),
            text(left - 8, y(level) + 4, name(level), anchor="end"),
        ]
    parts += [line([(x(step), low), (x(step), low + 5)], GREY) for step in steps]
    return [*parts, line([(left, low), (right, low)], GREY)]


def _dot(x: Callable[[float], float], y: Callable[[float], float], row: Mapping[str, Any], column: str) -> str:
    accuracy = with_error(row["accuracy"], row["standard_error"])
    return dot(x(row["lambda"]), y(row[column]), *LOOKS[row["source"]], f"lambda {row['lambda']:.2f}: {accuracy}")


def _legend(sources: Iterable[str]) -> list[str]:
    parts = [line([(LEFT, 42), (LEFT + 18, 42)], GREY, 1.5, dashed=True), text(LEFT + 24, 46, "ideal")]
    parts += [line([(LEFT + 70, 42), (LEFT + 88, 42)], BLUE, 2), text(LEFT + 94, 46, "most probable")]
    for k, source in enumerate(sources):
        parts += [dot(LEFT + 196 + 126 * k, 42, *LOOKS[source]), text(LEFT + 206 + 126 * k, 46, f"retrained {source}")]
    return parts


def _levels(low: float, high: float) -> np.ndarray:
    """A few round numbers that enclose two numbers between 0 and 1."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if high - low <= 4 * step)
    first = math.floor(low / step)
    return step * np.arange(first, max(first + 1, math.ceil(high / step)) + 1)
