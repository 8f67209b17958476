"""When not to trust an ensemble: how sure it is and why, which images to leave to a person, sets of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgenes.errors import ConfigError
from edgenes.metrics import check_predictions, check_probabilities, correct, of_labels
from edgenes.parsing import shown
from edgenes.validation import check_at_least

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """How uncertain an ensemble is of each sample, and whether its members or each of them is: arrays (samples,).

    members: their probabilities (members, samples, classes).
    entropy: predictive, that of the members' mean, in nats; `aleatoric` and `epistemic` add up to it.
    aleatoric: the members' mean entropy, which more members would not lower.
    epistemic: mutual information of the class and the member, 0 where all members say the same.
    variation_ratio: share of the members that do not vote for the class with most votes.

    Example:
        >>> import numpy as np
        >>> from edgenes import Uncertainty
        >>> agree, differ = [[0.5, 0.5], [0.99, 0.01]], [[0.5, 0.5], [0.01, 0.99]]
        >>> found = Uncertainty.of(np.log([agree, differ]))
        >>> found.entropy.round(2), found.epistemic.round(2), found.variation_ratio
        (array([0.69, 0.69]), array([0.  , 0.64]), array([0. , 0.5]))
    """

    members: Array
    entropy: Array
    epistemic: Array
    aleatoric: Array
    variation_ratio: Array

    @classmethod
    def of(cls, log_probabilities: ArrayLike, weights: Sequence[float] | None = None) -> Uncertainty:
        """That of the members' log-probabilities (members, samples, classes), -inf where a probability is 0.

        `weights`, one a member and adding to 1, weigh means and votes. Raises ConfigError for what is none of these.
        """
        logs = np.asarray(log_probabilities, dtype=np.float64)
        if logs.size and logs.max() > 1e-3:
            raise ConfigError(f"log-probabilities are at most 0; got {logs.max():.6g}: of probabilities take np.log")
        members = check_predictions(np.exp(logs))
        count, _, classes = members.shape
        shares = np.full(count, 1 / count) if weights is None else np.asarray(weights, dtype=np.float64)
        if shares.shape != (count,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise ConfigError(f"weights must be {count} numbers of at least 0 that add to 1; got {shown(weights)}")
        entropy = _entropy(np.tensordot(shares, members, 1))
        aleatoric = shares @ _entropy(members)
        votes = np.tensordot(shares, members.argmax(-1)[..., None] == np.arange(classes), 1)
        # The difference of two equal entropies may be -1e-16.
        return cls(members, entropy, np.maximum(entropy - aleatoric, 0), aleatoric, np.maximum(1 - votes.max(-1), 0))


def _entropy(probabilities: Array) -> Array:
    """In nats, (..., samples) from (..., samples, classes); a class of probability 0 adds nothing."""
    return -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(-1)


@dataclass(frozen=True)
class Abstention:
    """Accept a prediction whose confidence, its largest probability, is at least `threshold`.

    `error` is the error that was wanted; `coverage` and `observed` are the share that was accepted of the samples it
    was fitted to, and the error there.
    """

    threshold: float
    error: float
    coverage: float
    observed: float

    def __post_init__(self) -> None:
        check_at_least(self, 0, "threshold", "error", "coverage", "observed")

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, error: float) -> Abstention:
        """The least threshold with an error of at most `error` on what it accepts, fitted on V.

        One error is added to those seen, (errors + 1) / (accepted + 1) <= error: that of the image to come. Raises
        ConfigError where no threshold does that.

        Example:
            >>> from edgenes import Abstention
            >>> sure, unsure = [[0.9, 0.1]] * 30, [[0.6, 0.4]] * 10
            >>> rule = Abstention.fit(sure + unsure, [0] * 35 + [1] * 5, error=0.05)
            >>> rule.threshold, rule.coverage, rule.accepts([[0.7, 0.3], [0.02, 0.98]])
            (0.9, 0.75, array([False,  True]))
        """
        return cls.choose(cls.rules(probabilities, labels), error)

    @classmethod
    def rules(cls, probabilities: ArrayLike, labels: ArrayLike) -> tuple[Abstention, ...]:
        """The rules among which `fit` finds one for any error, the strictest first; `error` is the least of each.

        Without the labelled images they say as much as those: where an ensemble keeps them, its `predict` abstains.
        """
        wrong = ~correct(probabilities, labels)
        confidence = np.asarray(probabilities, dtype=np.float64).max(-1)
        order = (-confidence).argsort()
        accepted, errors = np.arange(1, len(wrong) + 1), wrong[order].cumsum()
        last = np.append(np.diff(confidence[order]) != 0, True)  # of equal confidence all are accepted, or none
        bound = np.where(last, (errors + 1) / (accepted + 1), np.inf)
        # Where a rule that accepts more has as low an error, nobody wants this one.
        later = np.append(np.minimum.accumulate(bound[::-1])[::-1][1:], np.inf)
        return tuple(
            cls(*map(float, (confidence[order[k]], bound[k], accepted[k] / len(wrong), errors[k] / accepted[k])))
            for k in np.flatnonzero(bound < later)
        )

    @classmethod
    def choose(cls, rules: Sequence[Abstention], error: float) -> Abstention:
        """The one of these `rules` that accepts most with an error of at most `error`; raises ConfigError as `fit`."""
        if not 0 < error < 1:
            raise ConfigError(f"a wanted error is a share between 0 and 1; got {shown(error)}")
        found = [rule for rule in rules if rule.error <= error]
        if not found:
            raise ConfigError(
                f"no threshold keeps the error at {error}: the labelled images can show {rules[0].error:.2g} at best. "
                "Allow a larger error, or fit on more images."
            )
        return replace(found[-1], error=error)

    def accepts(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Which of the predictions (samples, classes) to accept, (samples,)."""
        return np.asarray(probabilities, dtype=np.float64).max(-1) >= self.threshold


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that hold the label with a probability of at least `coverage`, over images like those of V.

    A set has all classes of at least `threshold`, and the most probable one always: no set is empty.
    """

    threshold: float
    coverage: float

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, coverage: float = 0.9) -> ConformalSets:
        """Split conformal prediction with the score 1 - p(label) (Sadinle et al. 2019), fitted on V.

        V must have chosen neither members, weights nor temperature for the coverage to be exact: fit on images that
        nothing else has seen. Raises ConfigError where they are too few for it.

        Example:
            >>> from edgenes import ConformalSets
            >>> probabilities = [[0.7, 0.3], [0.6, 0.4], [0.55, 0.45], [0.9, 0.1]]
            >>> found = ConformalSets.fit(probabilities, [0, 0, 1, 0], coverage=0.8)
            >>> found.threshold, found.sets([[0.5, 0.5], [0.8, 0.2]])
            (0.45, array([[ True,  True],
                   [ True, False]]))
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"a coverage is a share between 0 and 1; got {shown(coverage)}")
        table, right = check_probabilities(probabilities, labels)
        of_label = np.sort(of_labels(table, right))
        missed = math.floor((len(of_label) + 1) * (1 - coverage) + 1e-9)  # that many labels may lie outside, less one
        if missed < 1:
            raise ConfigError(
                f"a coverage of {coverage} needs {math.ceil(1 / (1 - coverage) - 1e-9) - 1} labelled images; "
                f"got {len(of_label)}: bring more, or lower the coverage"
            )
        return cls(float(of_label[missed - 1]), coverage)

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Whether each class is in the sample's set, (samples, classes), from probabilities of that shape."""
        table = np.asarray(probabilities, dtype=np.float64)
        return (table >= self.threshold) | (table == table.max(-1, keepdims=True))
