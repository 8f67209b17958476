"""Calibration of an ensemble's probabilities, fitted by their NLL on V: a temperature, or one number more a class.

The mean of members' probabilities is less sure than its members, often too little (Rahaman & Thiery, 2021). With p the
probabilities of a sample, calibrated ones are

    softmax(scale * log p + shift),

a `temperature` being one scale for all classes, 1 / T, and no shift (Guo et al., 2017); `vector` has a scale and a
shift for each class. On few images that are nearly all right the best scale would be huge, and one wrong image of
others would cost more than all gained. So what is least is

    samples * NLL + scale - log(scale),

the second part a prior that is least at the scale 1, as heavy as one image (the mode of a Gamma distribution). For
`vector` the prior is a normal one around the best temperature, as classes have few images. All is convex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes import metrics
from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.validation import check_choice

CALIBRATIONS = ("none", "temperature", "vector")
SCALES = 1e-3, 1e3
"""Between which a scale is found."""
VECTOR_PRIOR = 10.0
"""Weight, in samples, of half the squared distance of `vector` from the best temperature."""
STEPS = 100
TOLERANCE = 1e-10

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found: `scale` and `shift` of log-probabilities, one number each, or one a class."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def __post_init__(self) -> None:
        finite = all(type(each) is float and isfinite(each) for each in (*self.scale, *self.shift))
        if not self.scale or len(self.scale) != len(self.shift) or not finite:
            raise ConfigError(f"a calibration has as many scales as shifts, got {shown(self.to_dict())}.")

    def apply(self, probabilities: ArrayLike) -> Array:
        """Calibrated probabilities (samples, classes)."""
        logits = np.asarray(self.scale) * _logarithms(np.asarray(probabilities, np.float64)) + np.asarray(self.shift)
        return _softmax(logits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"scale": list(self.scale), "shift": list(self.shift)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; raises ConfigError for other numbers, and what Python raises for other values."""
        return cls(tuple(value["scale"]), tuple(value["shift"]))


def calibrate(probabilities: ArrayLike, labels: ArrayLike, method: str = "temperature") -> Calibration | None:
    """The calibration of least NLL, prior included, on these images; None for the method "none".

    Probabilities are (samples, classes), labels (samples,). Raises ConfigError for another method, and as `metrics`
    does.

    Example:
        >>> import numpy as np
        >>> from edgenes.selection import calibrate
        >>> unsure = np.full((1000, 2), [0.6, 0.4])  # and right in 80% of the images
        >>> found = calibrate(unsure, [0] * 800 + [1] * 200)
        >>> found.apply(unsure[:1]).round(2).tolist()
        [[0.8, 0.2]]
    """
    check_choice("calibration", method, CALIBRATIONS)
    checked, labels = metrics.check_probabilities(probabilities, labels)
    if method == "none":
        return None
    logarithms = _logarithms(checked)
    scale = _best_scale(logarithms, labels)
    if method == "temperature":
        return Calibration((scale,), (0.0,))
    return _best_vector(logarithms, labels, scale)


def _logarithms(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, metrics.TINY))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _best_scale(logarithms: Array, labels: NDArray[np.integer]) -> float:
    """By bisection: the slope in the scale rises."""
    right = metrics.of_labels(logarithms, labels).sum()
    low, high = SCALES
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        slope = (_softmax(middle * logarithms) * logarithms).sum() - right + 1 - 1 / middle
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float((low * high) ** 0.5)


def _best_vector(logarithms: Array, labels: NDArray[np.integer], scale: float) -> Calibration:
    """By Newton's method, halving steps that do not lower the objective."""
    samples, classes = logarithms.shape
    start = np.concatenate([np.full(classes, scale), np.zeros(classes)])
    target, weight = np.eye(classes)[labels], VECTOR_PRIOR / samples

    def objective(values: Array) -> float:
        logits = values[:classes] * logarithms + values[classes:]
        peak = logits.max(-1)
        total = peak + np.log(np.exp(logits - peak[:, None]).sum(-1))
        return float((total - metrics.of_labels(logits, labels)).mean() + weight * np.square(values - start).sum() / 2)

    values, best = start, objective(start)
    for _ in range(STEPS):
        soft = _softmax(values[:classes] * logarithms + values[classes:])
        both = np.concatenate([soft * logarithms, soft], 1)  # (samples, 2 * classes)
        gradient = (both - np.concatenate([target * logarithms, target], 1)).mean(0) + weight * (values - start)
        diagonals = [(soft * logarithms**power).mean(0) for power in (2, 1, 0)]
        hessian = np.block(
            [[np.diag(diagonals[0]), np.diag(diagonals[1])], [np.diag(diagonals[1]), np.diag(diagonals[2])]]
        )
        hessian += weight * np.eye(2 * classes) - both.T @ both / samples
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while (found := objective(values - share * step)) > best and share > TOLERANCE:
            share /= 2
        if best - found < TOLERANCE:
            break
        values, best = values - share * step, found
    return Calibration(tuple(values[:classes].tolist()), tuple(values[classes:].tolist()))
