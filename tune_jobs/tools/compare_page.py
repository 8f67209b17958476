"""The page of a comparison: the curves, trials and results of two studies in one picture each, and the tables."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tune_jobs.report.page import Section, page
from tune_jobs.report.style import BLUE, VERMILLION, need, style
from tune_jobs.tools.compare_rows import Side, difference_rows, params_word, result_rows, setting_rows, trials_rows

COLOURS = {"A": BLUE, "B": VERMILLION}
PALE = {"A": "rgba(0,114,178,0.45)", "B": "rgba(213,94,0,0.45)"}
CURVES = {
    "loss": ("loss of the supernet", "epoch"),
    "penalty": ("penalty", "epoch"),
    "control_error": ("control error (edges)", "epoch"),
    "intermediate": ("mean accuracy so far", "retrained candidates"),
}
"""What the curves show: title and x axis."""


def curves_frame(a: Side, b: Side) -> pd.DataFrame:
    """Columns study, trial, metric, x (epoch, or number of the candidate) and value, one row a recorded step."""
    rows = []
    for name, side in (("A", a), ("B", b)):
        for trial, curve in side.curves.items():
            for record in curve:
                candidate = record.get("intermediate_step")
                for metric in CURVES:
                    if metric in record and (candidate is None or metric == "intermediate"):
                        x = record["step"] if candidate is None else candidate
                        rows.append((name, trial, metric, x, record[metric]))
    return pd.DataFrame(rows, columns=["study", "trial", "metric", "x", "value"])


def curves_figure(frame: pd.DataFrame) -> go.Figure:
    """A panel a metric: each trial a thin line, the median over a study's trials a thick one."""
    need(frame, ("study", "trial", "metric", "x", "value"))
    shown = [metric for metric in CURVES if (frame["metric"] == metric).any()]
    figure = make_subplots(rows=max(1, len(shown)), cols=1, vertical_spacing=0.09)
    for row, metric in enumerate(shown, start=1):
        panel = frame[frame["metric"] == metric]
        for study, points in panel.groupby("study", sort=False):
            lines = _joined(points)
            figure.add_scatter(
                x=lines["x"],
                y=lines["value"],
                mode="lines",
                line={"color": PALE[study], "width": 1},
                text=lines["text"],
                hovertemplate=f"{study}, %{{text}}<br>%{{y:.4g}}<extra></extra>",
                showlegend=False,
                row=row,
                col=1,
            )
        for study, points in panel.groupby("study", sort=False):
            median = points.groupby("x")["value"].median()
            figure.add_scatter(
                x=median.index,
                y=median,
                name=f"{study}: median of its trials",
                legendgroup=study,
                showlegend=row == 1,
                mode="lines+markers",
                line={"color": COLOURS[study], "width": 3, "dash": "solid" if study == "A" else "dash"},
                marker={"size": 7, "symbol": "circle" if study == "A" else "diamond"},
                hovertemplate=f"{study}, median<br>%{{x}}: %{{y:.4g}}<extra></extra>",
                row=row,
                col=1,
            )
        title, x = CURVES[metric]
        figure.update_yaxes(title=title, row=row, col=1)
        figure.update_xaxes(title=x, dtick=max(1, round(panel["x"].max() / 8)), row=row, col=1)
    style(figure, "Learning curves", 110 + 240 * max(1, len(shown)))
    return figure


def _joined(points: pd.DataFrame) -> pd.DataFrame:
    """The curves of several trials one after the other, with a gap between them: one trace instead of many."""
    gap = pd.DataFrame([{"x": np.nan, "value": np.nan, "text": ""}])
    parts = []
    for trial, rows in points.groupby("trial"):
        parts += [rows[["x", "value"]].assign(text=f"trial {trial}"), gap]
    return pd.concat(parts, ignore_index=True)


