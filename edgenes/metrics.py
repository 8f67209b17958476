"""Metrics of predictions: accuracy, likelihood, calibration and diversity of class probabilities.

Everywhere here probabilities are (samples, classes), predictions of several members are
(members, samples, classes), labels are integers (samples,), and sums are taken in float64.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes.errors import ConfigError

TINY = float(np.finfo(np.float32).tiny)
"""The least probability that `nll` takes the logarithm of (1.2e-38, the smallest normal float32), so that
a class a float32 softmax has rounded to 0 costs 87.3 nats and not infinity."""

ECE_BINS = 15
"""Equal-width bins of confidence in `ece`, as in Guo et al. (2017)."""

SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from adding to 1: rounding, but not logits or log-probabilities."""


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples whose most probable class is the label; of equal classes the first counts."""
    return float(correct(probabilities, labels).mean())


def correct(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.bool_]:
    """Whether each sample's most probable class is its label, (samples,)."""
    probabilities, labels = check_probabilities(probabilities, labels)
    return probabilities.argmax(-1) == labels


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels in nats, with probabilities below `TINY` raised to it."""
    probabilities, labels = check_probabilities(probabilities, labels)
    return float(-np.log(np.maximum(of_labels(probabilities, labels), TINY)).mean())


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over samples of the squared distance from the one-hot label, summed over classes: in [0, 2]."""
    probabilities, labels = check_probabilities(probabilities, labels)
    target = np.eye(probabilities.shape[-1])[labels]
    return float(((probabilities - target) ** 2).sum(-1).mean())


def ece(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Expected calibration error: sum over bins of (samples in it / samples) * |accuracy - confidence|.

    Confidence is the largest probability; `ECE_BINS` bins of equal width, each open at its lower edge and
    closed at its upper one: (k / 15, (k + 1) / 15].
    """
    probabilities, labels = check_probabilities(probabilities, labels)
    confidence = probabilities.max(-1)
    edges = np.linspace(0, 1, ECE_BINS + 1)
    # A row may add to 1 + SUM_TOLERANCE, so its confidence may pass the last edge: it stays in the last bin.
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    excess = (probabilities.argmax(-1) == labels) - confidence
    return float(np.abs(np.bincount(bins, weights=excess, minlength=ECE_BINS)).sum() / len(labels))


def summary(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """The four numbers that are reported of every network and every ensemble."""
    metrics = {"accuracy": accuracy, "nll": nll, "ece": ece, "brier": brier}
    return {name: metric(probabilities, labels) for name, metric in metrics.items()}


def ensemble_probabilities(predictions: ArrayLike) -> NDArray[np.float64]:
    """Mean of the members' probabilities, (samples, classes), from predictions (members, samples, classes).

    Members are added one after the other: `selection` adds along prefixes and so gets the very same bits.
    """
    predictions = check_predictions(predictions)
    return reduce(np.add, predictions) / len(predictions)


def disagreement(predictions: ArrayLike) -> float:
    """Share of samples on which two members predict different classes, averaged over all pairs of members.

    0 for a single member, which has nobody to disagree with.
    """
    votes = check_predictions(predictions).argmax(-1)
    if len(votes) == 1:
        return 0.0
    first, second = np.triu_indices(len(votes), k=1)
    return float(np.mean([(votes[i] != votes[j]).mean() for i, j in zip(first, second, strict=True)]))


def of_labels(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The label's probability, (..., samples), from probabilities (..., samples, classes)."""
    return probabilities[..., np.arange(len(labels)), labels]


def check_predictions(predictions: ArrayLike) -> NDArray[np.float64]:
    """Predictions (members, samples, classes) in float64.

    Raises ConfigError if the shape is another, an axis is empty, or a row is no probability distribution.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    if predictions.ndim != 3 or 0 in predictions.shape:
        raise ConfigError(f"predictions must be (members, samples, classes), none of them 0; got {predictions.shape}")
    _check_distributions(predictions)
    return predictions


def check_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Probabilities (samples, classes) in float64 and labels (samples,).

    Raises ConfigError if a shape is another, a row is no probability distribution, or a label no class.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ConfigError(f"probabilities must be (samples, classes), none of them 0; got {probabilities.shape}")
    _check_distributions(probabilities)
    return probabilities, check_labels(labels, *probabilities.shape)


def check_labels(labels: ArrayLike, samples: int, classes: int) -> NDArray[np.integer]:
    """Labels (samples,); raises ConfigError if they are not that many whole numbers in 0..classes - 1."""
    labels = np.asarray(labels)
    if labels.shape != (samples,):
        raise ConfigError(f"labels must be one a sample, shape ({samples},); got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(f"labels must be integers; got dtype {labels.dtype}: convert with .astype(int)")
    if labels.min() < 0 or labels.max() >= classes:
        raise ConfigError(
            f"labels must be in 0..{classes - 1}, as the predictions have {classes} classes; "
            f"got {labels.min()}..{labels.max()}"
        )
    return labels


def _check_distributions(probabilities: NDArray[np.float64]) -> None:
    if not np.isfinite(probabilities).all():
        count = int((~np.isfinite(probabilities)).sum())
        raise ConfigError(f"probabilities must be finite; {count} of {probabilities.size} are NaN or infinite")
    if probabilities.min() < 0:
        raise ConfigError(
            f"probabilities must be at least 0; got {probabilities.min():.6g}: "
            "of log-probabilities take np.exp first, of logits a softmax"
        )
    sums = probabilities.sum(-1)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > SUM_TOLERANCE:
        raise ConfigError(f"each row of probabilities must add to 1 within {SUM_TOLERANCE}; one adds to {worst:.6g}")
