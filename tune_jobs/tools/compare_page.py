"""The page of a comparison: its tables, and the learning curves of both studies in one picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tune_jobs.report.page import Section, page
from tune_jobs.report.style import BLUE, VERMILLION, style

COLOURS = {"A": BLUE, "B": VERMILLION}
SYMBOLS = {"A": "circle", "B": "diamond-open"}
CURVES = {
    "loss": ("loss of the supernet", "epoch"),
    "penalty": ("penalty", "epoch"),
    "control_error": ("control error (edges)", "epoch"),
    "intermediate": ("mean accuracy so far", "retrained candidates"),
}
"""What the curves show: title and x axis."""


def comparison_page(answer: dict[str, Any], tables: Mapping[str, pd.DataFrame], curves: pd.DataFrame) -> str:
    """One HTML page that works offline; `curves` has the columns study, trial, step and what a step recorded."""
    names = f"A is {answer['a']['folder']}, B is {answer['b']['folder']}; differences are B - A."
    sections = [
        Section("What differs", " ".join(answer["notes"]), table=tables["settings"]),
        Section("Trials", answer["pairing"]["text"], table=tables["differences"]),
    ]
    if len(curves):
        sections.append(Section("Curves", figure=curves_figure(curves)))
    if answer["results"]:
        sections.append(Section("Results", "Test accuracy, with its standard error.", table=tables["results"]))
    sections.append(Section("All trials", table=tables["trials"]))
    return page("EdgeNES: two studies compared", [names, answer["conclusion"]], sections)


def curves_figure(curves: pd.DataFrame) -> go.Figure:
    """A panel a metric: each trial a thin line, the median over a study's trials a thick one."""
    candidate = curves["intermediate_step"].notna()
    frame = curves.assign(x=curves["intermediate_step"].fillna(curves["step"]))
    frame.loc[candidate, ["loss", "penalty", "control_error"]] = np.nan
    panels = {metric: frame.dropna(subset=metric) for metric in CURVES if frame[metric].notna().any()}
    figure = make_subplots(rows=max(1, len(panels)), cols=1, vertical_spacing=0.09)
    for row, (metric, panel) in enumerate(panels.items(), start=1):
        place = {"row": row, "col": 1}
        for study, rows in panel.groupby("study"):
            colour = COLOURS[study]
            # One trace for all trials, with gaps: hundreds of traces would make the page slow.
            gap = pd.DataFrame([{"x": np.nan, metric: np.nan}])
            lines = pd.concat([part for _, curve in rows.groupby("trial") for part in (curve, gap)])
            figure.add_scatter(
                x=lines["x"],
                y=lines[metric],
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.45,
                hovertemplate=f"{study}, trial %{{text}}<br>%{{y:.4g}}<extra></extra>",
                text=lines["trial"],
                showlegend=False,
                **place,
            )
            median = rows.groupby("x")[metric].median()
            figure.add_scatter(
                x=median.index,
                y=median,
                mode="lines+markers",
                name=f"{study}: median of its trials",
                legendgroup=study,
                showlegend=row == 1,
                line={"color": colour, "width": 3},
                marker={"symbol": SYMBOLS[study]},
                hovertemplate=f"{study}, median<br>%{{x}}: %{{y:.4g}}<extra></extra>",
                **place,
            )
        title, x = CURVES[metric]
        figure.update_yaxes(title=title, **place)
        figure.update_xaxes(title=x, dtick=max(1, round(panel["x"].max() / 8)), **place)
    style(figure, "Learning curves", 110 + 240 * max(1, len(panels)))
    return figure
