"""The pictures of a study: for each, a function that returns its numbers and one that draws them.

The figures have a height and no width: they fill the page they are put in, from 400 pixels up.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from edgenes.errors import ConfigError
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.report.cell_drawing import cell_figure, cell_frame
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, legend_mark, need, style, with_error

__all__ = [
    "cell_figure",
    "cell_frame",
    "control_error",
    "control_figure",
    "control_frame",
    "ensemble_figure",
    "members_frame",
    "weight_figure",
    "weight_frame",
]
WEIGHT_TITLES = {
    "c_start": "weight c of the penalty at the start",
    "c_end": "weight c of the penalty at the end",
    "t_start": "temperature at the start",
    "t_end": "temperature at the end",
}


def weight_frame(trials: pd.DataFrame, x: str = "c_end") -> pd.DataFrame:
    """The trials that can be shown against `x`, with two more columns.

    `kind` is "controlled" or "uncontrolled" for complete trials (by their column `feasible`) and "pruned" for
    pruned ones, whose `value` is their last intermediate one; `best` marks the controlled trial of the
    greatest value, the first of equal ones. Trials without a value or without a positive `x` are left out.
    Raises ConfigError for an unknown `x` or a missing column.
    """
    if x not in WEIGHT_TITLES:
        raise ConfigError(f"x must be one of {', '.join(WEIGHT_TITLES)}; got {x!r}")
    need(trials, ("number", "state", "value", "standard_error", x, "control_error", "feasible"))
    numbers = ["value", "standard_error", x, "control_error"]
    trials = trials.assign(**{column: pd.to_numeric(trials[column]) for column in numbers})
    shown = trials["state"].isin(["COMPLETE", "PRUNED"]) & trials["value"].notna() & (trials[x] > 0)
    frame = trials[shown].sort_values("number").reset_index(drop=True)
    feasible = frame["feasible"].eq(True).fillna(False).to_numpy(bool)
    kinds = np.where(feasible, "controlled", "uncontrolled")
    frame["kind"] = np.where(frame["state"] == "PRUNED", "pruned", kinds)
    controlled = frame.loc[frame["kind"] == "controlled", "value"]
    frame["best"] = frame.index == (controlled.idxmax() if len(controlled) else -1)
    return frame


def weight_figure(frame: pd.DataFrame, x: str = "c_end", limit: float = CONTROL_LIMIT) -> go.Figure:
    """Accuracy of the trials against a weight or temperature (log axis), coloured by control error.

    Takes trials as `weight_frame` does. Error bars are one standard error; the colour changes at `limit`.
    """
    trials = weight_frame(frame, x)
    greatest = max(2 * limit, trials["control_error"].fillna(0.0).max() if len(trials) else 0.0)
    figure = go.Figure()
    symbols = {"controlled": "circle", "uncontrolled": "circle-open", "pruned": "x-thin-open"}
    for (kind, measured), rows in trials.groupby(["kind", trials["control_error"].notna()], sort=False):
        color = {"color": rows["control_error"], "coloraxis": "coloraxis"} if measured else {"color": GREY}
        outline = {"width": 0 if kind == "controlled" else 2}
        figure.add_scatter(
            x=rows[x],
            y=rows["value"],
            mode="markers",
            name=kind,
            legendgroup=kind,
            showlegend=False,
            marker={"symbol": symbols[kind], "size": 10, "line": outline, **color},
            error_y={"array": rows["standard_error"], "thickness": 1, "width": 0, "color": GREY},
            text=[_trial_text(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    for kind, symbol in symbols.items():
        if (trials["kind"] == kind).any():
            # A trace's own legend mark would take the colour of its first trial.
            legend_mark(figure, kind, symbol, line=0 if kind == "controlled" else 2)
    best = trials[trials["best"]]
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
    title = WEIGHT_TITLES[x] + _left_out(len(frame) - len(trials))
    figure.update_xaxes(title_text=title, type="log", **_log_ticks(trials[x]))
    figure.update_yaxes(title="accuracy")
    figure.update_layout(
        coloraxis={
            "cmin": 0,
            "cmax": greatest,
            "colorscale": _control_scale(limit / greatest),
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
        },
        margin={"t": 90, "b": 135},
    )
    return figure


def _trial_text(trial: Mapping[str, Any]) -> str:
    names = ("c_start", "c_end", "t_start", "t_end", "control_error", "pruned_step")
    lines = [
        f"<b>trial {trial['number']}</b>, {trial['kind']}",
        with_error(trial["value"], trial["standard_error"]),
    ]
    return "<br>".join(lines + [f"{n}: {trial[n]:.3g}" for n in names if pd.notna(trial.get(n))])


def _control_scale(limit: float) -> list[list[Any]]:
    """Blues up to the limit and oranges from it on: a step in hue, that no one has to guess."""
    limit = limit + 1e-9  # a trial at the limit is within it
    return [[0, "#08306B"], [limit, "#6BAED6"], [limit, "#FDBF6F"], [1, "#A63603"]]


def _log_ticks(values: pd.Series) -> dict[str, Any]:
    """Whole decades, or 1-2-5 where the values span less than two: plotly's own crowd a narrow page."""
    if values.empty:
        return {}
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    decades = 10.0 ** np.arange(low, high + 1)
    close = np.log10(values.max() / values.min()) < 2
    ticks = np.outer(decades, [1, 2, 5]).ravel() if close else decades
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _left_out(count: int) -> str:
    return f"<br><sup>{count} trial{'s' if count > 1 else ''} without a value not shown</sup>" if count else ""


