"""What the performance predictor found, in the report: predicted against measured losses, and what it says of edges."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from edgenes.predictor import PerformancePredictor
from edgenes.space.encoding import CELL_INPUTS, random_arrays
from edgenes.space.operations import label
from tune_jobs.report.page import Section
from tune_jobs.report.style import BLUE, GREY, style

DRAWN = 4096
"""Random genotypes over which the effect of an edge is averaged."""
SOURCES = ("from input 0", "from input 1", "from a node")
BEST = 3


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
