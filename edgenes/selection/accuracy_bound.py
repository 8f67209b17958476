"""Bounds on the accuracy of every subset that extends a given one, and the scoring of the last members in bulk.

A subset is right on a sample if for each rival class c of the label y its summed margin, of p_k(y) - p_k(c) over its
members k, is positive, or 0 where y < c (argmax takes the first of equal classes). A *row* is one rival of one sample.

**Bound.** With s the sum of a row's margins over the members P, and h the sum of the r greatest margins of that row
among the candidates that may follow, no subset that extends P by r more has a margin above s + h. So a sample
with a row of s + h < 0 is wrong for all of them, and the rest is the most that any of them gets right. *Proof.* The r
further margins are r of those of which h sums the greatest, and one rival ahead is enough to be wrong. QED
In the same way, with the r least margins, a row that no subset can lose is dropped: of the classes only those stay
that can still win; a sample without rows is right for all.

**The last members.** With up to `TAIL` members missing, all subsets of a node are counted on the few samples that are
still open, at first on one row each, that of the least expected margin (fewer rows can only count more samples as
right); who is then still as good as the best, on all rows; who still is, by the canonical formula.

*Floating point.* Margins are whole numbers of 1 / `scale`, rounded up after adding `ROUNDING`, which covers the
canonical formula's own rounding: sums of whole numbers are exact, a subset that is right has no negative row, and a row
that is at least n + 1 for a subset of n is truly positive. So counts are never too low, and the proof is exact.
"""

from collections.abc import Iterator
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenes.selection.problem import Array, Problem, Record

TAIL = 3
MOST_AT_ONCE = 2_000_000
"""Subsets of the last members from which on one fewer is taken, so that no step outlasts a time limit by much."""
ROUNDING = 1e-9
NARROW = 10
"""Most members for which margins are 16 bits wide: their unit is then at most 1 / 3,200."""
CHUNK_BYTES = 16 * 2**20
FLUSH = 100_000
"""Subsets good on their first rows that are held before they are counted on all."""


