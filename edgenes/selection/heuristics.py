"""Methods that choose fast and prove nothing. Each is a pure function of a problem; ties go to the smaller index."""

from __future__ import annotations

import numpy as np

from edgenes import metrics
from edgenes.errors import ConfigError
from edgenes.selection.problem import Array, Problem, Selection, first_best

BEAM_WIDTH = 10
EM_STEPS = 2000
EM_TOLERANCE = 1e-6


def top(problem: Problem) -> Selection:
    """The `size` candidates that are best alone."""
    return problem.selection(_by_loss(_single_losses(problem))[: problem.size])


def greedy(problem: Problem) -> Selection:
    """Forward selection: `size` times the candidate that helps most, without replacement."""
    return problem.selection(_forward(problem, replacement=False))


def greedy_with_replacement(problem: Problem) -> Selection:
    """Forward selection with replacement (Caruana et al., 2004): `size` picks, whose shares are the weights."""
    picks = _forward(problem, replacement=True)
    members, counts = np.unique(picks, return_counts=True)
    return _weighted(problem, members, counts / len(picks))


def beam(problem: Problem, width: int = BEAM_WIDTH) -> Selection:
    """Forward selection that keeps the `width` best subsets of each size."""
    if width < 1:
        raise ConfigError(f"width must be at least 1 subset, got {width}.")
    kept: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for count in range(1, problem.size + 1):
        grown: dict[tuple[int, ...], float] = {}
        for _, members in kept:
            total = problem.total(members)
            rest = [k for k in range(problem.candidates) if k not in members]
            for k, loss in enumerate(problem.losses_with(total, rest, count)):
                if np.isfinite(loss):
                    grown.setdefault(tuple(sorted((*members, k))), loss)
        kept = sorted((loss, members) for members, loss in grown.items())[:width]
    subsets = [members for _, members in kept]
    return problem.selection(subsets[first_best(np.array([loss for loss, _ in kept]))])


def diverse(problem: Problem, trade_off: float = 0.5) -> Selection:
    """Good members that disagree: greedily least (mean of the members' own losses) - trade_off * disagreement.

    Disagreement is the share of samples on which two members predict different classes, averaged over all pairs;
    with `trade_off` 0 this is `top`. The loss is in nats or in shares of samples.
    """
    if not 0 <= trade_off < np.inf:
        raise ConfigError(f"trade_off must be a number of at least 0, got {trade_off}.")
    alone, votes = _single_losses(problem), problem.predictions.argmax(-1)
    members = [first_best(alone)]
    apart = np.zeros(problem.candidates)  # disagreement with each member, added up
    among = 0.0
    while (count := len(members)) < problem.size:
        apart += (votes != votes[members[-1]]).mean(-1)
        cost = (alone[members].sum() + alone) / (count + 1) - trade_off * (among + apart) / (count * (count + 1) / 2)
        cost[members] = np.inf
        members.append(first_best(cost))
        among += apart[members[-1]]
    return problem.selection(members)


def weighted(problem: Problem) -> Selection:
    """Convex weights that minimise the NLL: of all candidates, then of the `size` heaviest.

    The weights are the mixture's maximum likelihood, found by EM; the criterion only scores them. With p_k the
    probabilities of the labels and t their mixture, log is concave, so that no mixture's mean log-likelihood exceeds
    that of t by more than max_k mean(p_k / t) - 1: this is the bound, over all candidates and for `nll` alone.
    """
    likelihoods = np.maximum(metrics.of_labels(problem.predictions, problem.labels), metrics.TINY)
    weights, excess = _maximum_likelihood(likelihoods)
    bound = -np.log(weights @ likelihoods).mean() - excess if problem.criterion == "nll" else None
    members = np.sort(_by_loss(-weights)[: problem.size])
    return _weighted(problem, members, _maximum_likelihood(likelihoods[members])[0], bound)


def _maximum_likelihood(likelihoods: Array) -> tuple[Array, float]:
    """Weights of a mixture, and by how much at most another one's mean log-likelihood exceeds theirs."""
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(EM_STEPS):
        ratio = likelihoods @ (1 / (weights @ likelihoods)) / likelihoods.shape[1]
        excess = float(ratio.max()) - 1
        if excess <= EM_TOLERANCE:
            break
        weights = weights * ratio
        weights /= weights.sum()
    return weights, excess


def _weighted(problem: Problem, members: Array, weights: Array, bound: float | None = None) -> Selection:
    mean = np.tensordot(weights, problem.predictions[members], 1)
    score = getattr(metrics, problem.criterion)(mean, problem.labels)
    return Selection(
        tuple(members.tolist()), score, problem.criterion, False, bound, tuple(np.asarray(weights).tolist())
    )


def _forward(problem: Problem, replacement: bool) -> list[int]:
    members: list[int] = []
    total = np.zeros_like(problem.terms[0])
    for count in range(1, problem.size + 1):
        rest = [k for k in range(problem.candidates) if replacement or k not in members]
        members.append(first_best(problem.losses_with(total, rest, count)))
        total = total + problem.terms[members[-1]]
    return members


def _single_losses(problem: Problem) -> Array:
    return problem.losses_with(np.zeros_like(problem.terms[0]), range(problem.candidates), 1)


def _by_loss(losses: Array) -> list[int]:
    """Indices from the least loss up; those that tie with the least that is left, in ascending order."""
    losses, order = losses.copy(), []
    for _ in losses:
        order.append(first_best(losses))
        losses[order[-1]] = np.inf
    return order
