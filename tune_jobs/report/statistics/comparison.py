"""Differences of two samples: interval, test, correction for several, and what could have been seen."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from edgenes.errors import ConfigError
from tune_jobs.report.statistics.intervals import LEVEL, NOISE, sample

POWER = 0.8
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """B - A of two means; from `standard_error` on None where the samples cannot show it, as one value alone cannot.

    `detectable` is the true difference that such samples show at the two-sided 5% level with a power of 80%, by the
    spread that was seen. One of several `comparisons` has `p_holm`, and `detectable` at 5% / comparisons; the interval
    is a 95% interval by itself.
    """

    mean_a: float
    mean_b: float
    difference: float
    n: tuple[int, int] | None
    """Values of A and of B; None where both are single measurements with known errors."""
    paired: bool = False
    standard_error: float | None = None
    freedom: float | None = None
    """Degrees of freedom of the t-test; None too where errors are known, which makes it a normal one."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    detectable: float | None = None
    p_holm: float | None = None
    comparisons: int = 1

    @property
    def distinguishable(self) -> bool:
        """Whether p, after Holm's correction where there is one, is below 5%."""
        p = self.p if self.p_holm is None else self.p_holm
        return p is not None and p < 1 - LEVEL

    @property
    def conclusion(self) -> str:
        """One of "B higher", "B lower", "not distinguishable", "equal" and "too little to tell"."""
        if self.p is None:
            return "equal" if self.difference == 0 else "too little to tell"
        if not self.distinguishable:
            return "not distinguishable"
        return "B higher" if self.difference > 0 else "B lower"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        n = None if self.n is None else list(self.n)
        return {**asdict(self), "n": n, "conclusion": self.conclusion}


def compare(a: ArrayLike, b: ArrayLike, *, paired: bool) -> Comparison:
    """Mean of b less mean of a, of independent searches: the paired t-test, or Welch's for samples that do not pair.

    Paired: value k of both is of the same seed. Values or pairs without a spread have no interval: their spread is
    unknown, not 0. A t-test and not a permutation test, since of five pairs none of those goes below p = 0.0625.

    Raises ConfigError for an empty sample, one with nan, or pairs that are not pairs.
    """
    a, b = sample(a, "sample A"), sample(b, "sample B")
    n = len(a), len(b)
    if paired and n[0] != n[1]:
        raise ConfigError(f"paired samples must be of the same seeds, got {n[0]} and {n[1]} values.")
    error = freedom = 0.0
    if min(n) > 1 and paired:
        error, freedom = stats.sem(b - a), n[0] - 1
    elif min(n) > 1:
        errors = stats.sem(a), stats.sem(b)
        error = math.hypot(*errors)
        # Welch and Satterthwaite, in shares of the variance: squares of tiny variances would vanish
        shares = [(each / error) ** 2 if error else 1.0 for each in errors]
        freedom = 1 / sum(share**2 / (k - 1) for share, k in zip(shares, n, strict=True))
    return _comparison(a.mean(), b.mean(), float(error), freedom, n, paired)


def known_errors(a: float, error_a: float, b: float, error_b: float) -> Comparison:
    """b - a of two measurements with standard errors, taken as independent and normal."""
    return _comparison(a, b, math.hypot(error_a, error_b), math.inf, None, False)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm's step-down: the chance of any false claim keeps the level."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    answer = np.empty(len(p))
    answer[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return answer.tolist()


def corrected(comparisons: Mapping[Name, Comparison]) -> dict[Name, Comparison]:
    """The comparisons of one family with `p_holm`; those without a p-value are no tests and do not count."""
    tested = {name: one for name, one in comparisons.items() if one.p is not None}
    answer, count = dict(comparisons), len(tested)
    for (name, one), p in zip(tested.items(), holm([one.p for one in tested.values()]), strict=True):
        detectable = _detectable(one.standard_error, math.inf if one.freedom is None else one.freedom, count)
        answer[name] = replace(one, p_holm=p, comparisons=count, detectable=detectable)
    return answer


def _comparison(
    mean_a: float, mean_b: float, error: float, freedom: float, n: tuple[int, int] | None, paired: bool
) -> Comparison:
    mean_a, mean_b = float(mean_a), float(mean_b)
    rounding = NOISE * max(1.0, abs(mean_a), abs(mean_b))
    difference = 0.0 if abs(mean_b - mean_a) <= rounding else mean_b - mean_a
    bare = Comparison(mean_a, mean_b, difference, n, paired)
    if error <= rounding:
        return bare
    reach = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return replace(
        bare,
        standard_error=error,
        freedom=None if math.isinf(freedom) else freedom,
        low=difference - reach,
        high=difference + reach,
        p=float(2 * stats.t.sf(abs(difference) / error, freedom)),
        detectable=_detectable(error, freedom, 1),
    )


def _detectable(error: float, freedom: float, comparisons: int) -> float:
    """The difference whose t, of the noncentral distribution, exceeds the critical one with that power."""
    tail = (1 - LEVEL) / 2 / comparisons
    if math.isinf(freedom):
        return error * float(stats.norm.isf(tail) + stats.norm.ppf(POWER))
    return error * float(special.nctdtrinc(freedom, 1 - POWER, stats.t.isf(tail, freedom)))
