"""Pictures of several searches: means with their 95% intervals, as dots or along a line."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from tune_jobs.report.statistics import mean_estimate
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, style

COLOURS = (VERMILLION, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#24292F", "#8A8F98")
"""Okabe and Ito's, in the order in which groups take them."""


def interval_frame(
    frame: pd.DataFrame, by: Sequence[str], value: str, within: tuple[float, float] = (-math.inf, math.inf)
) -> pd.DataFrame:
    """Means of `value` over searches: one row a group of `by`, in the order of the rows, columns mean, low, high, n.

    low and high are NaN where a group is a single search, or has no spread; they are `within` the values' range.
    """
    rows = []
    for key, group in frame.dropna(subset=[value]).groupby(list(by), sort=False):
        found = mean_estimate(group[value], within=within)
        rows.append((*key, found.value, found.low, found.high, found.n))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"]).astype({"low": float, "high": float})


def dots_figure(frame: pd.DataFrame, name: str, axis: str, title: str, first: str | None = None) -> go.Figure:
    """One dot a row of an `interval_frame` with its interval; the row named `first` stands out."""
    rows = list(range(len(frame)))
    error = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": INK}
    figure = go.Figure()
    figure.add_scatter(
        x=frame["mean"],
        y=rows,
        mode="markers",
        marker={"size": 11, "color": [VERMILLION if value == first else BLUE for value in frame[name]]},
        error_x={**error, "array": frame["high"] - frame["mean"], "arrayminus": frame["mean"] - frame["low"]},
        text=frame[name],
        hovertemplate="%{text}<br>%{x:.4g}<extra></extra>",
        showlegend=False,
    )
    style(figure, title, 110 + 34 * len(frame))
    figure.update_xaxes(title=axis)
    figure.update_yaxes(tickvals=rows, ticktext=list(frame[name]), range=[len(frame) - 0.5, -0.5], fixedrange=True)
    for mean in frame.loc[frame[name] == first, "mean"]:
        figure.add_vline(x=mean, line={"color": VERMILLION, "width": 1, "dash": "dot"})
    return figure


def lines_figure(
    frame: pd.DataFrame,
    x: str,
    group: str,
    panels: dict[str, tuple[str, tuple[float, float]]],
    axis: str,
    title: str,
    ideal: str | None = None,
) -> go.Figure:
    """Lines with bands over x, a line for each `group`.

    Args:
        frame: one row a search, group and x.
        panels: by the title of a panel's y axis the column that it shows, and the range of its values.
        axis: title of the x axis.
        ideal: the panel that has the diagonal, if any.
    """
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    groups = list(frame[group].unique())
    for row, (panel, (value, within)) in enumerate(panels.items(), start=1):
        place = {"row": row, "col": 1}
        shown = interval_frame(frame, [group, x], value, within)
        if panel == ideal:
            ends = [shown[x].min(), shown[x].max()]
            line = {"color": GREY, "dash": "dash", "width": 1.5}
            figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="ideal", hoverinfo="skip", **place)
        for name, points in shown.groupby(group, sort=False):
            color, points = COLOURS[groups.index(name) % len(COLOURS)], points.sort_values(x)
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
                **place,
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
                **place,
            )
        figure.update_yaxes(title=panel, **place)
    # On a narrow page a row of the legend holds one long name or a few short ones.
    rows = math.ceil(len(groups) / max(1, 48 // (8 + max(len(str(name)) for name in groups))))
    top = 40 + 25 * max(2, rows)
    style(figure, title, 50 + top + 270 * len(panels))
    figure.update_xaxes(title=axis, row=len(panels), col=1)
    return figure.update_layout(margin={"t": top})
