"""Choosing an ensemble from cached predictions: the best `size` of the candidates on given images.

A subset is scored by its own criterion: the NLL (least is best) or the accuracy (most is best) of the mean
of its members' probabilities. It works on predictions (candidates, samples, classes) and never on networks.

Ties: with s* the best score of all subsets, every subset within `TIE` (relative above 1) of s* is as good as
the best, and of those the lexicographically smallest tuple of members wins. The tie is with the optimum and
not between neighbours, so it needs no transitivity and does not depend on the order of the enumeration; the
float noise of adding the same predictions in another order, 1e-16, is far below it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes import metrics
from edgenes.errors import ConfigError

CRITERIA = ("nll", "accuracy")
METHODS = ("exact", "greedy")

TIE = 1e-12
BLOCK_BYTES = 32 * 2**20
SECONDS_PER_PREFIX = 3e-5
SECONDS_PER_VALUE = {"nll": 1e-8, "accuracy": 1e-8}
"""Costs that the estimate of an exact selection is made of, on one core. They are constants and not a
timing, so that whether a selection is exact or refused does not depend on the machine or its load."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """The chosen members (ascending), the criterion's value for them, and whether no subset is better."""

    members: tuple[int, ...]
    score: float
    criterion: str
    proven_optimal: bool


@dataclass(frozen=True)
class CrossFit:
    """What the best subset of a pool is worth on images that did not choose it.

    `standard_error` is over the images alone (std of the per-image correctness / sqrt(samples)); it knows
    nothing of training seeds. `members` holds the choices of the first and of the second half;
    `proven_optimal` says whether both were exact.
    """

    accuracy: float
    standard_error: float
    nll: float
    members: tuple[tuple[int, ...], tuple[int, ...]]
    proven_optimal: bool


def select_ensemble(
    predictions: ArrayLike,
    labels: ArrayLike,
    size: int,
    criterion: str = "nll",
    method: str = "exact",
    max_seconds: float = 3600.0,
) -> Selection:
    """The best subset of `size` candidates on these images.

    `exact` scores every subset, in blocks of at most `BLOCK_BYTES` (or one subset, where that is larger), so
    that memory does not grow with their number. `greedy` adds the candidate that helps most, `size` times,
    without replacement; it is proven optimal only where there is nothing to get wrong: one member, or all.

    Raises ConfigError for inputs of another shape, range or kind, and for an exact selection whose estimated
    time exceeds `max_seconds`.
    """
    predictions, labels, size = _check(predictions, labels, size, criterion)
    _one_of("method", method, METHODS)
    candidates = len(predictions)
    if size == candidates:
        members: tuple[int, ...] = tuple(range(candidates))
    elif method == "greedy":
        members = _greedy(*_terms(predictions, labels, criterion), size)
    else:
        seconds = exact_seconds(predictions.shape, size, criterion)
        if seconds > max_seconds:
            raise ConfigError(
                f"exact selection of {size} of {candidates} candidates would score "
                f"{comb(candidates, size):,} subsets, about {_readable(seconds)} and more than max_seconds = "
                f'{max_seconds:g}; use method="greedy" or fewer candidates'
            )
        members = _exact(*_terms(predictions, labels, criterion), size)
    score = getattr(metrics, criterion)(metrics.ensemble_probabilities(predictions[list(members)]), labels)
    return Selection(members, score, criterion, method == "exact" or size in (1, candidates))


def cross_fitted(
    predictions: ArrayLike,
    labels: ArrayLike,
    size: int,
    criterion: str = "nll",
    seed: int = 0,
    max_seconds: float = 60.0,
) -> CrossFit:
    """Accuracy of the best `size` candidates, chosen on one half of the images and scored on the other.

    The best of many subsets, scored on the images that chose it, is worth the more the larger the pool is,
    even if all are noise. So the images are split in two halves with the same share of each class
    (deterministic in `seed`), each half chooses, each choice is scored on the other half, and the two are
    pooled over all images. A selection that would take longer than `max_seconds` by the estimate is greedy.

    Raises ConfigError as `select_ensemble` does, and for fewer than two samples.
    """
    predictions, labels, size = _check(predictions, labels, size, criterion)
    if len(labels) < 2:
        raise ConfigError("cross-fitting needs at least 2 samples, one for each half; got 1")
    chosen: list[Selection] = []
    mean = np.empty(predictions.shape[1:])
    halves = _stratified_halves(labels, seed)
    for choosing, scoring in (halves, halves[::-1]):
        selection = select_affordable(predictions[:, choosing], labels[choosing], size, criterion, max_seconds)
        chosen.append(selection)
        mean[scoring] = metrics.ensemble_probabilities(predictions[list(selection.members)][:, scoring])
    right = metrics.correct(mean, labels)
    return CrossFit(
        accuracy=float(right.mean()),
        standard_error=float(right.std(ddof=1) / np.sqrt(len(right))),
        nll=metrics.nll(mean, labels),
        members=(chosen[0].members, chosen[1].members),
        proven_optimal=all(selection.proven_optimal for selection in chosen),
    )


