"""How well a score finds what it should find, errors or strange images, and what it buys to leave those out.

Scores (samples,) are finite numbers; `positive` (samples,) is true where the score should be high: uncertainty where
the prediction is wrong, or on images of another data set. Samples of equal score are told apart by no threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes.errors import ConfigError
from edgenes.metrics import mean_of_equals


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive sample has a higher score than another one, a tie counting half."""
    false, true = _counts(scores, positive)
    return float(np.trapezoid(true, false) / (true[-1] * false[-1]))


def aupr(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the precision-recall curve as average precision: the sum over thresholds of precision * recall gained.

    A step and no trapezoid, as scikit-learn's `average_precision_score`. By chance it is the share of positives.
    """
    false, true = _counts(scores, positive)
    return float((np.diff(true) * true[1:] / (true[1:] + false[1:])).sum() / true[-1])


def fpr_at_tpr(scores: ArrayLike, positive: ArrayLike, tpr: float = 0.95) -> float:
    """Share of the others above the highest threshold that at least `tpr` of the positives reach; not interpolated.

    The literature on strange images calls the known ones positive: `scores` is then a confidence.
    """
    if not 0 < tpr <= 1:
        raise ConfigError(f"tpr must be a share in (0, 1]; got {tpr!r}")
    false, true = _counts(scores, positive)
    return float(false[np.argmax(true / true[-1] >= tpr)] / false[-1])


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage k / samples and the error on the k most confident samples, each (samples,), k = 1 .. samples.

    Of samples with equal confidence any may come first: the error is the mean over their orders.
    """
    confidence, wrong = _checked(confidence, wrong)
    errors = mean_of_equals(confidence, wrong)[(-confidence).argsort()].cumsum()
    accepted = np.arange(1, len(errors) + 1)
    return accepted / len(errors), errors / accepted


def aurc(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Area under the risk-coverage curve: its mean error over all coverages (Geifman and El-Yaniv 2017), 0 at best."""
    return float(risk_coverage(confidence, wrong)[1].mean())


def _counts(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """False and true positives at every threshold, (thresholds + 1,), from none to all samples."""
    scores, positive = _checked(scores, positive)
    if positive.all() or not positive.any():
        raise ConfigError(f"positives and others are both needed; all {len(positive)} samples are of one kind")
    order = (-scores).argsort()
    last = np.append(np.diff(scores[order]) != 0, True)  # of the samples of equal score
    true = positive[order].cumsum()[last]
    total = np.arange(1, len(scores) + 1)[last]
    return np.append(0, total - true), np.append(0, true)


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[Any]]:
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive)
    if scores.ndim != 1 or not len(scores) or positive.shape != scores.shape:
        raise ConfigError(f"scores and labels must be one a sample, (samples,); got {scores.shape}, {positive.shape}")
    if not np.isfinite(scores).all():
        raise ConfigError("scores must be finite; some are NaN or infinite")
    if positive.dtype != np.bool_:
        raise ConfigError(f"whether a sample is positive must be True or False; got dtype {positive.dtype}")
    return scores, positive
