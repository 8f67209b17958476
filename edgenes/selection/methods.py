"""One call for every method of selection."""

from collections.abc import Callable
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgenes.registry import Registry
from edgenes.selection.branch_and_bound import exact
from edgenes.selection.calibration import calibrate
from edgenes.selection.heuristics import beam, diverse, greedy, greedy_with_replacement, top, weighted
from edgenes.selection.problem import Problem, Selection, first_best

SECONDS_PER_PREFIX = 3e-5
SECONDS_PER_VALUE = 1e-8
"""Costs that the estimate of an exact selection is made of: those of scoring every subset on one core. They are
constants and not a timing, so that whether a selection is exact does not depend on the machine or its load."""


def auto(problem: Problem, max_seconds: float = 60.0) -> Selection:
    """`exact`, to the end, where its estimate is at most `max_seconds`; else `greedy`."""
    if exact_seconds(problem.predictions.shape, problem.size, problem.criterion) > max_seconds:
        return greedy(problem)
    return exact(problem, np.inf, max_bytes=np.inf)


def exact_seconds(shape: tuple[int, ...], size: int, criterion: str) -> float:
    """Estimated seconds, on one core, in which every subset of predictions of this shape can be scored."""
    candidates, samples, classes = shape
    values = samples * (classes if criterion == "accuracy" else 1)
    return comb(candidates, size - 1) * SECONDS_PER_PREFIX + comb(candidates, size) * values * SECONDS_PER_VALUE


Choose = Callable[..., Selection]
"""choose(problem, **options): see `register_selection`."""
METHODS: Registry[Choose] = Registry("selection method")
for _name, _choose in {
    "exact": exact,
    "greedy": greedy,
    "greedy-with-replacement": greedy_with_replacement,
    "beam": beam,
    "top": top,
    "weighted": weighted,
    "diverse": diverse,
    "auto": auto,
}.items():
    METHODS.add(_name, _choose, built_in=True)


def register_selection(name: str, choose: Choose) -> None:
    """Add a selection method of your own, for `select_ensemble(..., method=name)`.

    `choose(problem, **options)` gives a `Selection`; `problem` holds the checked predictions, labels, size and
    criterion, and `problem.selection(members)` scores what was chosen. Raises ConfigError for the name of a method of
    the package.

    Example:
        >>> import numpy as np
        >>> from edgenes import register_selection, select_ensemble
        >>> register_selection("first", lambda problem: problem.selection(range(problem.size)))
        >>> predictions = np.full((4, 6, 3), 1 / 3)  # candidates, samples, classes
        >>> select_ensemble(predictions, np.zeros(6, int), 2, method="first").members
        (0, 1)
    """
    METHODS.add(name, choose)


def select_ensemble(
    predictions: ArrayLike,
    labels: ArrayLike,
    size: int,
    criterion: str = "nll",
    method: str = "exact",
    *,
    calibration: str = "none",
    best_prefix: bool = False,
    **options: Any,
) -> Selection:
    """An ensemble of `size` candidates for these images, chosen by one of `METHODS`.

    Predictions are (candidates, samples, classes), labels (samples,). `calibration`, one of `CALIBRATIONS`, is fitted
    to the chosen ensemble on the same images. With `best_prefix` the best of all sizes up to `size` is taken, the
    smallest of equal ones; it is proven if each size is. `options` are the method's: of `exact`
    `max_seconds` (3600), after which it returns the best found, its bound and gap and no proof, and `max_bytes`; of
    `auto` `max_seconds` (60), the estimate up to which it is exact, else greedy; `width` of `beam`, `trade_off` of
    `diverse`.

    Raises ConfigError for inputs of another shape, range or kind.

    Example:
        >>> import numpy as np
        >>> from edgenes import select_ensemble
        >>> right = np.array([[0.6, 0.6], [0.9, 0.3], [0.3, 0.9]])  # the label's probability, of three candidates
        >>> found = select_ensemble(np.stack([right, 1 - right], -1), [0, 0], size=2)
        >>> found.members, found.proven_optimal
        ((1, 2), True)
    """
    problem = Problem.checked(predictions, labels, size, criterion)
    choose = METHODS.find(method)
    if best_prefix:
        found = _best([choose(replace(problem, size=each), **options) for each in range(1, problem.size + 1)], problem)
    else:
        found = choose(problem, **options)
    return replace(found, calibration=calibrate(found.mean(problem.predictions), problem.labels, calibration))


def _best(found: list[Selection], problem: Problem) -> Selection:
    """The best of the selections of all sizes, and what is known of all."""
    losses = np.array([problem.value(each.score) for each in found])
    bounds = [each.bound for each in found if each.bound is not None]
    bound = (min if problem.criterion == "nll" else max)(bounds) if len(bounds) == len(found) else None
    return replace(found[first_best(losses)], bound=bound, proven_optimal=all(each.proven_optimal for each in found))
