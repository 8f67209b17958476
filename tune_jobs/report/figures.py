"""Figures of a sweep's report: for each, a function that returns its numbers and one that draws them.

The figures have a height and no width: they fill the page they are put in, from 400 pixels up.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, style, with_error

WEIGHT_TITLES = {"c_start": "weight c of the penalty at the start", "c_end": "weight c of the penalty at the end"}
KINDS = {
    "controlled": ("circle", BLUE),
    "uncontrolled": ("circle-open", VERMILLION),
    "pruned": ("x-thin", GREY),
}
"""Symbol and colour by kind of trial; a controlled one has a control error within the limit."""


def weight_frame(trials: pd.DataFrame, x: str = "c_end") -> pd.DataFrame:
    """The trials that have a value and a positive `x`, with two more columns.

    `kind` is "controlled" or "uncontrolled" for complete trials (by their column `feasible`) and "pruned" for
    pruned ones, whose `value` is their last intermediate one; `best` marks the controlled trial of the
    greatest value, the first of equal ones.
    """
    trials = trials.astype(dict.fromkeys(["value", "standard_error", x, "control_error"], float))
    shown = trials["state"].isin(["COMPLETE", "PRUNED"]) & trials["value"].notna() & (trials[x] > 0)
    frame = trials[shown].sort_values("number", ignore_index=True)
    kinds = np.where(frame["feasible"].eq(True), "controlled", "uncontrolled")
    frame["kind"] = np.where(frame["state"] == "PRUNED", "pruned", kinds)
    controlled = frame.loc[frame["kind"] == "controlled", "value"]
    frame["best"] = frame.index == (controlled.idxmax() if len(controlled) else -1)
    return frame


def weight_figure(frame: pd.DataFrame, x: str = "c_end") -> go.Figure:
    """Accuracy of a `weight_frame`'s trials against c (log axis); error bars are one standard error."""
    figure = go.Figure()
    for kind, (symbol, color) in KINDS.items():
        rows = frame[frame["kind"] == kind]
        if len(rows):
            figure.add_scatter(
                x=rows[x],
                y=rows["value"],
                mode="markers",
                name=kind,
                marker={"symbol": symbol, "size": 10, "color": color, "line": {"width": 2, "color": color}},
                error_y={"array": rows["standard_error"], "thickness": 1, "width": 0, "color": GREY},
                text=[_trial_text(row) for row in rows.to_dict("records")],
                hovertemplate="%{text}<extra></extra>",
            )
    best = frame[frame["best"]]
    if len(best):
        figure.add_scatter(
            x=best[x],
            y=best["value"],
            mode="markers",
            name="best",
            marker={"symbol": "circle-open", "size": 20, "color": INK, "line": {"width": 2}},
            hoverinfo="skip",
        )
    style(figure, f"Accuracy by {x}", 450)
    figure.update_xaxes(title_text=WEIGHT_TITLES[x], type="log", nticks=8)
    return figure.update_yaxes(title="accuracy")


def _trial_text(trial: Mapping[str, Any]) -> str:
    names = ("c_start", "c_end", "t_start", "t_end", "control_error", "pruned_step")
    lines = [f"<b>trial {trial['number']}</b>, {trial['kind']}", with_error(trial["value"], trial["standard_error"])]
    return "<br>".join(lines + [f"{n}: {trial[n]:.3g}" for n in names if pd.notna(trial.get(n))])


def ensemble_figure(frame: pd.DataFrame) -> go.Figure:
    """Test accuracy of the rows of `comparison` as dots with one standard error, and a line at the first.

    The validation accuracy is an open dot beside it.
    """
    rows = np.arange(len(frame))
    figure = go.Figure()
    figure.add_scatter(
        x=frame["validation"],
        y=rows,
        mode="markers",
        name="validation",
        text=frame["name"],
        marker={"symbol": "circle-open", "size": 10, "color": GREY, "line": {"width": 1.5}},
        hovertemplate="%{text}<br>validation %{x:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=frame["test"],
        y=rows,
        mode="markers",
        name="test ± 1 s.e.",
        text=frame["name"],
        marker={"size": 11, "color": [VERMILLION] + [BLUE] * (len(frame) - 1)},
        error_x={"array": frame["test_standard_error"], "thickness": 1.5, "width": 4, "color": INK},
        hovertemplate="%{text}<br>test %{x:.4f}<extra></extra>",
    )
    figure.add_vline(x=frame["test"].iloc[0], line={"color": VERMILLION, "width": 1, "dash": "dot"})
    for row, result in zip(rows, frame.to_dict("records"), strict=True):
        # Above its dot and not beside it: a narrow page has no room for names at the left.
        figure.add_annotation(
            xref="paper",
            x=0,
            xanchor="left",
            y=row,
            yshift=17,
            bgcolor="rgba(255,255,255,0.8)",
            showarrow=False,
            text=f"{result['name']}: {with_error(result['test'], result['test_standard_error'])}",
        )
    style(figure, "Test accuracy", 150 + 48 * len(frame))
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(visible=False, range=[len(frame) - 0.5, -0.8], fixedrange=True)
    figure.update_layout(margin={"l": 16})
    return figure
