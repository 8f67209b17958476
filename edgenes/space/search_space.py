"""The search space: what a cell may be, and the edges that it is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.space.operations import DARTS_OPERATIONS, OPERATIONS

CELL_TYPES = ("normal", "reduction")


@dataclass(frozen=True)
class SearchSpace:
    """What a cell may be: two inputs, `nodes` intermediate nodes, each with `inputs_per_node` incoming edges.

    The paper's "six nodes" are the two inputs and nodes=4. Candidate edges of a cell are ordered by node, then
    by input; node j (from 0) may take the inputs 0 .. j + 1, where 0 and 1 are the cell's own inputs.
    Raises ConfigError for a number that is out of range, or an operation that is not registered.

    Example:
        >>> from edgenes import SearchSpace
        >>> space = SearchSpace(nodes=2, operations=("skip_connect", "sep_conv_3x3"))
        >>> space.edges, space.max_edges, space.genotypes
        (((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)), 2, 24)
    """

    nodes: int = 4
    inputs_per_node: int = 1
    cell_types: tuple[str, ...] = ("reduction",)
    operations: tuple[str, ...] = DARTS_OPERATIONS

    def __post_init__(self) -> None:
        if type(self.nodes) is not int or not 1 <= self.nodes <= 8:  # neither 4.0 nor True: JSON tells them apart
            raise ConfigError(f"nodes must be a whole number between 1 and 8, got {shown(self.nodes)}.")
        if type(self.inputs_per_node) is not int or self.inputs_per_node not in (1, 2):  # the first node has two inputs
            raise ConfigError(f"inputs_per_node must be 1 or 2, got {shown(self.inputs_per_node)}.")
        for name, known in (("cell_types", CELL_TYPES), ("operations", OPERATIONS)):
            chosen = getattr(self, name)
            right = isinstance(chosen, list | tuple) and all(type(each) is str for each in chosen)
            if not right or not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
                raise ConfigError(f"{name} must be distinct names from {', '.join(known)}, got {shown(chosen)}.")
            object.__setattr__(self, name, tuple(chosen))

    @property
    def max_edges(self) -> int:
        """Lambda: the number of edges of a genotype."""
        return len(self.cell_types) * self.nodes * self.inputs_per_node

    @property
    def genotypes(self) -> int:
        """The number of genotypes."""
        k = self.inputs_per_node
        cell = math.prod(math.comb(node + 2, k) * len(self.operations) ** k for node in range(self.nodes))
        return cell ** len(self.cell_types)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The candidate edges of a cell as (node, input)."""
        return tuple((node, i) for node in range(self.nodes) for i in range(node + 2))

    def edge(self, node: int, i: int) -> int:
        """Position of the edge from input `i` to `node` among `edges`."""
        return node * (node + 3) // 2 + i

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` takes back."""
        return {
            "nodes": self.nodes,
            "inputs_per_node": self.inputs_per_node,
            "cell_types": list(self.cell_types),
            "operations": list(self.operations),
        }

    @classmethod
    def from_dict(cls, value: Any) -> SearchSpace:
        """The inverse of `to_dict`; raises ConfigError on anything that is no space."""
        known = cls.__dataclass_fields__
        if not isinstance(value, dict) or not value.keys() <= known.keys():
            raise ConfigError(f"a search space is {{{', '.join(known)}}}, got {shown(value)}.")
        return cls(**value)


@dataclass(frozen=True, order=True)
class Edge:
    """One chosen edge of a node: its input and its operation."""

    input: int
    operation: str

    def __post_init__(self) -> None:
        if type(self.input) is not int or type(self.operation) is not str:
            got = f"{shown(self.input)} and {shown(self.operation)}"
            raise ConfigError(f"an edge needs an input number and an operation's name, got {got}.")


Node = tuple[Edge, ...]
"""The edges that enter a node."""
