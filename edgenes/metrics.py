"""Metrics of predictions: accuracy, likelihood, calibration and diversity of class probabilities.

Everywhere here probabilities are (samples, classes), predictions of several members are
(members, samples, classes), labels are integers (samples,), and sums are taken in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes.errors import ConfigError

ECE_BINS = 15
"""Bins of the calibration errors by default, as in Guo et al. (2017)."""

TINY = float(np.finfo(np.float32).tiny)
"""The least probability that `nll` takes the logarithm of (1.2e-38, the smallest normal float32), so that
a class a float32 softmax has rounded to 0 costs 87.3 nats and not infinity."""

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
    hit = of_labels(probabilities, labels)
    missed = np.einsum("sc,sc->s", probabilities, probabilities) - hit**2  # without a one-hot copy of all classes
    return float((missed + (1 - hit) ** 2).mean())


@dataclass(frozen=True)
class Reliability:
    """What lies in each bin of confidence: `count` samples, their mean `confidence` and `accuracy`, each (bins,).

    The means of an empty bin are NaN.
    """

    count: NDArray[np.integer]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def gaps(self) -> NDArray[np.float64]:
        """|accuracy - confidence| of each bin, 0 for an empty one."""
        return np.nan_to_num(np.abs(self.accuracy - self.confidence))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> Reliability:
    """Samples by confidence, their largest probability, in bins of equal width: a reliability diagram in numbers.

    A bin is open at its lower edge and closed at its upper one, (k / bins, (k + 1) / bins], as in Guo et al. (2017);
    torchmetrics closes the lower one. Edges have the precision of the input: a float32 0.6 lies on the edge 9/15.
    """
    _check_bins(bins)
    precision = _precision(probabilities)
    probabilities, labels = check_probabilities(probabilities, labels)
    confidence = probabilities.max(-1)
    at = _bins(confidence, bins, precision)
    count = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(at, probabilities.argmax(-1) == labels, bins) / count
        return Reliability(count, np.bincount(at, confidence, bins) / count, accuracy)


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error: sum over the bins of `reliability` of (samples in it / samples) * gap."""
    found = reliability(probabilities, labels, bins)
    return float((found.count * found.gaps).sum() / found.count.sum())


def mce(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """Maximum calibration error: the largest gap of the bins of `reliability`, however few samples it has."""
    return float(reliability(probabilities, labels, bins).gaps.max())


def adaptive_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """ECE with bins of equally many samples by confidence, the first ones with one more where that is uneven.

    Samples of equal confidence may lie in two bins; each counts with their mean, so that their order does not matter.
    """
    _check_bins(bins)
    probabilities, labels = check_probabilities(probabilities, labels)
    confidence = probabilities.max(-1)
    excess = mean_of_equals(confidence, (probabilities.argmax(-1) == labels) - confidence)
    parts = np.array_split(excess[confidence.argsort()], bins)
    return float(sum(abs(part.sum()) for part in parts) / len(labels))


def classwise_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean over all classes of the ECE of that class's probability against whether it is the label (Kull et al. 2019).

    The bins are those of `reliability`, closed at 0 too. A class without samples counts like the others.
    """
    _check_bins(bins)
    precision = _precision(probabilities)
    probabilities, labels = check_probabilities(probabilities, labels)
    total = 0.0
    for c, each in enumerate(probabilities.T):
        total += np.abs(np.bincount(_bins(each, bins, precision), (labels == c) - each)).sum()
    return float(total / probabilities.size)


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


def mean_of_equals(keys: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """For each sample the mean of `values` (samples,) over the samples with the same key."""
    _, group, count = np.unique(keys, return_inverse=True, return_counts=True)
    return (np.bincount(group, values) / count)[group]


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
        raise ConfigError(f"labels must be integers, the numbers of the classes; got dtype {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ConfigError(
            f"labels must be in 0..{classes - 1}, as the predictions have {classes} classes; "
            f"got {labels.min()}..{labels.max()}"
        )
    return labels


def _check_bins(bins: int) -> None:
    if type(bins) is not int or bins < 1:
        raise ConfigError(f"bins must be a whole number of at least 1; got {bins!r}")


def _precision(probabilities: ArrayLike) -> np.dtype[Any]:
    """The input's own floating type; float64 for lists and whole numbers."""
    dtype = np.asarray(probabilities).dtype
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)


def _bins(values: NDArray[np.float64], bins: int, precision: np.dtype[Any]) -> NDArray[np.integer]:
    """The bin of each value, (samples,); one that passes 1 by rounding stays in the last."""
    edges = np.linspace(0, 1, bins + 1).astype(precision).astype(np.float64)
    return np.searchsorted(edges[1:-1], values, side="left")


def _check_distributions(probabilities: NDArray[np.float64]) -> None:
    sums = probabilities.sum(-1)
    if not np.isfinite(sums).all() and (count := int((~np.isfinite(probabilities)).sum())):
        raise ConfigError(f"probabilities must be finite; {count} of {probabilities.size} are NaN or infinite")
    if probabilities.min() < 0:
        raise ConfigError(
            f"probabilities must be at least 0; got {probabilities.min():.6g}: "
            "of log-probabilities take np.exp first, of logits a softmax"
        )
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > SUM_TOLERANCE:
        raise ConfigError(f"each row of probabilities must add to 1 within {SUM_TOLERANCE}; one adds to {worst:.6g}")
