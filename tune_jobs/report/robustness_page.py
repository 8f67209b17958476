"""The page of an evaluation: scores against severity, reliability, risk against coverage, confusions, mistakes."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from edgenes.detection import risk_coverage
from tune_jobs.report.figures import reliability_figure
from tune_jobs.report.image_scores import BEFORE, DEEP, ENSEMBLE, MEMBER, ImageScores, measured
from tune_jobs.report.page import Drawing, Section, write_page
from tune_jobs.report.style import BLUE, GREEN, GREY, VERMILLION, style

COLOURS = {ENSEMBLE: VERMILLION, BEFORE: GREY, DEEP: GREEN, MEMBER: BLUE}
METRICS = {"accuracy": "accuracy", "nll": "NLL", "ece": "ECE"}
"""Panels of the figure against severity."""
DETECTION = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR at 95%"}
NONE = "No clean image is called wrong."
MISTAKES, CONFUSIONS, MATRIX, POINTS = 16, 12, 30, 300
"""Pictures and confusions shown, classes that a matrix of them has room for, points of a curve."""


@dataclass(frozen=True)
class Evaluation:
    """All that a page shows: `scores` by corruption and severity, ("clean", 0) first, and the clean images themselves.

    images: uint8 (N, C, S, S); `labels` (N,) and the ensemble's `probabilities` (N, classes) are of these. `ensembles`
    names the first rows of the scores; the others are of the members.
    """

    title: str
    ensembles: Sequence[str]
    scores: dict[tuple[str, int], ImageScores]
    ood: pd.DataFrame
    reliability: pd.DataFrame
    images: NDArray
    labels: NDArray
    probabilities: NDArray
    class_names: Sequence[str]
    notes: Sequence[str]

    @property
    def models(self) -> dict[str, slice]:
        """Rows of the scores by what they are of."""
        return model_rows(self.ensembles)


def model_rows(ensembles: Sequence[str]) -> dict[str, slice]:
    """Rows of `ImageScores` by what they are of: the named ensembles, one each, then the members."""
    return {name: slice(k, k + 1) for k, name in enumerate(ensembles)} | {MEMBER: slice(len(ensembles), None)}


def write(out: Path, evaluation: Evaluation, severities: pd.DataFrame, conditions: pd.DataFrame) -> Path:
    """Write index.html and its tables, the frames of severities and conditions too, into a folder; returns the page."""
    curve, confusions = risk_frame(evaluation), confusion_frame(evaluation)
    mistakes = mistake_frame(evaluation)
    clean = severities.iloc[0]
    lead = [
        f"{len(evaluation.labels)} images, {evaluation.title}: accuracy {clean['accuracy']:.4f} ± "
        f"{clean['accuracy_error']:.4f}, NLL {clean['nll']:.4f} ± {clean['nll_error']:.4f}.",
        *evaluation.notes,
    ]
    sections = []
    if len(conditions) > len(evaluation.models):
        text = "Means over the corruptions at each severity; bars are 95% intervals over images."
        if BEFORE in evaluation.models:
            text += " Members are not calibrated: compare them with the ensemble before its calibration."
        sections.append(Section("Corrupted images", text, severity_figure(severities)))
        text = "Means over severities: of the ensemble, of the deep ensemble if there is one, and of the mean member."
        sections.append(Section("", text, table=corruption_table(conditions)))
    if len(evaluation.ood):
        text = (
            "How well an uncertainty tells strange images from known ones. The false positive rate is the share of "
            "strange images accepted where 95% of the known ones are. ± is one standard error over images."
        )
        sections.append(Section("Strange images", text, table=detection_table(evaluation.ood)))
    sections += [
        Section("Reliability", "Of the clean images.", reliability_figure(evaluation.reliability)),
        Section("Risk against coverage", "The error on the most confident images.", risk_figure(curve)),
        _confusions(evaluation, confusions),
        Section("The most confident mistakes", NONE * mistakes.empty, table=_pictures(evaluation, mistakes)),
    ]
    frames = {
        "severities": severities,
        "conditions": conditions,
        "ood": evaluation.ood,
        "reliability": evaluation.reliability,
        "risk_coverage": curve,
        "confusions": confusions,
        "mistakes": mistakes,
    }
    return write_page(out, "EdgeNES: when not to trust it", lead, sections, frames)


def condition_frame(evaluation: Evaluation) -> pd.DataFrame:
    """A row for each corruption, severity and model: metrics and their standard errors."""
    rows = [
        {"corruption": name, "severity": severity, "model": model, **measured([scores], models)}
        for (name, severity), scores in evaluation.scores.items()
        for model, models in evaluation.models.items()
    ]
    return pd.DataFrame(rows)


def severity_frame(evaluation: Evaluation) -> pd.DataFrame:
    """A row for each severity and model, means over corruptions; severity 0 is clean."""
    rows = []
    for severity in sorted({severity for _, severity in evaluation.scores}):
        scores = [each for (_, at), each in evaluation.scores.items() if at == severity]
        for model, models in evaluation.models.items():
            rows.append({"severity": severity, "model": model, **measured(scores, models)})
    return pd.DataFrame(rows)


def severity_figure(frame: pd.DataFrame) -> go.Figure:
    """A panel a metric against severity, with 95% intervals."""
    figure = make_subplots(rows=len(METRICS), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, (metric, title) in enumerate(METRICS.items(), start=1):
        for model, points in frame.groupby("model", sort=False):
            figure.add_scatter(
                x=points["severity"],
                y=points[metric],
                error_y={"array": 1.96 * points[f"{metric}_error"], "thickness": 1.5, "width": 4},
                mode="lines+markers",
                name=model,
                legendgroup=model,
                showlegend=row == 1,
                line={"color": COLOURS[model], "width": 2},
                hovertemplate=f"severity %{{x}}<br>{title} %{{y:.4f}}<extra>{model}</extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(title=title, row=row, col=1)
    style(figure, "Against severity", 720)
    labels = ["clean", *map(str, range(1, 6))]
    figure.update_xaxes(tickvals=list(range(6)), ticktext=labels)
    return figure.update_xaxes(title="severity", row=len(METRICS), col=1)


def corruption_table(conditions: pd.DataFrame) -> pd.DataFrame:
    """A row for each corruption: the ensemble beside its mean member and a deep ensemble, means over severities."""
    means = conditions.pivot_table(list(METRICS), "corruption", "model", sort=False)
    table = pd.DataFrame({"corruption": means.index})
    for metric, title in METRICS.items():
        for model, head in ((ENSEMBLE, title), (DEEP, f"{title}, deep"), (MEMBER, f"{title}, member")):
            if (metric, model) in means:
                table[head] = means[metric, model].round(3).to_numpy()
    return table


def detection_table(ood: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of strange images and uncertainty: the measures with their standard errors."""
    table = ood[["data", "model", "score"]].rename(columns={"data": "images"})
    for measure, title in DETECTION.items():
        table[title] = [f"{value:.3f} ± {error:.3f}" for value, error in ood[[measure, f"{measure}_error"]].to_numpy()]
    return table


