"""Reliability of the ensemble's confidence before and after calibration."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tune_jobs.report.page import Section
from tune_jobs.report.style import BLUE, GREY, VERMILLION, style

COLOURS = {"before": VERMILLION, "after": BLUE}
PARTS = {"validation": "circle-open", "test": "circle", "all": "circle"}


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
