"""Bounds on the NLL of every subset that extends a given one, and the branches built on them.

With a_k >= 0 the probabilities of the labels (samples,), raised to `metrics.TINY` (which can only lower a loss), a
subset S of n members has the log-likelihood f(S) = mean log(sum_k a_k / n), means being over samples.

**Bound.** For every t > 0, and every S that consists of the members P and r = n - |P| of the candidates R,

    f(S) <= mean log(t / n) + mean(s / t) - 1 + (sum of the r greatest g_k, k in R),

with s = sum of a_k over P and g_k = mean(a_k / t).

*Proof.* log is concave, so it lies below its tangent at t: log x <= log t + x / t - 1. Put x = s + sum of a_k over
S \\ P, divide by n, average: the right side is that of the claim with the sum of g_k over S \\ P, which is r of the
g_k in R and so at most the sum of the r greatest. QED

The bound holds at any t, and is least where t is the sum of the best convex relaxation (members in [0, 1], r in all):
there the tangent's and the relaxation's values are equal, by duality. So t is moved towards that by Frank-Wolfe steps,
whose direction is the r greatest g_k, and the least bound met is kept. The root's t also orders the candidates: the
greatest g first, so that the last branches hold the weakest alone.

*Floating point.* All is float64. Sums of n' non-negative numbers are off by n' units in the last place at most;
`SLACK` times (samples + 64) times the magnitudes that are added is granted to every bound.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenes import metrics
from edgenes.selection.problem import Array, Problem, Record

SLACK = 4 * float(np.finfo(np.float64).eps)
ROOT_STEPS = 300
ROOT_PRECISION = 1e-7
NODE_STEPS = 4
LINE_STEPS = 8
BATCH = 32
LEAVES = 128
"""Subsets that are scored at a time."""
MOST_LOG = -float(np.log(metrics.TINY))


class NllBranches:
    """The branches of a selection by NLL: see the module."""

    batch = BATCH

    def __init__(self, problem: Problem, record: Record):
        self.problem, self.record, self.size = problem, record, problem.size
        likelihoods = np.maximum(problem.terms, metrics.TINY)
        weights, gains, self.root_bound = self._relaxed(likelihoods)
        self.order = np.argsort(-gains, kind="stable")
        self.likelihoods, self.weights = likelihoods[self.order], weights[self.order]

    @staticmethod
    def bytes(candidates: int, samples: int, classes: int, size: int) -> int:
        """Memory beside the predictions."""
        return 8 * samples * (3 * candidates + 6 * BATCH + 3 * LEAVES) + 8 * BATCH * candidates * (size + 8)

    def expand(self, prefixes: NDArray[Any]) -> tuple[Array, NDArray[Any]]:
        """Loss bounds (children,) and the children (children, d + 1) of prefixes (batch, d) that may still win.

        Prefixes are ascending positions in `order`; a child adds a later one. Where children are whole subsets,
        they are scored instead, and none is returned.
        """
        batch, depth = prefixes.shape
        candidates, missing = len(self.likelihoods), self.size - depth
        sums = np.zeros((batch, self.likelihoods.shape[1]))
        for column in prefixes.T:
            sums += self.likelihoods[column]
        last = prefixes[:, -1:] if depth else np.full((batch, 1), -1)
        allowed = np.arange(candidates) > last
        if missing == 1:
            for prefix, total in zip(prefixes, sums, strict=True):
                self._score(prefix, total)
            return np.empty(0), np.empty((0, depth + 1), int)
        bounds = self._bounds(sums, allowed, missing)
        node, added = np.nonzero(bounds <= self.record.cutoff)
        return bounds[node, added], np.concatenate([prefixes[node], added[:, None]], axis=1)

    def _bounds(self, sums: Array, allowed: NDArray[Any], missing: int) -> Array:
        """Least loss of the subsets that extend each sum by each candidate (batch, candidates)."""
        weights = np.where(allowed, self.weights + 1e-9, 0)
        rest = np.minimum(weights * (missing / weights.sum(1, keepdims=True)), 1) @ self.likelihoods
        best = gains = np.full(allowed.shape, np.inf)
        for step in range(NODE_STEPS):
            if step:
                target = np.zeros(allowed.shape)
                np.put_along_axis(target, np.argpartition(-gains, missing - 1, axis=1)[:, :missing], 1, axis=1)
                direction = target @ self.likelihoods - rest
                rest = rest + _share(sums + rest, direction) * direction
            total = sums + rest
            constant, slack = _constant(sums, total, self.size)
            gains = np.where(allowed, (1 / total) @ self.likelihoods.T / total.shape[1], -np.inf)
            added = gains + _later(gains, missing - 1)
            best = np.minimum(best, constant[:, None] + added + slack[:, None] * (1 + np.maximum(added, 0)))
        return -best

    def _score(self, prefix: NDArray[Any], sums: Array) -> None:
        """Score all subsets of a prefix and one later candidate."""
        for start in range(prefix[-1] + 1, len(self.order), LEAVES):
            losses = np.log(self.size) - _mean_log(sums + self.likelihoods[start : start + LEAVES])
            slack = SLACK * (len(sums) + 64) * (1 + np.abs(losses))
            for i in np.flatnonzero(losses <= self.record.cutoff + slack):
                if losses[i] <= self.record.cutoff + slack[i]:
                    self.record.offer(self.order[[*prefix, start + i]])

    def _relaxed(self, likelihoods: Array) -> tuple[Array, Array, float]:
        """Weights of the convex relaxation, the candidates' g at its best tangent, and that tangent's bound."""
        candidates, size = len(likelihoods), self.size
        weights = np.full(candidates, size / candidates)
        nothing = np.zeros((1, likelihoods.shape[1]))
        lowest, tangent = np.inf, np.zeros(candidates)
        for _ in range(ROOT_STEPS):
            total = (weights @ likelihoods)[None]
            gains = likelihoods @ (1 / total[0]) / total.shape[1]
            constant, slack = _constant(nothing, total, size)
            top = np.argsort(-gains, kind="stable")[:size]
            bound = float(constant[0] + gains[top].sum())
            bound += float(slack[0]) * (1 + abs(gains[top].sum()))
            if bound < lowest:
                lowest, tangent = bound, gains
            if lowest - (_mean_log(total)[0] - np.log(size)) < ROOT_PRECISION:
                break
            target = np.zeros(candidates)
            target[top] = 1
            share = _share(total, (target @ likelihoods)[None] - total)[0, 0]
            weights += share * (target - weights)
        return weights, tangent, -lowest


def _constant(sums: Array, total: Array, size: int) -> tuple[Array, Array]:
    """The bound without its g (batch,), and the rounding granted for each unit of g."""
    logs, ratio = _mean_log(total) - np.log(size), (sums / total).mean(1)
    slack = SLACK * (total.shape[1] + 64) * (1 + MOST_LOG + ratio)
    return logs + ratio - 1, slack


def _mean_log(values: Array) -> Array:
    """mean log(values) over the last axis, with one logarithm for 8 samples: their product stays above 1e-304."""
    samples = values.shape[-1]
    for _ in range(3):
        half = values.shape[-1] // 2
        product = values[..., :half] * values[..., half : 2 * half]
        if values.shape[-1] % 2:
            product = np.concatenate([product, values[..., -1:]], -1)
        values = product
    return np.log(values).sum(-1) / samples


def _later(gains: Array, count: int) -> Array:
    """For each position the sum of the `count` greatest gains after it (batch, candidates), -inf if there are fewer."""
    best = np.full((count, len(gains)), -np.inf)
    sums = np.zeros(gains.shape)
    for k in range(gains.shape[1] - 1, -1, -1):
        sums[:, k] = best.sum(0)
        moving = gains[:, k].copy()
        for row in best:
            row[:], moving = np.maximum(row, moving), np.minimum(row, moving)
    return sums


def _share(total: Array, direction: Array) -> Array:
    """By bisection, the share of `direction` in [0, 1] that raises mean log(total + share * direction) most."""
    low, high = np.zeros((len(total), 1)), np.ones((len(total), 1))
    for _ in range(LINE_STEPS):
        middle = (low + high) / 2
        rising = (direction / (total + middle * direction)).mean(1, keepdims=True) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return low
