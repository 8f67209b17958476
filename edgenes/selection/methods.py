"""One call for every method of selection."""

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgenes.selection.branch_and_bound import exact
from edgenes.selection.heuristics import beam, diverse, greedy, greedy_with_replacement, top, weighted
from edgenes.selection.problem import Problem, Selection
from edgenes.validation import check_choice

METHODS: dict[str, Callable[..., Selection]] = {
    "exact": exact,
    "greedy": greedy,
    "greedy-with-replacement": greedy_with_replacement,
    "beam": beam,
    "top": top,
    "weighted": weighted,
    "diverse": diverse,
}
SECONDS_PER_PREFIX = 3e-5
SECONDS_PER_VALUE = {"nll": 1e-8, "accuracy": 1e-8}
"""Costs that the estimate of an exact selection is made of: those of scoring every subset on one core. They are
constants and not a timing, so that whether a selection is exact does not depend on the machine or its load."""


def select_ensemble(
    predictions: ArrayLike,
    labels: ArrayLike,
    size: int,
    criterion: str = "nll",
    method: str = "exact",
    max_seconds: float = 3600.0,
    **options: Any,
) -> Selection:
    """An ensemble of `size` candidates for these images, chosen by one of `METHODS`.

    Predictions are (candidates, samples, classes), labels (samples,). Only `exact` takes `max_seconds`, after which it
    returns the best found, its bound and gap and no proof, `progress` and `max_bytes`; `options` are the method's:
    `width` of `beam`, `trade_off` of `diverse`.

    Raises ConfigError for inputs of another shape, range or kind.
    """
    problem = Problem.checked(predictions, labels, size, criterion)
    check_choice("method", method, tuple(METHODS))
    if method == "exact":
        options["max_seconds"] = max_seconds
    return METHODS[method](problem, **options)


def select_affordable(
    predictions: ArrayLike, labels: ArrayLike, size: int, criterion: str = "nll", max_seconds: float = 60.0
) -> Selection:
    """`select_ensemble`, exact and to the end where its estimate is at most `max_seconds`, else greedy."""
    affordable = exact_seconds(np.shape(predictions), size, criterion) <= max_seconds
    if not affordable:
        return select_ensemble(predictions, labels, size, criterion, "greedy")
    return select_ensemble(predictions, labels, size, criterion, "exact", np.inf, max_bytes=np.inf)


def exact_seconds(shape: tuple[int, ...], size: int, criterion: str) -> float:
    """Estimated seconds, on one core, in which every subset of predictions of this shape can be scored."""
    candidates, samples, classes = shape
    values = samples * (classes if criterion == "accuracy" else 1)
    return (
        comb(candidates, size - 1) * SECONDS_PER_PREFIX + comb(candidates, size) * values * SECONDS_PER_VALUE[criterion]
    )
