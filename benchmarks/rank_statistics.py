"""How much of what was measured is signal: rank correlation and intraclass correlation, with bootstrap intervals."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

RESAMPLINGS = 2000


def spearman(pairs: ArrayLike) -> float:
    """Rank correlation of the two columns of `pairs` (n, 2); nan where a column is constant."""
    ranks = rankdata(np.asarray(pairs, float), axis=0)
    ranks = ranks - ranks.mean(0)
    norm = np.sqrt((ranks**2).sum(0).prod())
    return float((ranks[:, 0] * ranks[:, 1]).sum() / norm) if norm else float("nan")


def consistency(pairs: ArrayLike) -> float:
    """Share of the variance between the rows of `pairs` (n, 2) that both columns see: ICC(3, 1).

    What one column adds to every row does not count; it changes no ranking.
    """
    pairs = np.asarray(pairs, float)
    sums, differences = pairs.sum(1), pairs[:, 0] - pairs[:, 1]
    between, within = sums.var(ddof=1) / 2, differences.var(ddof=1) / 2
    return float((between - within) / (between + within))


def excess(values: ArrayLike, noise: ArrayLike) -> float:
    """Share of the variance of `values` that repetitions at one point, `noise`, do not have; below 0 by chance."""
    return float(1 - np.var(noise, ddof=1) / np.var(values, ddof=1))


def interval(statistic: Callable[..., float], *samples: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """The statistic of the samples, and the 95% percentile interval over resampled rows of each of them."""
    rng, arrays = np.random.default_rng(seed), [np.asarray(sample, float) for sample in samples]

    def resampled() -> list[NDArray]:
        return [array[rng.integers(0, len(array), len(array))] for array in arrays]

    drawn = np.array([statistic(*resampled()) for _ in range(RESAMPLINGS)])
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return statistic(*arrays), float(low), float(high)


def mean_interval(values: ArrayLike) -> tuple[float, float, float]:
    """The mean of the values that are there, and its 95% interval by the normal distribution."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    mean = values.mean() if len(values) else float("nan")
    return float(mean), float(mean - half), float(mean + half)


def told(triple: tuple[float, float, float], digits: int = 2, scale: float = 1.0) -> str:
    """A number with its interval."""
    middle, low, high = (scale * number for number in triple)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