def risk_frame(evaluation: Evaluation) -> pd.DataFrame:
    """Error on the most confident share of the clean images: model, coverage, error; of members the mean."""
    clean, rows = evaluation.scores["clean", 0], []
    for model, models in evaluation.models.items():
        curves = [
            risk_coverage(confidence, correct == 0)
            for confidence, correct in zip(clean.confidence[models], clean.correct[models], strict=True)
        ]
        shown = np.unique(np.linspace(0, len(evaluation.labels) - 1, POINTS).astype(int))
        coverage, error = curves[0][0][shown], np.mean([error for _, error in curves], 0)[shown]
        rows.append(pd.DataFrame({"model": model, "coverage": coverage, "error": error}))
    return pd.concat(rows, ignore_index=True)


def risk_figure(frame: pd.DataFrame) -> go.Figure:
    """A line a model."""
    figure = go.Figure()
    for model, rows in frame.groupby("model", sort=False):
        line = {"color": COLOURS[model], "width": 2}
        hover = "coverage %{x:.1%}, error %{y:.2%}"
        figure.add_scatter(x=rows["coverage"], y=rows["error"], name=model, line=line, hovertemplate=hover)
    style(figure, "Risk against coverage", 400)
    figure.update_xaxes(title="coverage", tickformat=".0%", range=[0, 1.01])
    return figure.update_yaxes(title="error", tickformat=".1%", rangemode="tozero")


def confusion_frame(evaluation: Evaluation) -> pd.DataFrame:
    """A row for each label and prediction that occur: label, predicted, images, and the share of the label's images."""
    names = np.array(evaluation.class_names, dtype=object)
    pairs = {"label": names[evaluation.labels], "predicted": names[evaluation.probabilities.argmax(-1)]}
    frame = pd.DataFrame(pairs).value_counts().rename("images").reset_index()
    return frame.assign(share=frame["images"] / frame.groupby("label")["images"].transform("sum"))


def _confusions(evaluation: Evaluation, frame: pd.DataFrame) -> Section:
    wrong = frame[frame["label"] != frame["predicted"]].head(CONFUSIONS)
    figure = None
    if len(evaluation.class_names) <= MATRIX:
        names = [str(name) for name in evaluation.class_names]
        shares = frame.pivot(index="label", columns="predicted", values="share").reindex(index=names, columns=names)
        figure = go.Figure(
            go.Heatmap(
                z=shares.fillna(0),
                x=names,
                y=names,
                colorscale=[[0, "white"], [1, BLUE]],
                zmin=0,
                zmax=1,
                colorbar={"tickformat": ".0%"},
                hovertemplate="%{y} called %{x}: %{z:.1%}<extra></extra>",
            )
        )
        style(figure, "Share of each label's images", 480)
        figure.update_xaxes(title="predicted", type="category")
        figure.update_yaxes(title="label", type="category", autorange="reversed")
    text = "The most frequent ones of the clean images." if len(wrong) else NONE
    return Section("Confusions", text, figure, wrong.round(4))


def mistake_frame(evaluation: Evaluation) -> pd.DataFrame:
    """The wrong predictions of the clean images, the most confident first: image, label, predicted, confidence."""
    predicted, confidence = evaluation.probabilities.argmax(-1), evaluation.probabilities.max(-1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    wrong = wrong[(-confidence[wrong]).argsort(kind="stable")]
    names = np.array(evaluation.class_names, dtype=object)
    columns = {"label": names[evaluation.labels[wrong]], "predicted": names[predicted[wrong]]}
    return pd.DataFrame({"image": wrong, **columns, "confidence": confidence[wrong]})


def _pictures(evaluation: Evaluation, mistakes: pd.DataFrame) -> pd.DataFrame:
    shown = mistakes.head(MISTAKES)
    return shown.assign(picture=[_picture(evaluation.images[k]) for k in shown["image"]]).round(4)[
        ["picture", "label", "predicted", "confidence", "image"]
    ]


def _picture(image: NDArray) -> Drawing:
    """A PNG of 64 pixels in the page itself, uint8 (C, S, S)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) != 3 else image.transpose(1, 2, 0)).save(file, "png")
    data = base64.b64encode(file.getvalue()).decode()
    return Drawing(f'<img width=64 height=64 style="image-rendering:pixelated" src="data:image/png;base64,{data}">')
