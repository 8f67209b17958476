"""Figures of a sweep's report: for each, a function that returns its numbers and one that draws them.

Those of the predictor: predicted against measured losses, and what it says of edges. Those of calibration: the
ensemble's confidence before and after it.

The figures have a height and no width: they fill the page they are put in, from 400 pixels up.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from edgenes.predictor import PerformancePredictor
from edgenes.space.encoding import CELL_INPUTS, random_arrays
from edgenes.space.operations import label
from tune_jobs.report.page import Section
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, style, with_error

WEIGHT_TITLES = {"c_start": "weight c of the penalty at the start", "c_end": "weight c of the penalty at the end"}
KINDS = {
    "controlled": ("circle", BLUE),
    "uncontrolled": ("circle-open", VERMILLION),
    "pruned": ("x-thin", GREY),
}
"""Symbol and colour by kind of trial; a controlled one has a control error within the limit."""
DRAWN = 4096
"""Random genotypes over which the effect of an edge is averaged."""
SOURCES = ("from input 0", "from input 1", "from a node")
"""Of an edge, in the columns of its effects."""
BEST = 3
"""Genotypes that are named as the predictor's best."""
COLOURS = {"before": VERMILLION, "after": BLUE}
"""Before and after the calibration."""
PARTS = {"validation": "circle-open", "test": "circle", "all": "circle"}
"""Symbols of the parts of the data."""


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


def predictor_section(predictor: PerformancePredictor) -> Section:
    """The report's section on the predictor."""
    best = predictor.best(BEST, torch.Generator().manual_seed(0))
    losses = predictor.predict(best)[0]
    listed = "; ".join(f"{genotype} ({loss:.3f})" for genotype, loss in zip(best, losses, strict=True))
    return Section(
        "What the predictor says",
        f"Rank correlation of predicted and measured losses: {predictor.rank_correlation} (95% interval; 1 is perfect, "
        f"0 is chance). Each point is a short retraining of the survey, predicted without it. The table: by how much "
        f"the predicted loss of random genotypes with such an edge differs from that of all of them; less is better. "
        f"Best predicted genotypes of the whole space, with their losses: {listed}.",
        measured_figure(predictor_frame(predictor)),
        effects_table(predictor),
    )


def predictor_frame(predictor: PerformancePredictor) -> pd.DataFrame:
    """One row a surveyed genotype: its measured loss, and that predicted without it."""
    return pd.DataFrame(
        {
            "genotype": [str(genotype) for genotype in predictor.genotypes],
            "measured": predictor.losses,
            "predicted": predictor.unseen,
        }
    )


def measured_figure(frame: pd.DataFrame) -> go.Figure:
    """Predicted against measured losses, both on a logarithmic axis."""
    figure = go.Figure()
    ends = [frame[["measured", "predicted"]].min().min(), frame[["measured", "predicted"]].max().max()]
    line = {"color": GREY, "dash": "dash", "width": 1.5}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=frame["measured"],
        y=frame["predicted"],
        mode="markers",
        marker={"size": 9, "color": BLUE},
        text=frame["genotype"],
        hovertemplate="%{text}<br>measured %{x:.3f}, predicted %{y:.3f}<extra></extra>",
        showlegend=False,
    )
    style(figure, "Does the predictor rank genotypes that it has not seen?", 420)
    figure.update_xaxes(title="measured loss on H after a short retraining", type="log")
    return figure.update_yaxes(title="predicted loss", type="log")


def effects_table(predictor: PerformancePredictor) -> pd.DataFrame:
    """A row an operation: the mean predicted loss with such an edge, relative to random genotypes, by its source."""
    space = predictor.space
    inputs, operations = random_arrays(space, DRAWN, torch.Generator().manual_seed(0))
    losses = np.log(predictor.predict_arrays(inputs, operations))
    sources = np.minimum(inputs, CELL_INPUTS)
    rows = []
    for k, name in enumerate(space.operations):
        row = {"operation": label(name)}
        for source, title in enumerate(SOURCES):
            has = ((operations == k) & (sources == source)).any((1, 2, 3))
            row[title] = f"{100 * (np.exp(losses[has].mean() - losses.mean()) - 1):+.0f}%" if has.any() else ""
        rows.append(row)
    return pd.DataFrame(rows)


def reliability_section(record: dict[str, Any]) -> Section:
    """The diagram, with what was fitted and what it gained on V in words."""
    gain, error = record["nll_gain"], record["nll_gain_error"]
    text = "The mean of the members' probabilities is not calibrated."
    if record["method"] != "none":
        what = f"A temperature of {1 / record['scale'][0]:.3f}" if len(record["scale"]) == 1 else "A number each class"
        text = (
            f"{what}, fitted on the validation images, calibrates the mean of the members' probabilities. Chosen and "
            f"fitted on one half of them and scored on the other, it changes the NLL by {-gain:+.4f} ± {error:.4f}."
        )
    scores = [
        {"": f"{part}, {when}", **{name: round(value, 4) for name, value in numbers.items()}}
        for part, both in record["scores"].items()
        for when, numbers in both.items()
    ]
    return Section("Calibration", text, reliability_figure(pd.DataFrame(record["reliability"])), pd.DataFrame(scores))


def reliability_figure(frame: pd.DataFrame) -> go.Figure:
    """Accuracy against confidence, a dot for each bin, its size by its images; on the dotted line both are equal.

    frame: a row for each bin of confidence that has images: part, when, low, high, images, confidence, accuracy.
    """
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, showlegend=False)
    for (part, when), rows in frame.groupby(["part", "when"], sort=False):
        figure.add_scatter(
            x=rows["confidence"],
            y=rows["accuracy"],
            mode="markers",
            name=f"{part}, {when}",
            text=rows["images"],
            marker={
                "symbol": PARTS[part],
                "color": COLOURS[when],
                "size": 6 + 24 * (rows["images"] / frame["images"].max()) ** 0.5,
                "line": {"width": 1.5, "color": COLOURS[when]},
            },
            hovertemplate="confidence %{x:.3f}, accuracy %{y:.3f}, %{text} images<extra></extra>",
        )
    style(figure, "Reliability", 450)
    figure.update_xaxes(title="confidence")
    return figure.update_yaxes(title="accuracy")
