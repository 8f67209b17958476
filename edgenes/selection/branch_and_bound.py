"""Branch and bound over subsets: best bound first, in bounded memory, with a time limit."""

import heapq
import time
from itertools import count
from math import comb

import numpy as np

from edgenes.errors import ConfigError
from edgenes.selection.accuracy_bound import AccuracyBranches
from edgenes.selection.heuristics import greedy, top
from edgenes.selection.nll_bound import NllBranches
from edgenes.selection.problem import Problem, Record, Selection

MAX_BYTES = 2 * 2**30
OPEN_NODES = 200_000
"""Open nodes from which on the deepest go first: their number then hardly grows."""
NODE_BYTES = 250


BRANCHES: dict[str, type[NllBranches] | type[AccuracyBranches]] = {"nll": NllBranches, "accuracy": AccuracyBranches}
"""The subsets of a problem as a tree: a node is a prefix of positions, its children add a later one."""


def exact_memory(shape: tuple[int, ...], size: int, criterion: str = "nll") -> int:
    """Most bytes that an exact selection from predictions of this shape takes, their float64 copy included."""
    candidates, samples, classes = shape
    copies = (9 * candidates + 8 * size + 48) * samples * classes
    branches = BRANCHES[criterion]
    nodes = min(OPEN_NODES + branches.batch * candidates * size, comb(candidates, size))
    return copies + nodes * (NODE_BYTES + 16 * size) + branches.bytes(candidates, samples, classes, size)


def exact(
    problem: Problem,
    max_seconds: float = 3600.0,
    max_bytes: float = MAX_BYTES,
) -> Selection:
    """The best subset, proven: branch and bound with the bounds of `nll_bound` or `accuracy_bound`.

    After `max_seconds` it ends with the best found, its bound and `proven_optimal=False`; at least greedy's choice
    is then there, improved by exchanges as long as time allows. Raises ConfigError, before it searches, if
    `exact_memory` exceeds `max_bytes`.
    """
    needed = exact_memory(problem.predictions.shape, problem.size, problem.criterion)
    if needed > max_bytes:
        raise ConfigError(
            f"exact selection from predictions {problem.predictions.shape} may take {needed / 2**30:.2f} GiB, "
            f"more than {max_bytes / 2**30:.2f}: raise max_bytes, bring fewer candidates or samples, or use "
            'method="greedy"'
        )
    if problem.size in (1, problem.candidates):
        return top(problem)
    deadline = time.monotonic() + max_seconds
    record = Record(problem)
    record.offer(greedy(problem).members)
    _exchange(problem, record, deadline)
    branches = BRANCHES[problem.criterion](problem, record)
    bound = _search(problem, branches, record, deadline)
    return problem.selection(record.members, bound=bound, proven=bound is None)


def _search(
    problem: Problem,
    branches: NllBranches | AccuracyBranches,
    record: Record,
    deadline: float,
) -> float | None:
    """Feed the record until no open node can win (None) or time is up (the least bound of what is open)."""
    open_nodes: list[list[tuple[float, int, tuple[int, ...]]]] = [[] for _ in range(problem.size)]
    heapq.heappush(open_nodes[0], (branches.root_bound, 0, ()))
    number = count(1)
    while True:
        depths = [depth for depth, nodes in enumerate(open_nodes) if nodes]
        if not depths:
            return None
        crowded = sum(map(len, open_nodes)) > OPEN_NODES
        depth = depths[-1] if crowded else min(depths, key=lambda depth: open_nodes[depth][0][0])
        bound = min(open_nodes[depth][0][0] for depth in depths)
        if time.monotonic() > deadline:
            return min(bound, record.best)
        nodes = open_nodes[depth]
        taken = [heapq.heappop(nodes) for _ in range(min(branches.batch, len(nodes)))]
        prefixes = [prefix for lowest, _, prefix in taken if lowest <= record.cutoff]
        if prefixes:
            bounds, children = branches.expand(np.array(prefixes, dtype=int).reshape(len(prefixes), depth))
            for lowest, child in zip(bounds.tolist(), children.tolist(), strict=True):
                if lowest <= record.cutoff:
                    heapq.heappush(open_nodes[depth + 1], (lowest, next(number), tuple(child)))


def _exchange(problem: Problem, record: Record, deadline: float) -> None:
    """Exchange one member for one other candidate, the best such exchange first, while that helps."""
    while True:
        before, members = record.best, list(record.members)
        everything = sum(problem.terms[k] for k in members)
        best, found = record.best, None
        for member in members:
            if time.monotonic() > deadline:
                return
            rest = [k for k in range(problem.candidates) if k not in members]
            losses = problem.losses_with(everything - problem.terms[member], rest, problem.size)
            if losses.min() < best:
                best, found = losses.min(), [k for k in members if k != member] + [int(losses.argmin())]
        if found is None:
            return
        record.offer(found)
        if record.best >= before:
            return