def select_affordable(
    predictions: ArrayLike, labels: ArrayLike, size: int, criterion: str = "nll", max_seconds: float = 60.0
) -> Selection:
    """`select_ensemble`, exact where its estimate is at most `max_seconds`, else greedy."""
    affordable = exact_seconds(np.shape(predictions), size, criterion) <= max_seconds
    method = "exact" if affordable else "greedy"
    return select_ensemble(predictions, labels, size, criterion, method, max_seconds)


def exact_seconds(shape: tuple[int, ...], size: int, criterion: str) -> float:
    """Estimated seconds, on one core, of an exact selection from predictions of this shape."""
    candidates, samples, classes = shape
    values = samples * (classes if criterion == "accuracy" else 1)
    return (
        comb(candidates, size - 1) * SECONDS_PER_PREFIX + comb(candidates, size) * values * SECONDS_PER_VALUE[criterion]
    )


def _terms(predictions: Array, labels: NDArray, criterion: str) -> tuple[Array, Callable[[Array, int], Array]]:
    """What is summed over members, (candidates, ...), and the loss of such sums over `count` members.

    The NLL needs the true class's probability alone, (candidates, samples).
    """
    if criterion == "nll":
        return metrics.of_labels(
            predictions, labels
        ), lambda sums, count: -np.log(np.maximum(sums / count, metrics.TINY)).mean(-1)
    # Divided as in the metric: the quotients of two different sums may round to the same number.
    return predictions, lambda sums, count: -((sums / count).argmax(-1) == labels).mean(-1)


def _exact(terms: Array, loss: Callable[[Array, int], Array], size: int) -> tuple[int, ...]:
    """Enumerates in lexicographic order and keeps the records: the subsets that beat all before them.

    Only a record can win. Any other subset comes after one that is at least as good and smaller, and that
    one ties with the optimum whenever the other does. The winner is the first record that ties.
    """
    step = max(1, BLOCK_BYTES // terms[0].nbytes)
    records: list[tuple[float, tuple[int, ...]]] = []
    best = np.inf
    for prefix, total in _prefixes(terms, size - 1):
        for start in range(prefix[-1] + 1 if prefix else 0, len(terms), step):
            losses = loss(total + terms[start : start + step], size)
            before = np.minimum.accumulate(np.concatenate([[best], losses[:-1]]))
            records += [(losses[i], (*prefix, start + int(i))) for i in np.flatnonzero(losses < before)]
            best = min(best, losses.min())
            records = [record for record in records if _ties(record[0], best)]
    return records[0][1]


def _prefixes(terms: Array, length: int) -> Iterator[tuple[tuple[int, ...], Array]]:
    """All prefixes of `length` that leave a last member to add, each with its sum of terms.

    Successive prefixes share their beginning, whose sums are kept.
    """
    sums = [np.zeros_like(terms[0])]
    previous: tuple[int, ...] = ()
    for prefix in combinations(range(len(terms) - 1), length):
        common = next((k for k, (a, b) in enumerate(zip(previous, prefix, strict=False)) if a != b), 0)
        del sums[common + 1 :]
        for member in prefix[common:]:
            sums.append(sums[-1] + terms[member])
        previous = prefix
        yield prefix, sums[-1]


def _greedy(terms: Array, loss: Callable[[Array, int], Array], size: int) -> tuple[int, ...]:
    members: list[int] = []
    total = np.zeros_like(terms[0])
    for count in range(1, size + 1):
        losses = np.array([np.inf if i in members else loss(total + terms[i], count) for i in range(len(terms))])
        member = int(np.flatnonzero(_ties(losses, losses.min()))[0])
        members.append(member)
        total = total + terms[member]
    return tuple(sorted(members))


def _ties(loss: Array | float, best: float) -> NDArray[np.bool_]:
    return loss <= best + TIE * max(1.0, abs(best))


def _stratified_halves(labels: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Sample indices of two halves whose class counts, and whose sizes, differ by at most one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    # Sorted by class, shuffled within it: dealing alternately splits every class, and the odd ones in turn.
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[0::2]), np.sort(order[1::2])


def _check(predictions: ArrayLike, labels: ArrayLike, size: int, criterion: str) -> tuple[Array, NDArray, int]:
    _one_of("criterion", criterion, CRITERIA)
    predictions = metrics.check_predictions(predictions)
    labels = metrics.check_labels(labels, *predictions.shape[1:])
    try:
        size = operator.index(size)
    except TypeError:
        raise ConfigError(f"size must be a whole number of members; got {size!r}") from None
    if not 1 <= size <= len(predictions):
        raise ConfigError(
            f"size must be in 1..{len(predictions)}, the number of candidates; got {size}: "
            "choose a smaller ensemble or bring more candidates"
        )
    return predictions, labels, size


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        nearest = get_close_matches(str(value), allowed, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}; got {value!r}, nearest is {nearest!r}")


def _readable(seconds: float) -> str:
    for length, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= length:
            return f"{seconds / length:,.3g} {unit}"
    return f"{seconds:.2g} seconds"
