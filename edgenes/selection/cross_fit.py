"""The score of the best of many subsets on images that did not choose it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes import metrics
from edgenes.errors import ConfigError
from edgenes.selection.methods import select_ensemble
from edgenes.selection.problem import Problem, Selection


@dataclass(frozen=True)
class CrossFit:
    """The score of the best subset of a pool on images that did not choose it.

    `standard_error` is over the images alone (std of the per-image correctness / sqrt(samples)); it knows
    nothing of training seeds. `members` holds the choices of the first and of the second half;
    `proven_optimal` says whether both were exact. `probabilities` are (samples, classes), each by the other half's
    ensemble, and `mean` those before its calibration.
    """

    accuracy: float
    standard_error: float
    nll: float
    members: tuple[tuple[int, ...], tuple[int, ...]]
    proven_optimal: bool
    probabilities: NDArray[np.float64] = field(repr=False, compare=False)
    mean: NDArray[np.float64] = field(repr=False, compare=False)


def cross_fitted(
    predictions: ArrayLike,
    labels: ArrayLike,
    size: int,
    criterion: str = "nll",
    seed: int = 0,
    method: str = "auto",
    **options: Any,
) -> CrossFit:
    """Accuracy of the best `size` candidates, chosen on one half of the images and scored on the other.

    The best of many subsets, scored on the images that chose it, scores higher the larger the pool is, even if all
    are noise. So the images are split in two halves with the same share of each class
    (deterministic in `seed`), each half chooses, weights and calibrates, each choice is scored on the other half, and
    the two are pooled over all images. `method` and `options`, `calibration` among them, are those of
    `select_ensemble`.

    Raises ConfigError as `select_ensemble` does, and for fewer than two samples.
    """
    problem = Problem.checked(predictions, labels, size, criterion)
    predictions, labels, size = problem.predictions, problem.labels, problem.size
    if len(labels) < 2:
        raise ConfigError("cross-fitting needs at least 2 samples, one for each half; got 1")
    chosen: list[Selection] = []
    mean, probabilities = np.empty((2, *predictions.shape[1:]))
    halves = stratified_halves(labels, seed)
    for choosing, scoring in (halves, halves[::-1]):
        selection = select_ensemble(predictions[:, choosing], labels[choosing], size, criterion, method, **options)
        chosen.append(selection)
        mean[scoring] = selection.mean(predictions[:, scoring])
        probabilities[scoring] = selection.combine(predictions[:, scoring])
    right = metrics.correct(probabilities, labels)
    return CrossFit(
        accuracy=float(right.mean()),
        standard_error=float(right.std(ddof=1) / np.sqrt(len(right))),
        nll=metrics.nll(probabilities, labels),
        members=(chosen[0].members, chosen[1].members),
        proven_optimal=all(selection.proven_optimal for selection in chosen),
        probabilities=probabilities,
        mean=mean,
    )


def stratified_halves(labels: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sample indices of two halves whose class counts, and whose sizes, differ by at most one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    # Sorted by class, shuffled within it: dealing alternately splits every class, and the odd ones in turn.
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[0::2]), np.sort(order[1::2])
