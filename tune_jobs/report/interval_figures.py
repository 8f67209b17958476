"""Pictures of several searches: means with their 95% intervals, as dots or along a line."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from tune_jobs.report.statistics import mean_estimate
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, need, style

COLOURS = (VERMILLION, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#24292F", "#8A8F98")
"""Okabe and Ito's, in the order in which groups take them."""


def interval_frame(
    frame: pd.DataFrame, by: Sequence[str], value: str, within: tuple[float, float] = (-math.inf, math.inf)
) -> pd.DataFrame:
    """Means of `value` over searches: one row a group of `by`, in the order of the rows, columns mean, low, high, n.

    low and high are NaN where a group is a single search, or has no spread; they are `within` the values' range.
    """
    need(frame, (*by, value))
    rows = []
    for key, group in frame.dropna(subset=[value]).groupby(list(by), sort=False):
        found = mean_estimate(group[value], within=within)
        key = key if isinstance(key, tuple) else (key,)
        rows.append({**dict(zip(by, key, strict=True)), "mean": found.value, "low": found.low, "high": found.high})
        rows[-1]["n"] = found.n
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"]).astype({"low": float, "high": float})


def dots_figure(frame: pd.DataFrame, name: str, axis: str, title: str, first: str | None = None) -> go.Figure:
    """One dot a row of an `interval_frame` with its interval; the row named `first` stands out."""
    need(frame, (name, "mean", "low", "high"))
    rows = list(range(len(frame)))
    colors = [VERMILLION if value == first else BLUE for value in frame[name]]
    figure = go.Figure()
    figure.add_scatter(
        x=frame["mean"],
        y=rows,
        mode="markers",
        marker={"size": 11, "color": colors},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": frame["high"] - frame["mean"],
            "arrayminus": frame["mean"] - frame["low"],
            "thickness": 1.5,
            "width": 4,
            "color": INK,
        },
        text=frame[name],
        hovertemplate="%{text}<br>%{x:.4g}<extra></extra>",
        showlegend=False,
    )
    style(figure, title, 110 + 34 * len(frame))
    figure.update_xaxes(title=axis)
    figure.update_yaxes(tickvals=rows, ticktext=list(frame[name]), range=[len(frame) - 0.5, -0.5], fixedrange=True)
    reference = frame.loc[frame[name] == first, "mean"]
    if len(reference):
        figure.add_vline(x=reference.iloc[0], line={"color": VERMILLION, "width": 1, "dash": "dot"})
    return figure


def lines_figure(
    frames: dict[str, pd.DataFrame], x: str, group: str, axes: dict[str, str], title: str, ideal: str | None = None
) -> go.Figure:
    """Lines with bands: a panel for each of `frames`, by its axis's title, a line for each group.

    A frame is an `interval_frame` by (group, x). `axes` names the x axis under the key x, and `ideal` the panel that
    has the diagonal, if any.
    """
    figure = make_subplots(rows=len(frames), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    groups = list(dict.fromkeys(name for frame in frames.values() for name in frame[group]))
    for row, (panel, frame) in enumerate(frames.items(), start=1):
        need(frame, (group, x, "mean", "low", "high"))
        if panel == ideal and len(frame):
            ends = [frame[x].min(), frame[x].max()]
            line = {"color": GREY, "dash": "dash", "width": 1.5}
            figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="ideal", hoverinfo="skip", row=row, col=1)
        for k, name in enumerate(groups):
            points = frame[frame[group] == name].sort_values(x)
            if points.empty:
                continue
            color = COLOURS[k % len(COLOURS)]
            band = points.fillna({"low": points["mean"], "high": points["mean"]})  # no spread, no width
            figure.add_scatter(
                x=[*band[x], *band[x][::-1]],
                y=[*band["high"], *band["low"][::-1]],
                mode="lines",  # by default so few points would have marks
                fill="toself",
                fillcolor=f"rgba{(*hex_to_rgb(color), 0.15)}",
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=str(name),
                row=row,
                col=1,
            )
            figure.add_scatter(
                x=points[x],
                y=points["mean"],
                mode="lines+markers",
                name=str(name),
                legendgroup=str(name),
                showlegend=row == 1,
                line={"color": color, "width": 2},
                marker={"size": 6},
                hovertemplate=f"{x} %{{x:.3g}}<br>%{{y:.4g}}<extra>{name}</extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(title=panel, row=row, col=1)
    # Two rows of the legend on a narrow page, and one more for every four names.
    style(figure, title, 130 + 270 * len(frames) + 20 * (len(groups) // 4))
    figure.update_xaxes(title=axes[x], row=len(frames), col=1)
    figure.update_layout(margin={"t": 80 + 20 * (len(groups) // 4)})
    return figure
