"""The objective of a trial of the sweep, on V."""

from dataclasses import dataclass

import numpy as np

from edgenes.metrics import accuracy
from edgenes.selection import cross_fitted


@dataclass(frozen=True)
class Scored:
    """The value of a pool of networks with its standard error, and its cross-fitted ensemble: NLL, members by half."""

    value: float
    standard_error: float
    nll: float
    members: tuple[tuple[int, ...], ...]


def objective(value: str, predictions: np.ndarray, labels: np.ndarray, size: int, criterion: str) -> Scored:
    """The objective `value` of probabilities (networks, samples, classes).

    "retrained" and "one-shot" are the accuracy of the best ensemble of `size`, chosen by `criterion` on one half of the
    samples and scored on the other; "mean" is the mean accuracy of the networks. `VALUES` describes each.
    """
    best = cross_fitted(predictions, labels, size, criterion)
    if value in ("retrained", "one-shot"):
        return Scored(best.accuracy, best.standard_error, best.nll, best.members)
    if value == "mean":
        mean = float(np.mean([accuracy(each, labels) for each in predictions]))
        return Scored(mean, float(np.sqrt(mean * (1 - mean) / len(labels))), best.nll, best.members)
    raise ValueError(f"no objective {value!r}")
