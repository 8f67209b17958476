"""Differences of two samples: interval, test, correction for several, and what could have been seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from edgenes.errors import ConfigError
from tune_jobs.report.statistics.numbers import LEVEL, NOISE, sample

POWER = 0.8
_EXACT = 20_000  # rearrangements up to which a permutation test counts them all


@dataclass(frozen=True)
class Comparison:
    """B - A of two means; from `standard_error` on None where the samples cannot tell, as one value alone cannot.

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
        """ "B higher", "B lower", "not distinguishable", "equal", or that there is too little to tell."""
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

    Raises: ConfigError for an empty sample, one with nan, or pairs that are not pairs.
    """
    a, b = sample(a, "sample A"), sample(b, "sample B")
    n = len(a), len(b)
    if paired:
        if n[0] != n[1]:
            raise ConfigError(
                f"paired samples have a value a seed each, in the same order; got {n[0]} and {n[1]} values. "
                f"Keep the seeds that both have, or compare with paired=False."
            )
        error = float((b - a).std(ddof=1)) / math.sqrt(n[0]) if n[0] > 1 else 0.0
        return _comparison(a.mean(), b.mean(), error, n[0] - 1, n, paired)
    if min(n) < 2:
        return _comparison(a.mean(), b.mean(), 0.0, 0, n, paired)
    parts = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    error = math.sqrt(sum(parts))
    # Welch and Satterthwaite, in shares of the variance: squares of tiny variances would vanish
    shares = [part / sum(parts) for part in parts] if error else [1.0, 0.0]
    freedom = 1 / sum(share**2 / (k - 1) for share, k in zip(shares, n, strict=True))
    return _comparison(a.mean(), b.mean(), error, freedom, n, paired)


def known_errors(a: float, error_a: float, b: float, error_b: float) -> Comparison:
    """b - a of two measurements with standard errors, taken as independent and normal."""
    return _comparison(a, b, math.hypot(error_a, error_b), math.inf, None, False)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm's step-down: the chance of any false claim keeps the level."""
    p = sample(p_values, "the list of p-values")
    if p.min() < 0 or p.max() > 1:
        raise ConfigError(f"a p-value lies in 0..1; got {p.min():g} to {p.max():g}.")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    answer = np.empty(len(p))
    answer[order] = np.minimum(steps, 1)
    return answer.tolist()


def corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The comparisons of one family with `p_holm`; those without a p-value are no tests and do not count."""
    tested = [name for name, one in comparisons.items() if one.p is not None]
    if not tested:
        return dict(comparisons)
    count, answer = len(tested), dict(comparisons)
    for name, p in zip(tested, holm([comparisons[name].p for name in tested]), strict=True):
        one = comparisons[name]
        effect = _detectable(one.standard_error, math.inf if one.freedom is None else one.freedom, count)
        answer[name] = replace(one, p_holm=p, comparisons=count, detectable=effect)
    return answer


def against(reference: ArrayLike, others: Mapping[str, ArrayLike], *, paired: bool) -> dict[str, Comparison]:
    """Each of `others` less the reference, corrected together: one entry a name, the reference its A."""
    return corrected({name: compare(reference, values, paired=paired) for name, values in others.items()})


def permutation_p(a: ArrayLike, b: ArrayLike, *, paired: bool, seed: int = 0) -> float:
    """Two-sided p-value of the mean difference that takes no distribution for granted: over flipped signs of pairs, or
    over all ways to deal the values into two groups; all of them up to 20,000, else so many at random.

    It is never below 2 / 2^n of n pairs: 0.0625 at n = 5, so that six pairs are the least that can show anything at 5%.
    """
    compare(a, b, paired=paired)  # checks them
    a, b, rng = np.asarray(a, float), np.asarray(b, float), np.random.default_rng(seed)
    if paired:
        values, seen = b - a, (b - a).mean()
        exact = 2 ** len(values) <= _EXACT
        if exact:
            signs = np.array(list(product((1, -1), repeat=len(values))))
        else:
            signs = rng.choice((1, -1), (_EXACT, len(values)))
        drawn = (signs * values).mean(1)
    else:
        values, size, seen = np.concatenate([a, b]), len(b), b.mean() - a.mean()
        exact = math.comb(len(values), size) <= _EXACT
        if exact:
            chosen = np.array(list(combinations(range(len(values)), size)))
        else:
            chosen = np.array([rng.permutation(len(values))[:size] for _ in range(_EXACT)])
        sums = values[chosen].sum(1)
        drawn = sums / size - (values.sum() - sums) / len(a)
    as_far = _as_far(drawn, seen)
    return float(as_far.mean() if exact else (as_far.sum() + 1) / (len(drawn) + 1))


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
    """The difference whose t, of the noncentral distribution, exceeds the critical one with the power asked for."""
    tail = (1 - LEVEL) / 2 / comparisons
    if math.isinf(freedom):
        return error * float(stats.norm.isf(tail) + stats.norm.ppf(POWER))
    return error * float(special.nctdtrinc(freedom, 1 - POWER, stats.t.isf(tail, freedom)))


def _as_far(drawn: NDArray, seen: float) -> NDArray:
    return np.abs(drawn) >= abs(seen) - NOISE * max(1.0, float(np.abs(drawn).max()))
