"""Differences of two samples with what is known of them: a standard error, a 95% interval, and a plain conclusion."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
_NOISE = 1e-12  # relative: a spread below it is rounding


@dataclass(frozen=True)
class Difference:
    """B - A of two means; the standard error and the interval are None where the samples cannot tell them."""

    mean_a: float
    mean_b: float
    difference: float
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def conclusion(self) -> str:
        """ "B higher", "B lower", "not distinguishable", "equal", or that there is too little to tell."""
        if self.low is None:
            return "equal" if self.difference == 0 else "too little to tell"
        if self.low <= 0 <= self.high:
            return "not distinguishable"
        return "B higher" if self.difference > 0 else "B lower"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "conclusion": self.conclusion}


def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Mean of b - a, one pair each, with the interval of the paired t-test.

    Pairs that all differ by the same, or one pair alone, have no interval: their spread is unknown, not 0.
    """
    differences = np.subtract(b, a)
    n = len(differences)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return _difference(a, b, mean, error, n - 1)


def unpaired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Mean of b less mean of a, with the interval of Welch's t-test; none where a sample is a single number."""
    mean = float(np.mean(b) - np.mean(a))
    if min(len(a), len(b)) < 2:
        return _difference(a, b, mean, 0.0, 0)
    parts = [float(np.var(x, ddof=1)) / len(x) for x in (a, b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return _difference(a, b, mean, 0.0, 0)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    return _difference(a, b, mean, error, freedom)


def known_errors(a: float, error_a: float, b: float, error_b: float) -> Difference:
    """b - a of two measurements with standard errors, taken as independent and normal."""
    error = math.hypot(error_a, error_b)
    return _difference([a], [b], b - a, error, math.inf)


def _difference(a: Sequence[float], b: Sequence[float], mean: float, error: float, freedom: float) -> Difference:
    means = float(np.mean(a)), float(np.mean(b))
    scale = max(1.0, *map(abs, means))
    mean = 0.0 if abs(mean) <= _NOISE * scale else mean
    if error <= _NOISE * scale:
        return Difference(*means, mean)
    reach = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return Difference(*means, mean, error, mean - reach, mean + reach)