class AccuracyBranches:
    """The branches of a selection by accuracy: see the module."""

    batch = 1

    def __init__(self, problem: Problem, record: Record):
        self.problem, self.record, self.size = problem, record, problem.size
        alone = (problem.predictions.argmax(-1) == problem.labels).mean(-1)
        self.order = np.argsort(-alone, kind="stable")
        self.tail = max(r for r in range(1, min(TAIL, self.size) + 1) if r == 1 or comb(len(alone), r) <= MOST_AT_ONCE)
        self.right, self.sample, self.rival, self.margins = _rows(problem, self.order)
        self.starts = _starts(self.sample)
        self.segment = np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.sample)))
        self.greatest = _following(self.margins, self.tail)
        self.least = -_following(-self.margins, self.tail)
        missing = range(self.tail + 1, self.size + 1)
        ordered = np.sort(self.margins, axis=0) if missing else self.margins
        self.at_most = {r: ordered[-r:].sum(0, dtype=self.margins.dtype) for r in missing}
        self.expected = self.margins.mean(0)
        self.root_bound = -(self.right + len(self.starts)) / len(problem.labels)

    @staticmethod
    def bytes(candidates: int, samples: int, classes: int, size: int) -> int:
        """Memory beside the predictions, if no class of any sample can be dropped."""
        rows = samples * classes
        return 5 * candidates * rows * _integer(size).itemsize + 40 * rows + 24 * FLUSH + 8 * CHUNK_BYTES

    def expand(self, prefixes: NDArray[Any]) -> tuple[Array, NDArray[Any]]:
        """Loss bounds (children,) and children (children, d + 1) of one prefix (1, d), if they may still win.

        Prefixes are ascending positions in `order`; a child adds a later one. With `tail` members missing, all subsets
        are scored instead, and no child is returned.
        """
        prefix, depth = prefixes[0], prefixes.shape[1]
        missing, start = self.size - depth, int(prefix[-1]) + 1 if depth else 0
        sums = self.margins[prefix].sum(0, dtype=self.margins.dtype)
        if missing == self.tail:
            self._finish(prefix, sums, start)
            return np.empty(0), np.empty((0, depth + 1), int)
        possible = np.count_nonzero(self._all(sums + self.at_most[missing] >= 0))
        bound = -(self.right + possible) / len(self.problem.labels)
        children = np.arange(start, len(self.order) - missing + 1)
        if bound > self.record.cutoff:
            children = children[:0]
        return np.full(len(children), bound), np.column_stack([np.repeat(prefixes, len(children), axis=0), children])

    def _all(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether all rows of each sample hold (samples with rows,)."""
        return np.logical_and.reduceat(rows, self.starts) if len(rows) else rows

    @property
    def _enough(self) -> int:
        """The least count of right samples that may win."""
        return int(np.ceil(-self.record.cutoff * len(self.problem.labels) - 1e-6))

    def _finish(self, prefix: NDArray[Any], sums: NDArray[Any], start: int) -> None:
        """Score all subsets of a prefix and `tail` of the candidates from `start` on."""
        possible = self._all(sums + self.greatest[start] >= 0)
        low = sums + self.least[start]
        certain = self._all(low > self.size)
        settled = self.right + int(np.count_nonzero(certain))
        if settled + np.count_nonzero(possible & ~certain) < self._enough:
            return
        rows = np.flatnonzero((low <= self.size) & (possible & ~certain)[self.segment])
        if not len(rows):  # all of them are equal: the smallest wins
            smallest = start + np.argsort(self.order[start:])[: self.tail]
            self.record.offer(self.order[np.concatenate([prefix, smallest])])
            return
        expected = sums[rows] + self.tail * self.expected[rows]
        rows = rows[np.lexsort((expected, self.sample[rows]))]
        first = rows[_starts(self.sample[rows])]
        later, needed = _padded(self.margins[start:, first], -1), _padded(-sums[first], 1)
        kept, held = [], 0
        for columns, counts in _counted(later, needed, self.tail):
            good = np.flatnonzero(settled + counts >= self._enough)
            if len(good):
                kept.append(np.column_stack([np.broadcast_to(column, counts.shape)[good] for column in columns]))
                held += len(good)
            if held > FLUSH:
                self._check(prefix, start + np.concatenate(kept), rows, sums[rows], settled)
                kept, held = [], 0
        if kept:
            self._check(prefix, start + np.concatenate(kept), rows, sums[rows], settled)

    def _check(
        self, prefix: NDArray[Any], last: NDArray[Any], rows: NDArray[Any], sums: NDArray[Any], settled: int
    ) -> None:
        """Count the subsets of a prefix and the `last` members (subsets, tail) on all rows; offer those good enough."""
        starts, later = _starts(self.sample[rows]), np.take(self.margins, rows, axis=1)
        step = max(1, CHUNK_BYTES // (4 * later[0].nbytes))
        for begin in range(0, len(last), step):
            part = last[begin : begin + step]
            margins = sums + later[part[:, 0]]
            for column in part.T[1:]:
                margins += later[column]
            counts = settled + np.count_nonzero(np.logical_and.reduceat(margins >= 0, starts, axis=1), axis=1)
            for i in np.argsort(-counts, kind="stable"):
                if counts[i] < self._enough:
                    break
                members = self.order[np.concatenate([prefix, part[i]])]
                if self._right(members) >= self._enough:
                    self.record.offer(members)

    def _right(self, members: NDArray[Any]) -> int:
        """How many samples a subset gets right, by the canonical formula on the rows alone."""
        predictions, labels = self.problem.predictions, self.problem.labels[self.sample]
        true, rival = (
            sum(predictions[k][self.sample, c] for k in np.sort(members)) / self.size for c in (labels, self.rival)
        )
        return self.right + int(np.count_nonzero(self._all((true > rival) | ((true == rival) & (labels < self.rival)))))


def _integer(size: int) -> np.dtype:
    return np.dtype(np.int16 if size <= NARROW else np.int32)


def _rows(problem: Problem, order: NDArray[Any]) -> tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """How many samples all subsets get right; and of each row that can be lost and whose sample can be won, the sample
    (rows,), the rival (rows,) and the margins (candidates, rows), candidates in `order`."""
    predictions, labels, size = problem.predictions, problem.labels, problem.size
    candidates, samples, classes = predictions.shape
    integer = _integer(size)
    scale = min(np.iinfo(integer).max // (1.01 * size) - 2, 1e-1 / (size * ROUNDING))
    right, parts = 0, []
    step = max(1, CHUNK_BYTES // (8 * candidates * classes))
    for begin in range(0, samples, step):
        truth = labels[begin : begin + step]
        here = np.arange(len(truth))
        chunk = predictions[order, begin : begin + step]
        margins = (np.ceil(((chunk[:, here, truth][..., None] - chunk) + ROUNDING) * scale)).astype(integer)
        ordered = np.partition(margins, (size - 1, candidates - size), axis=0)
        high, low = (part.sum(0, dtype=integer) for part in (ordered[-size:], ordered[:size]))
        rival = np.ones(high.shape, bool)
        rival[here, truth] = False
        possible = ((high >= 0) | ~rival).all(1)
        rows = (low <= size) & rival & possible[:, None]
        right += int(np.count_nonzero(possible & ~rows.any(1)))
        sample, other = np.nonzero(rows)
        parts.append((sample + begin, other, margins[:, rows]))
    sample, other, margins = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return right, sample, other, margins


def _starts(sample: NDArray[Any]) -> NDArray[Any]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.diff(sample, prepend=-1))


def _padded(values: NDArray[Any], fill: int) -> NDArray[Any]:
    """C-contiguous, the last axis filled up to a multiple of 8."""
    padded = np.full((*values.shape[:-1], -(-values.shape[-1] // 8) * 8), fill, values.dtype)
    padded[..., : values.shape[-1]] = values
    return padded


def _following(margins: NDArray[Any], count: int) -> NDArray[Any]:
    """For each position the sum of the `count` greatest margins from it on (candidates, rows).

    At the last positions, where fewer are left, the sum means nothing.
    """
    greatest = np.full((count, margins.shape[1]), np.iinfo(margins.dtype).min // (2 * count), margins.dtype)
    sums = np.empty_like(margins)
    for k in range(len(margins) - 1, -1, -1):
        moving = margins[k]
        for row in greatest:
            row[:], moving = np.maximum(row, moving), np.minimum(row, moving)
        sums[k] = greatest.sum(0, dtype=margins.dtype)
    return sums


def _counted(
    later: NDArray[Any], needed: NDArray[Any], tail: int
) -> Iterator[tuple[tuple[NDArray[Any] | int, ...], NDArray[Any]]]:
    """All subsets of `tail` of the candidates, as columns of members, and on how many rows their margins suffice.

    later: (candidates, rows), needed: (rows,); rows are padded to a multiple of 8.
    """
    if tail == 1:
        yield (np.arange(len(later)),), _true(later >= needed)
        return
    for first, second in _pairs(len(later), max(1, CHUNK_BYTES // later[0].nbytes)):
        sums = later[first] + later[second]
        if tail == 2:
            yield (first, second), _true(sums >= needed)
            continue
        for head in range(first[-1]):
            begin = np.searchsorted(first, head, side="right")
            yield (head, first[begin:], second[begin:]), _true(sums[begin:] >= needed - later[head])


def _pairs(candidates: int, most: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """All pairs first < second, sorted, in chunks of at most `most`."""
    first, second = np.triu_indices(candidates, 1)
    for begin in range(0, len(first), most):
        yield first[begin : begin + most], second[begin : begin + most]


def _true(hits: NDArray[np.bool_]) -> NDArray[Any]:
    """How many are True in each row, whose length is a multiple of 8: eight bytes are added at a time."""
    words = hits.view(np.uint64)
    counts = np.zeros(len(hits), np.int64)
    for begin in range(0, words.shape[1], 255):
        bytes_ = words[:, begin : begin + 255].sum(1, dtype=np.uint64)
        counts += bytes_.view(np.uint8).reshape(-1, 8).sum(1, dtype=np.int64)
    return counts
