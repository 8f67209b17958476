"""Theorem 1 (section 2.2): how many edges of the final ensemble one weight step updates; expected, drawn, and counted.

The theorem's model: the path of a weight step and each of the N members share some edges with the optimal
architecture of Lambda edges, mu and nu_1 .. nu_N of them, all N + 1 numbers drawn independently from p(lambda).
Nothing else is shared. Two things are left open there, and both decide the result:

`interval`, what p(lambda) is, and what it means for a number of edges.
  False     U{1..Lambda}, the theorem's. Exactly lambda edges are shared; never none.
  True      U[0, Lambda], the experiments'. A number of edges is whole, lambda is not: each edge of the optimal
            architecture is shared with probability lambda / Lambda, so lambda is their expected number.

`nested`, which edges they are.
  False     any, independently for the path and each member: the theorem's. The overlap is mu * nu / Lambda on average.
  True      the edges have one order, in which they come in as lambda grows: the overlap is min(mu, nu).

What is counted, of one step (`EdgeCounts`): `summed` over the members, as the theorem does, so that an edge that
three members have counts three times, though it has one set of weights in the supernet; and `distinct`, once.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenes.space.genotype import Genotype


class EdgeCounts(NamedTuple):
    """Edges of the ensemble in a step's path: summed over the members, and distinct ones. Numbers, or one a step."""

    summed: float | NDArray[np.integer]
    distinct: float | NDArray[np.integer]


def expected_edges(members: int, max_edges: int, interval: bool = False, nested: bool = False) -> EdgeCounts:
    """E[m] in closed form; `summed` is eq. (2.4), N (Lambda + 1)^2 / (4 Lambda), for the defaults.

    interval: N Lambda / 4, nested N Lambda / 3. Nested alone: N (Lambda + 1)(2 Lambda + 1) / (6 Lambda).
    """
    if not nested:
        mean = max_edges / 2 if interval else (max_edges + 1) / 2
        share = mean / max_edges  # of a member that holds a given edge
        return EdgeCounts(members * mean**2 / max_edges, mean * (1 - (1 - share) ** members))
    if interval:  # E min(mu, nu) and E min(mu, max nu), integrals of polynomials
        return EdgeCounts(members * max_edges / 3, max_edges * (0.5 - 1 / ((members + 1) * (members + 2))))
    # The k-th edge is shared if at least k are: tail[k - 1] is that probability, for k = 1..Lambda.
    tail = np.arange(max_edges, 0, -1) / max_edges
    return EdgeCounts(members * float((tail**2).sum()), float((tail * (1 - (1 - tail) ** members)).sum()))


def updated_edges(paths: Iterable[Genotype], ensemble: Sequence[Genotype]) -> EdgeCounts:
    """Edges of the ensemble that were in each step's path, two arrays (steps,); `on_path` of a search sees the paths.

    An edge is a cell type, node, input and operation, as in `shared_edges`; pools and skips count, as in the theorem,
    though they have no weights to update.
    Of independent searches (DartsEns) a path updates its own search's member alone: count with an ensemble of that one.
    All genotypes are of one search space.
    """
    sets = [genotype.edge_set for genotype in ensemble]
    union = frozenset().union(*sets)
    counts = [(sum(len(path.edge_set & edges) for edges in sets), len(path.edge_set & union)) for path in paths]
    return EdgeCounts(*np.array(counts).T)
