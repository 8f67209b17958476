"""Genotypes: discrete cells, their distance in shared edges, and how to draw and vary them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgenes.errors import ConfigError
from edgenes.parsing import parse_json, reason, shown
from edgenes.space.operations import DARTS_OPERATIONS, OPERATIONS

if TYPE_CHECKING:  # the functions that need it import it: a search space is checked without it
    import torch

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


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture: for each cell type and node, `inputs_per_node` edges with distinct inputs.

    cells: (cell types, nodes, inputs_per_node) edges, a node's edges sorted by input. Raises ConfigError if the
    edges do not fit the space.

    Example:
        >>> from edgenes import Edge, Genotype, SearchSpace
        >>> genotype = Genotype(SearchSpace(nodes=2), (((Edge(0, "skip_connect"),), (Edge(2, "sep_conv_3x3"),)),))
        >>> print(genotype)
        reduction: 0:skip_connect, 2:sep_conv_3x3
        >>> Genotype.from_json(genotype.to_json()) == genotype
        True
    """

    space: SearchSpace
    cells: tuple[tuple[Node, ...], ...]

    def __post_init__(self) -> None:
        cells = tuple(tuple(tuple(sorted(node)) for node in cell) for cell in self.cells)
        object.__setattr__(self, "cells", cells)
        space = self.space
        if len(cells) != len(space.cell_types) or any(len(cell) != space.nodes for cell in cells):
            raise ConfigError(
                f"a genotype of this space has {len(space.cell_types)} cell(s) of {space.nodes} nodes, "
                f"got {[len(cell) for cell in cells]} nodes."
            )
        for cell, j in itertools.product(cells, range(space.nodes)):
            inputs = [edge.input for edge in cell[j]]
            if (
                len(inputs) != space.inputs_per_node
                or len(set(inputs)) < len(inputs)
                or not all(0 <= i < j + 2 for i in inputs)
                or any(edge.operation not in space.operations for edge in cell[j])
            ):
                raise ConfigError(
                    f"node {j} needs {space.inputs_per_node} edge(s) with distinct inputs from 0..{j + 1} and "
                    f"operations from {', '.join(space.operations)}; "
                    f"got {shown([(edge.input, edge.operation) for edge in cell[j]])}."
                )

    @cached_property
    def edge_set(self) -> frozenset[tuple[int, int, Edge]]:
        """Edges as (cell type index, node, edge)."""
        return frozenset(
            (c, j, edge) for c, cell in enumerate(self.cells) for j, node in enumerate(cell) for edge in node
        )

    @cached_property
    def indices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(edges, operations), each (types, nodes, inputs_per_node) int64: positions in the space's tuples."""
        import torch

        space = self.space
        edges = [[[space.edge(j, e.input) for e in node] for j, node in enumerate(cell)] for cell in self.cells]
        operations = [[[space.operations.index(e.operation) for e in node] for node in cell] for cell in self.cells]
        return torch.tensor(edges), torch.tensor(operations)

    @classmethod
    def from_indices(cls, space: SearchSpace, edges: Any, operations: Any) -> Genotype:
        """The inverse of `indices`, from nested lists."""
        cells = tuple(
            tuple(
                tuple(Edge(space.edges[e][1], space.operations[o]) for e, o in zip(es, os, strict=True))
                for es, os in zip(node_edges, node_operations, strict=True)
            )
            for node_edges, node_operations in zip(edges, operations, strict=True)
        )
        return cls(space, cells)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: {"space": ..., "cells": {cell type: [[{"input", "operation"}, ...] a node]}}."""
        cells = {
            name: [[{"input": e.input, "operation": e.operation} for e in node] for node in cell]
            for name, cell in zip(self.space.cell_types, self.cells, strict=True)
        }
        return {"space": self.space.to_dict(), "cells": cells}

    def to_json(self) -> str:
        """Canonical JSON: equal genotypes give equal texts."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, value: Any) -> Genotype:
        """The inverse of `to_dict`; raises ConfigError on anything that is no genotype."""
        try:
            space = SearchSpace.from_dict(value["space"])
            if set(value["cells"]) != set(space.cell_types):
                raise ConfigError(f"cells must be given for {', '.join(space.cell_types)}.")
            cells = tuple(
                tuple(tuple(Edge(e["input"], e["operation"]) for e in node) for node in value["cells"][name])
                for name in space.cell_types
            )
        except ConfigError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                'not a genotype: expected {"space": {...}, "cells": {cell type: [[{"input": 0, "operation": '
                f'"skip_connect"}}], ...]}}}}, got something else ({reason(error)}).'
            ) from error
        return cls(space, cells)

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """The inverse of `to_json`; raises ConfigError on anything that is no genotype."""
        try:
            value = parse_json(text)
        except ValueError as error:
            raise ConfigError(f"not a genotype: the text is no JSON ({reason(error)}).") from error
        return cls.from_dict(value)

    @cached_property
    def digest(self) -> str:
        """Name of the architecture: 16 hexadecimal digits of the SHA-256 of its JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return " | ".join(
            f"{name}: " + ", ".join("+".join(f"{e.input}:{e.operation}" for e in node) for node in cell)
            for name, cell in zip(self.space.cell_types, self.cells, strict=True)
        )


def shared_edges(a: Genotype, b: Genotype) -> int:
    """Number of edges with the same cell type, node, input and operation, 0 .. Lambda (section 2.1).

    Raises ConfigError for genotypes of different search spaces.

    Example:
        >>> import torch
        >>> from edgenes import SearchSpace, deviate, random_genotype, shared_edges
        >>> generator = torch.Generator().manual_seed(0)
        >>> genotype = random_genotype(SearchSpace(nodes=4), generator)
        >>> shared_edges(genotype, deviate(genotype, 3, generator))
        1
    """
    if a.space != b.space:
        raise ConfigError("genotypes of different search spaces have no edges to compare.")
    return len(a.edge_set & b.edge_set)


def _pick(options: list[Node], generator: torch.Generator) -> Node:
    import torch

    return options[int(torch.randint(len(options), (), generator=generator))]


def _completions(space: SearchSpace, node: int, kept: Node, barred: Node) -> list[Node]:
    """All edge sets of `node` that hold `kept` and none of `barred`."""
    free = [i for i in range(node + 2) if i not in {edge.input for edge in kept}]
    missing = space.inputs_per_node - len(kept)
    return [
        (*kept, *extra)
        for inputs in itertools.combinations(free, missing)
        for operations in itertools.product(space.operations, repeat=missing)
        if not set(extra := tuple(map(Edge, inputs, operations))) & set(barred)
    ]


def random_genotype(space: SearchSpace, generator: torch.Generator) -> Genotype:
    """A genotype drawn uniformly from the space (the paper's Random baseline).

    Example:
        >>> import torch
        >>> from edgenes import SearchSpace, random_genotype
        >>> len(random_genotype(SearchSpace(nodes=3), torch.Generator().manual_seed(0)).edge_set)
        3
    """
    cells = tuple(
        tuple(_pick(_completions(space, j, (), ()), generator) for j in range(space.nodes)) for _ in space.cell_types
    )
    return Genotype(space, cells)


def random_genotypes(space: SearchSpace, count: int, generator: torch.Generator) -> list[Genotype]:
    """Distinct genotypes drawn uniformly; fewer ones are the first of more. ConfigError if the space has fewer."""
    if count > space.genotypes:
        raise ConfigError(f"count must be at most {space.genotypes}, the genotypes of the search space, got {count}.")
    found: dict[Genotype, None] = {}
    while len(found) < count:
        found.setdefault(random_genotype(space, generator))
    return list(found)


def deviate(genotype: Genotype, edges: int, generator: torch.Generator) -> Genotype:
    """Replace `edges` edges, drawn uniformly, by others: the result shares exactly Lambda - edges with `genotype`.

    The completion is uniform among all that share exactly the kept edges (the paper's RandomD-NES, whose code
    never changes an operation alone). Raises ConfigError outside 0 .. Lambda, or where the space leaves no choice.
    """
    import torch

    space = genotype.space
    if not 0 <= edges <= space.max_edges:
        raise ConfigError(f"edges to replace must be between 0 and {space.max_edges}, got {edges}.")
    every = sorted(genotype.edge_set)
    replaced = {every[i] for i in torch.randperm(len(every), generator=generator)[:edges].tolist()}
    cells = []
    for c, cell in enumerate(genotype.cells):
        nodes = []
        for j, node in enumerate(cell):
            kept = tuple(edge for edge in node if (c, j, edge) not in replaced)
            barred = tuple(edge for edge in node if (c, j, edge) in replaced)
            options = _completions(space, j, kept, barred)
            if not options:
                raise ConfigError(f"node {j} of this search space has no other edges to deviate to.")
            nodes.append(_pick(options, generator))
        cells.append(tuple(nodes))
    return Genotype(space, tuple(cells))
