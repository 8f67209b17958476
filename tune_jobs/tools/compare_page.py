"""The page of a comparison: values, curves and results of two studies in one picture each, and the tables."""

import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tune_jobs.report.page import Section, page
from tune_jobs.report.style import BLUE, VERMILLION, style
from tune_jobs.study.space import with_derived
from tune_jobs.tools.compare import params_text, tables

COLOURS = {"A": BLUE, "B": VERMILLION}
PALE = {"A": "rgba(0,114,178,0.45)", "B": "rgba(213,94,0,0.45)"}
SYMBOLS = {"A": "circle", "B": "diamond-open"}
CURVES = {
    "loss": ("loss of the supernet", "epoch"),
    "penalty": ("penalty", "epoch"),
    "control_error": ("control error (edges)", "epoch"),
    "intermediate": ("mean accuracy so far", "retrained candidates"),
}
"""What the curves show: title and x axis."""


def comparison_page(answer: dict[str, Any], curves: pd.DataFrame) -> str:
    """The comparison as one HTML page that works offline; `curves` holds study, trial, step and what was recorded."""
    shown = tables(answer)
    names = f"A is {answer['a']['folder']}, B is {answer['b']['folder']}; differences are B - A."
    same = "" if answer["settings"] else "Settings, data and environment are the same. "
    pairing = answer["pairing"]["text"]
    sections = [
        Section("What differs", same + " ".join(answer["notes"]), table=shown["settings"] if not same else None),
        Section("Trials", f"{pairing[:1].upper()}{pairing[1:]}.", table=shown["differences"]),
    ]
    values = values_frame(answer)
    if len(values):
        sections.append(Section("", figure=values_figure(values, "trial", "Value of the trials ± 1 s.e.")))
        sections.append(Section("", figure=values_figure(values, "c_end", "Value against c")))
    if len(curves):
        sections.append(Section("Curves", figure=curves_figure(curves)))
    if answer["results"]:
        sections.append(Section("Results", figure=results_figure(answer["results"]), table=shown["results"]))
    sections.append(Section("All trials", table=shown["trials"]))
    return page("EdgeNES: two studies compared", [names, answer["conclusion"]], sections)


def curves_figure(curves: pd.DataFrame) -> go.Figure:
    """A panel a metric: each trial a thin line, the median over a study's trials a thick one."""
    candidate = curves["intermediate_step"].notna()
    frame = curves.assign(x=curves["intermediate_step"].fillna(curves["step"]))
    frame.loc[candidate, ["loss", "penalty", "control_error"]] = np.nan
    panels = {metric: frame.dropna(subset=metric) for metric in CURVES}
    panels = {metric: rows for metric, rows in panels.items() if len(rows)}
    figure = make_subplots(rows=max(1, len(panels)), cols=1, vertical_spacing=0.09)
    for place, (metric, panel) in enumerate(panels.items(), start=1):
        for study, rows in panel.groupby("study"):
            lines = _joined(rows, metric)
            figure.add_scatter(
                x=lines["x"], y=lines[metric], mode="lines", line={"color": PALE[study], "width": 1}, row=place, col=1,
                text=lines["text"], hovertemplate=f"{study}, %{{text}}<br>%{{y:.4g}}<extra></extra>", showlegend=False,
            )  # fmt: skip
            median = rows.groupby("x")[metric].median()
            figure.add_scatter(
                x=median.index, y=median, name=f"{study}: median of its trials", legendgroup=study, row=place, col=1,
                showlegend=place == 1, line={"color": COLOURS[study], "width": 3}, marker={"symbol": SYMBOLS[study]},
                mode="lines+markers", hovertemplate=f"{study}, median<br>%{{x}}: %{{y:.4g}}<extra></extra>",
            )  # fmt: skip
        title, x = CURVES[metric]
        figure.update_yaxes(title=title, row=place, col=1)
        figure.update_xaxes(title=x, dtick=max(1, round(panel["x"].max() / 8)), row=place, col=1)
    style(figure, "Learning curves", 110 + 240 * max(1, len(panels)))
    return figure


def _joined(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The curves of several trials one after the other, with a gap between them: one trace instead of many."""
    gap = pd.DataFrame([{"x": np.nan, metric: np.nan, "text": ""}])
    parts = [(curve[["x", metric]].assign(text=f"trial {trial}"), gap) for trial, curve in rows.groupby("trial")]
    return pd.concat([part for pair in parts for part in pair], ignore_index=True)


def values_frame(answer: dict[str, Any]) -> pd.DataFrame:
    """Columns study, trial, value, standard_error, c_end, text: the complete trials of both."""
    rows = [
        (
            side,
            row["number"],
            row[f"value {side}"],
            row[f"standard_error {side}"],
            with_derived(json.loads(row["parameters"]))["c_end"],
            params_text(row["parameters"]),
        )
        for row in answer["trials"]
        for side in COLOURS
        if row[f"value {side}"] is not None
    ]
    return pd.DataFrame(rows, columns=["study", "trial", "value", "standard_error", "c_end", "text"])


def values_figure(frame: pd.DataFrame, x: str, title: str) -> go.Figure:
    """The trials' values with one standard error against `x`, a column of the frame."""
    figure = go.Figure()
    for study, rows in frame.groupby("study"):
        shift = {"A": -0.08, "B": 0.08}[study] if x == "trial" else 0.0  # error bars side by side
        figure.add_scatter(
            x=rows[x] + shift,
            y=rows["value"],
            error_y={"array": rows["standard_error"], "thickness": 1, "width": 3},
            mode="markers",
            name=study,
            marker={"size": 11, "color": COLOURS[study], "symbol": SYMBOLS[study]},
            text=[f"{study}, trial {trial}<br>{text}" for trial, text in zip(rows["trial"], rows["text"], strict=True)],
            hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
        )
    style(figure, title, 380)
    if x == "trial":
        figure.update_xaxes(title="trial", tickformat="d", dtick=1 if frame["trial"].max() < 20 else None)
    else:
        figure.update_xaxes(title="weight c of the penalty at the end", type="log")
    figure.update_yaxes(title="value")
    return figure


def results_figure(results: list[dict[str, Any]]) -> go.Figure:
    """Test accuracy of the ensembles and of the baselines of both studies, with one standard error."""
    figure = go.Figure()
    for study, colour in COLOURS.items():
        key = study.lower()
        figure.add_scatter(
            x=[row[f"mean_{key}"] for row in results],
            y=[row["name"] for row in results],
            error_x={"array": [row[f"error_{key}"] for row in results], "thickness": 1.5, "width": 4},
            mode="markers",
            name=study,
            marker={"size": 11, "color": colour, "symbol": SYMBOLS[study]},
            hovertemplate=f"{study}, %{{y}}<br>%{{x:.4f}}<extra></extra>",
        )
    style(figure, "Test accuracy ± 1 s.e.", 150 + 60 * len(results))
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(autorange="reversed")
    return figure