def control_frame(curve: Iterable[Mapping[str, Any]], candidates: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Shared edges and accuracy against lambda: columns lambda, shared, ideal, accuracy, source.

    `curve` holds {"lambda", "shared"} of argmax genotypes; an item of either argument may also hold
    "accuracy", "standard_error" and "source" ("argmax", the default, or "sample"). What was not given is NaN.
    `ideal` is lambda itself. Sorted by lambda. Raises ConfigError for an item without lambda or with another
    source.
    """
    frame = pd.DataFrame([dict(item) for item in (*curve, *candidates)])
    need(frame, ("lambda",))
    frame = frame.reindex(columns=["lambda", "shared", "accuracy", "standard_error", "source"])
    frame["source"] = frame["source"].astype(object).fillna("argmax")
    if not frame["source"].isin(["argmax", "sample"]).all():
        raise ConfigError(f"source must be argmax or sample; got {sorted(set(frame['source']))}")
    numbers = ["lambda", "shared", "accuracy", "standard_error"]
    frame[numbers] = frame[numbers].astype(float)
    frame.insert(2, "ideal", frame["lambda"])
    return frame.sort_values("lambda", kind="stable").reset_index(drop=True)


def control_error(frame: pd.DataFrame) -> float:
    """Mean |lambda - shared| of the argmax genotypes at whole lambda; NaN where the frame has none."""
    rows = frame[(frame["source"] == "argmax") & frame["shared"].notna() & (frame["lambda"] % 1 == 0)]
    rows = rows.drop_duplicates("lambda")
    return float((rows["lambda"] - rows["shared"]).abs().mean())


def control_figure(frame: pd.DataFrame) -> go.Figure:
    """Shared edges against lambda beside the ideal, and, where measured, the candidates' accuracy below."""
    need(frame, ("lambda", "shared", "ideal", "accuracy", "source"))
    panels = 2 if frame["accuracy"].notna().any() else 1
    figure = make_subplots(rows=panels, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    ideal = frame.drop_duplicates("lambda")
    figure.add_scatter(
        x=ideal["lambda"],
        y=ideal["ideal"],
        mode="lines",
        name="ideal",
        line={"color": GREY, "dash": "dash", "width": 1.5},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    looks = {"argmax": (BLUE, "circle"), "sample": (VERMILLION, "diamond-open")}
    for row, column in enumerate(["shared", "accuracy"][:panels], start=1):
        for source, (color, symbol) in looks.items():
            points = frame[(frame["source"] == source) & frame[column].notna()]
            if points.empty:
                continue
            errors = points.get("standard_error") if column == "accuracy" else None
            figure.add_scatter(
                x=points["lambda"],
                y=points[column],
                mode="lines+markers" if (source, column) == ("argmax", "shared") else "markers",
                name=source,
                legendgroup=source,
                showlegend=source not in {trace.legendgroup for trace in figure.data},
                line={"color": color, "width": 2},
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": 9,
                    "line": {"width": 2 if "open" in symbol else 0},
                },
                error_y={"array": errors, "thickness": 1, "width": 0, "color": GREY},
                hovertemplate=f"lambda %{{x:.3g}}<br>{column} %{{y:.4g}}<extra>{source}</extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(title="shared edges" if column == "shared" else column, row=row, col=1)
    error = control_error(frame)
    title = "Control" if np.isnan(error) else f"Control error {error:.2f} edges"
    style(figure, title, 300 if panels == 1 else 500)
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title="lambda", row=panels, col=1)
    most = frame[["ideal", "shared"]].max(axis=None)
    figure.update_yaxes(dtick=1, range=[-0.3, most + 0.3], row=1, col=1)
    return figure


def members_frame(results: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What is compared, in the order given: columns name, validation, test, test_standard_error.

    The first is the one the study is about. Values that were not measured are NaN. Raises ConfigError for a
    result without a name, or for none at all.
    """
    frame = pd.DataFrame([dict(result) for result in results])
    need(frame, ("name",))
    frame = frame.reindex(columns=["name", "validation", "test", "test_standard_error"])
    numbers = list(frame.columns[1:])
    frame[numbers] = frame[numbers].astype(float)
    return frame


def ensemble_figure(frame: pd.DataFrame) -> go.Figure:
    """Test accuracy of the ensemble, its members and the baselines as dots with one standard error.

    The validation accuracy is an open dot beside it; a line marks the first row's test accuracy.
    """
    need(frame, ("name", "validation", "test", "test_standard_error"))
    rows = np.arange(len(frame))
    colors = [VERMILLION] + [BLUE] * (len(frame) - 1)
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
        marker={"size": 11, "color": colors},
        error_x={"array": frame["test_standard_error"], "thickness": 1.5, "width": 4, "color": INK},
        hovertemplate="%{text}<br>test %{x:.4f}<extra></extra>",
        showlegend=False,
    )
    legend_mark(figure, "test ± 1 s.e.", "circle")
    if pd.notna(frame["test"].iloc[0]):
        figure.add_vline(x=frame["test"].iloc[0], line={"color": VERMILLION, "width": 1, "dash": "dot"})
    for row, result in zip(rows, frame.to_dict("records"), strict=True):
        # Above its dot and not beside it: a narrow page has no room for names at the left.
        figure.add_annotation(
            xref="paper",
            x=0,
            y=row,
            yshift=17,
            bgcolor="rgba(255,255,255,0.8)",
            xanchor="left",
            showarrow=False,
            text=f"{result['name']}: {with_error(result['test'], result['test_standard_error'])}",
        )
    style(figure, "Test accuracy", 150 + 48 * len(frame))
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(visible=False, range=[len(frame) - 0.5, -0.8], fixedrange=True)
    figure.update_layout(margin={"l": 16})
    return figure
