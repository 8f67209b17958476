"""Genotypes: discrete cells, their distance in shared edges, and how to draw and vary them."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgenes.errors import ConfigError
from edgenes.parsing import reason, shown
from edgenes.space import formats
from edgenes.space.formats import DartsGenotype
from edgenes.space.search_space import CELL_TYPES, Edge, Node, SearchSpace

if TYPE_CHECKING:  # the functions that need it import it: a search space is checked without it
    import torch

__all__ = [
    "CELL_TYPES",
    "Edge",
    "Genotype",
    "SearchSpace",
    "deviate",
    "random_genotype",
    "random_genotypes",
    "shared_edges",
]


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

    @classmethod
    def from_darts(cls, value: Any, space: SearchSpace | None = None) -> Genotype:
        """That of DARTS's `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=..., reduce=..., ...)`.

        `value` is its text, parsed and not run, or an object with these fields; `space` by default DARTS's own with
        as many nodes. Raises ConfigError for another form, and for a space that the cells do not fit.
        """
        return cls._of_both(formats.read_darts(value), space)

    def to_darts(self) -> DartsGenotype:
        """DARTS's named tuple, whose `str` is its text; ConfigError without two inputs a node and both cell types."""
        return formats.write_darts(self.space, self._by_type)

    @classmethod
    def from_naslib(cls, value: Any, space: SearchSpace | None = None) -> Genotype:
        """That of NASLib's compact form ((input, operation number), ...) of both cells, as text or nested tuples."""
        return cls._of_both(formats.read_naslib(value), space)

    def to_naslib(self) -> formats.Compact:
        """NASLib's compact form; raises ConfigError for a space that is not DARTS's."""
        return formats.write_naslib(self.space, self._by_type)

    @classmethod
    def from_nasbench301(cls, value: Any, space: SearchSpace | None = None) -> Genotype:
        """That of NAS-Bench-301's ConfigSpace configuration, as a mapping or as JSON; its other keys are ignored."""
        return cls._of_both(formats.read_nasbench301(value), space)

    def to_nasbench301(self) -> dict[str, str]:
        """The keys of NAS-Bench-301's configuration that are the cells; ConfigError for a space that is not DARTS's."""
        return formats.write_nasbench301(self.space, self._by_type)

    @classmethod
    def _of_both(cls, cells: formats.Cells, space: SearchSpace | None) -> Genotype:
        space = SearchSpace(len(cells["normal"]), 2, CELL_TYPES) if space is None else space
        formats.check_fits(space, cells)
        return cls(space, tuple(cells[name] for name in space.cell_types))

    @property
    def _by_type(self) -> formats.Cells:
        return dict(zip(self.space.cell_types, self.cells, strict=True))

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
            value = json.loads(text)
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


def shared_edges(a: Genotype, b: Genotype, either_input: bool = False) -> int:
    """Number of edges of a that b has: the same cell type, node, input and operation, 0 .. Lambda (section 2.1).

    With `either_input` a cell's inputs 0 and 1 count as one: in a network's first cell they carry the same data.
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
    own = set(counted_edges(b, either_input))
    return sum(edge in own for edge in counted_edges(a, either_input))


def counted_edges(genotype: Genotype, either_input: bool) -> list[tuple[int, int, int, str]]:
    """(cell type, node, input, operation) of each edge in order, as `shared_edges` compares them."""
    first = int(either_input)
    return [
        (kind, node, max(first, edge.input), edge.operation)
        for kind, cell in enumerate(genotype.cells)
        for node, edges in enumerate(cell)
        for edge in edges
    ]


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

    Example:
        >>> import torch
        >>> from edgenes import SearchSpace, deviate, random_genotype, shared_edges
        >>> generator = torch.Generator().manual_seed(0)
        >>> genotype = random_genotype(SearchSpace(), generator)
        >>> shared_edges(genotype, deviate(genotype, 3, generator))
        1
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
