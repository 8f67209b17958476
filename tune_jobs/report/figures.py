"""Figures of a sweep's report: for each, a function that returns its numbers and one that draws them.

The figures have a height and no width: they fill the page they are put in, from 400 pixels up.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, legend_mark, style, with_error

WEIGHT_TITLES = {"c_start": "weight c of the penalty at the start", "c_end": "weight c of the penalty at the end"}
SYMBOLS = {"controlled": "circle", "uncontrolled": "circle-open", "pruned": "x-thin-open"}
"""By kind of trial."""


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


def weight_figure(frame: pd.DataFrame, x: str = "c_end", limit: float = CONTROL_LIMIT) -> go.Figure:
    """Accuracy of a `weight_frame`'s trials against c (log axis), coloured by control error.

    Error bars are one standard error; the colour changes at `limit`.
    """
    greatest = max(2 * limit, frame["control_error"].fillna(0.0).max() if len(frame) else 0.0)
    figure = go.Figure()
    for (kind, measured), rows in frame.groupby(["kind", frame["control_error"].notna()], sort=False):
        color = {"color": rows["control_error"], "coloraxis": "coloraxis"} if measured else {"color": GREY}
        figure.add_scatter(
            x=rows[x],
            y=rows["value"],
            mode="markers",
            name=kind,
            legendgroup=kind,
            showlegend=False,
            marker={"symbol": SYMBOLS[kind], "size": 10, "line": {"width": _outline(kind)}, **color},
            error_y={"array": rows["standard_error"], "thickness": 1, "width": 0, "color": GREY},
            text=[_trial_text(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    for kind in [kind for kind in SYMBOLS if (frame["kind"] == kind).any()]:
        # A trace's own legend mark would take the colour of its first trial.
        legend_mark(figure, kind, SYMBOLS[kind], _outline(kind))
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
    style(figure, f"Accuracy by {x}", 500)
    figure.update_xaxes(title_text=WEIGHT_TITLES[x], type="log", **_log_ticks(frame[x]))
    figure.update_yaxes(title="accuracy")
    figure.update_layout(coloraxis=_control_colours(limit, greatest), margin={"t": 90, "b": 135})
    return figure


def _outline(kind: str) -> int:
    return 0 if kind == "controlled" else 2


def _trial_text(trial: Mapping[str, Any]) -> str:
    names = ("c_start", "c_end", "t_start", "t_end", "control_error", "pruned_step")
    lines = [f"<b>trial {trial['number']}</b>, {trial['kind']}", with_error(trial["value"], trial["standard_error"])]
    return "<br>".join(lines + [f"{n}: {trial[n]:.3g}" for n in names if pd.notna(trial.get(n))])


def _control_colours(limit: float, greatest: float) -> dict[str, Any]:
    """Blues up to the limit and oranges from it on: a step in hue, that no one has to guess."""
    step = limit / greatest + 1e-9  # a trial at the limit is within it
    return {
        "cmin": 0,
        "cmax": greatest,
        "colorscale": [[0, "#08306B"], [step, "#6BAED6"], [step, "#FDBF6F"], [1, "#A63603"]],
        "colorbar": {
            "title": {"text": "control error (edges)", "side": "top"},
            "orientation": "h",
            "thickness": 10,
            "y": -0.28,
            "yanchor": "top",
            "ticks": "outside",
            "tickvals": [limit, greatest],
            "ticktext": [f"limit {limit:g}", f"{greatest:.2g}"],
        },
    }


def _log_ticks(values: pd.Series) -> dict[str, Any]:
    """Whole decades, or 1-2-5 where the values span less than two: plotly's own crowd a narrow page."""
    if values.empty:
        return {}
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    decades = 10.0 ** np.arange(low, high + 1)
    close = np.log10(values.max() / values.min()) < 2
    ticks = np.outer(decades, [1, 2, 5]).ravel() if close else decades
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def members_frame(results: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What is compared, in the order given: columns name, validation, test, test_standard_error.

    The first is the one the study is about. Values that were not measured are NaN.
    """
    numbers = ["validation", "test", "test_standard_error"]
    frame = pd.DataFrame([dict(result) for result in results])
    return frame.reindex(columns=["name", *numbers]).astype(dict.fromkeys(numbers, float))


def ensemble_figure(frame: pd.DataFrame) -> go.Figure:
    """Test accuracy of a `members_frame`'s rows as dots with one standard error, and a line at the first.

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
        showlegend=False,
    )
    legend_mark(figure, "test ± 1 s.e.", "circle")
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
