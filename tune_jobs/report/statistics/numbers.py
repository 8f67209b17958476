"""Samples and numbers, checked and rounded."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes.errors import ConfigError

LEVEL = 0.95
NOISE = 1e-12
"""Relative: a spread below it is rounding."""


def sample(values: ArrayLike, name: str = "a sample") -> NDArray:
    """The values as a float array (n,), n >= 1, all finite; else a ConfigError that says what came."""
    array = as_rows(values, name)
    if array.ndim != 1:
        raise ConfigError(f"{name} is a list of numbers, one a search; got an array of shape {array.shape}.")
    return array


def decimals(half: float | None, points: bool) -> int:
    """Decimals that show an interval of that half width: 1 in points and 3 else, more where it is narrower."""
    least = 1 if points else 3
    if not half:
        return least
    return max(least, -math.floor(math.log10(half * (100 if points else 1))))


def rounded(number: float, places: int) -> str:
    """The number with so many decimals, never "-0.0"."""
    return f"{round(number, places) + 0.0:.{places}f}"


def as_rows(values: ArrayLike, name: str = "a sample") -> NDArray:
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} holds numbers; got {values!r}.") from None
    if array.ndim == 0 or len(array) == 0:
        raise ConfigError(f"{name} is empty: at least one number is needed.")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        where = tuple(wrong[0].tolist())
        raise ConfigError(
            f"{name} holds {array[where]} at position {', '.join(map(str, where))}: every search needs a number. "
            f"Leave that search out, of paired samples in both."
        )
    return array