def values_frame(answer: dict[str, Any]) -> pd.DataFrame:
    """Columns study, trial, value, standard_error, c_end, text: the complete trials of both."""
    rows = [
        (
            name,
            row["number"],
            side["value"],
            side["standard_error"],
            side["params"]["c_end"],
            params_word(side["params"]),
        )
        for row in answer["trials"]
        for name, side in (("A", row["a"]), ("B", row["b"]))
        if side and side["value"] is not None
    ]
    return pd.DataFrame(rows, columns=["study", "trial", "value", "standard_error", "c_end", "text"])


def values_figure(frame: pd.DataFrame, x: str, title: str) -> go.Figure:
    """The trials' values with one standard error against `x`, a column of the frame."""
    need(frame, ("study", "trial", "value", "standard_error", x, "text"))
    figure = go.Figure()
    for study, rows in frame.groupby("study", sort=False):
        shift = {"A": -0.08, "B": 0.08}[study] if x == "trial" else 0.0  # error bars side by side
        figure.add_scatter(
            x=rows[x] + shift,
            y=rows["value"],
            error_y={"array": rows["standard_error"], "thickness": 1, "width": 3},
            mode="markers",
            name=study,
            marker={"size": 11, "color": COLOURS[study], "symbol": "circle" if study == "A" else "diamond-open"},
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
    for k, (study, colour) in enumerate(COLOURS.items()):
        key = study.lower()
        figure.add_scatter(
            x=[row[f"mean_{key}"] for row in results],
            y=np.arange(len(results)) + (k - 0.5) * 0.24,
            error_x={"array": [row[f"error_{key}"] for row in results], "thickness": 1.5, "width": 4},
            mode="markers",
            name=study,
            text=[row["name"] for row in results],
            marker={"size": 11, "color": colour, "symbol": "circle" if study == "A" else "diamond-open"},
            hovertemplate=f"{study}, %{{text}}<br>%{{x:.4f}}<extra></extra>",
        )
    for k, row in enumerate(results):
        # Above its dots and not beside them: a narrow page has no room for names at the left.
        figure.add_annotation(
            xref="paper", x=0, xanchor="left", y=k, yshift=22, showarrow=False, text=row["name"],
            bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    style(figure, "Test accuracy ± 1 s.e.", 150 + 60 * len(results))
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(visible=False, range=[len(results) - 0.4, -0.8], fixedrange=True)
    return figure


def comparison_page(a: Side, b: Side, answer: dict[str, Any]) -> str:
    """The comparison as one HTML page that works offline."""
    names = [answer[key]["folder"] for key in ("a", "b")]
    lead = [f"A is {names[0]}, B is {names[1]}; differences are B - A.", answer["conclusion"]]
    if answer["settings"]:
        sections = [Section("What differs", table=_table(setting_rows(answer["settings"])))]
    else:
        sections = [Section("What differs", "Settings, data and environment are the same.")]
    sections += [Section("", note) for note in answer["notes"]]
    text = answer["pairing"]["text"]
    sections.append(Section("Trials", f"{text[:1].upper()}{text[1:]}."))
    values = values_frame(answer)
    if len(values):
        sections.append(Section("", figure=values_figure(values, "trial", "Value of the trials ± 1 s.e.")))
        sections.append(Section("", figure=values_figure(values, "c_end", "Value against c")))
    if answer["differences"]:
        sections.append(Section("", table=_table(difference_rows(answer["differences"]))))
    curves = curves_frame(a, b)
    if len(curves):
        sections.append(Section("Curves", figure=curves_figure(curves)))
    if answer["results"]:
        table = _table(result_rows(answer["results"]))
        sections.append(Section("Results", figure=results_figure(answer["results"]), table=table))
    sections.append(Section("All trials", table=_table(trials_rows(answer["trials"]))))
    return page("EdgeNES: two studies compared", lead, sections)


def _table(rows: list[list[str]]) -> pd.DataFrame:
    head, *body = rows
    return pd.DataFrame(body, columns=head)
