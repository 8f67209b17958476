"""What every method of selection shares: checked predictions, one canonical score, one rule for ties."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes import metrics
from edgenes.errors import ConfigError
from edgenes.selection.calibration import Calibration
from edgenes.validation import check_choice

CRITERIA = ("nll", "accuracy")
TIE = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """The chosen members (ascending), the criterion's value for them, and what is known of its optimality.

    `bound` is in the criterion's unit: no ensemble that the method may choose has a lower NLL or a higher accuracy;
    None where the method knows none. `weights`, one a member and adding to 1, are None for the plain mean. Score, bound
    and proof are those of the mean; the `calibration` follows them.
    """

    members: tuple[int, ...]
    score: float
    criterion: str
    proven_optimal: bool
    bound: float | None = None
    weights: tuple[float, ...] | None = None
    calibration: Calibration | None = None

    def mean(self, predictions: ArrayLike) -> Array:
        """The members' (weighted) mean, (samples, classes), from all candidates' (candidates, samples, classes)."""
        chosen = np.asarray(predictions, dtype=np.float64)[list(self.members)]
        return metrics.ensemble_probabilities(chosen) if self.weights is None else np.tensordot(self.weights, chosen, 1)

    def combine(self, predictions: ArrayLike) -> Array:
        """The ensemble's probabilities, as `mean`, and calibrated where it has a calibration."""
        mean = self.mean(predictions)
        return mean if self.calibration is None else self.calibration.apply(mean)

    @property
    def gap(self) -> float | None:
        """How far the score is from the bound, at least 0; None without a bound."""
        return None if self.bound is None else abs(self.score - self.bound)


@dataclass(frozen=True, eq=False)
class Problem:
    """Predictions float64 (candidates, samples, classes), labels (samples,), members to choose and by what."""

    predictions: Array
    labels: NDArray[np.integer]
    size: int
    criterion: str

    @classmethod
    def checked(cls, predictions: ArrayLike, labels: ArrayLike, size: int, criterion: str) -> Problem:
        """Raises ConfigError for predictions, labels, a size or a criterion that do not fit."""
        check_choice("criterion", criterion, CRITERIA)
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
        return cls(predictions, labels, size, criterion)

    @property
    def candidates(self) -> int:
        """Number of candidates."""
        return len(self.predictions)

    @cached_property
    def terms(self) -> Array:
        """What is summed over members: the true class's probability (candidates, samples), or all predictions."""
        if self.criterion == "nll":
            return np.ascontiguousarray(metrics.of_labels(self.predictions, self.labels))
        return self.predictions

    def losses(self, sums: Array, count: float) -> Array:
        """The NLL, or minus the accuracy, of sums of terms (..., samples) or (..., samples, classes)."""
        if self.criterion == "nll":
            return -np.log(np.maximum(sums / count, metrics.TINY)).mean(-1)
        # Divided as in the metric: the quotients of two different sums may round to the same number.
        return -((sums / count).argmax(-1) == self.labels).mean(-1)

    def losses_with(self, total: Array, among: Iterable[int], count: float) -> Array:
        """The loss of `total` with each candidate `among` added; infinite (candidates,) for the others."""
        losses = np.full(self.candidates, np.inf)
        for k in among:
            losses[k] = self.losses(total + self.terms[k], count)
        return losses

    def total(self, members: Iterable[int]) -> Array:
        """The terms of these members, added one after the other."""
        total = np.zeros_like(self.terms[0])
        for k in members:
            total += self.terms[k]
        return total

    def loss(self, members: Iterable[int]) -> float:
        """The canonical loss of a subset: its terms added in ascending order, as in the metric."""
        members = sorted(members)
        return float(self.losses(self.total(members), len(members)))

    def value(self, loss: float) -> float:
        """The criterion's value of a loss."""
        return float(loss if self.criterion == "nll" else -loss)

    def selection(self, members: Iterable[int], bound: float | None = None, proven: bool = False) -> Selection:
        """The selection of these members; `bound` is a loss."""
        members = tuple(sorted(int(k) for k in members))
        proven = proven or self.size in (1, self.candidates)
        mean = metrics.ensemble_probabilities(self.predictions[list(members)])
        score = getattr(metrics, self.criterion)(mean, self.labels)
        bound = score if proven else bound if bound is None else self.value(bound)
        return Selection(members, score, self.criterion, proven, bound)


def cutoff(best: float) -> float:
    """The greatest loss that ties with `best`."""
    return best + TIE * max(1.0, abs(best))


def first_best(losses: Array) -> int:
    """The smallest index among those that tie with the least loss."""
    return int(np.flatnonzero(losses <= cutoff(losses.min()))[0])


class Record:
    """The subsets that may still win, whatever comes: fed in any order, it ends with the documented winner."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.best = np.inf
        self._entries: list[tuple[float, tuple[int, ...]]] = []

    @property
    def cutoff(self) -> float:
        """No subset of greater loss can win."""
        return cutoff(self.best) if self._entries else np.inf

    def offer(self, members: Iterable[int]) -> None:
        """Score a subset by the canonical formula and keep it if it may win."""
        members = tuple(sorted(int(k) for k in members))
        loss = self.problem.loss(members)
        # Who is at least as good and smaller wins whenever this one would.
        if loss > self.cutoff or any(other <= loss and smaller <= members for other, smaller in self._entries):
            return
        self.best = min(self.best, loss)
        self._entries = [e for e in self._entries if e[0] <= self.cutoff and not (loss <= e[0] and members < e[1])]
        self._entries.append((loss, members))

    @property
    def members(self) -> tuple[int, ...]:
        """The lexicographically smallest subset that ties with the best."""
        return min(members for loss, members in self._entries if loss <= self.cutoff)
