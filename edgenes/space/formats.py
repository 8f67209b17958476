"""Cells in the field's forms: DARTS's named tuple, NASLib's compact tuple, NAS-Bench-301's configuration.

All three have a normal and a reduction cell, two edges a node, and take every node's output. Text is parsed, never run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from edgenes.errors import ConfigError
from edgenes.parsing import reason, shown
from edgenes.space.operations import DARTS_OPERATIONS
from edgenes.space.search_space import CELL_TYPES, Edge, Node, SearchSpace

Cells = Mapping[str, tuple[Node, ...]]
"""The nodes of each cell type."""
Compact = tuple[tuple[tuple[int, int], ...], ...]
"""(normal, reduction), each ((input, operation number), ...), two a node."""
TEXT = 10_000
"""Most characters of a text that is parsed."""
_NAMES = dict(zip(CELL_TYPES, ("normal", "reduce"), strict=True))  # theirs
_PREFIX = "NetworkSelectorDatasetInfo:darts:"
_NODES = 4  # of NASLib's and NAS-Bench-301's cells


class DartsGenotype(NamedTuple):
    """DARTS's `Genotype`: (operation, input) two a node, and the numbers of the nodes whose outputs the cell has."""

    normal: list[tuple[str, int]]
    normal_concat: list[int]
    reduce: list[tuple[str, int]]
    reduce_concat: list[int]

    def __repr__(self) -> str:
        return f"Genotype({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"


def read_darts(value: Any) -> Cells:
    """The cells of DARTS's text or of an object with its fields; raises ConfigError for anything else."""
    try:
        found = _arguments(value) if isinstance(value, str) else value
        fields = [getattr(found, name) for name in DartsGenotype._fields]
        cells = {}
        for name, edges, concat in zip(CELL_TYPES, fields[::2], fields[1::2], strict=True):
            cells[name] = _nodes((i, operation) for operation, i in edges)
            count = len(cells[name])
            if len(concat) != count or sorted(concat) != list(range(2, count + 2)):
                raise ConfigError(
                    f"a cell here has the outputs of all its nodes: {_NAMES[name]}_concat must be "
                    f"{list(range(2, count + 2))}, got {shown(concat)}."
                )
    except ConfigError:
        raise
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ConfigError(
            "not a genotype of DARTS: expected Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, ...], "
            f"reduce=[...], reduce_concat=[...]), got {shown(value)} ({reason(error)})."
        ) from error
    return cells


def write_darts(space: SearchSpace, cells: Cells) -> DartsGenotype:
    """DARTS's named tuple; raises ConfigError unless the space has two inputs a node and both cell types."""
    _check_form(space, space.nodes)
    normal, reduction = ([(edge.operation, edge.input) for edge in _edges(cells[name])] for name in CELL_TYPES)
    concat = list(range(2, space.nodes + 2))
    return DartsGenotype(normal, concat, reduction, list(concat))


def read_naslib(value: Any) -> Cells:
    """The cells of NASLib's compact form, as text or nested tuples or lists; raises ConfigError for anything else."""
    try:
        pair = _literal(_parsed(value)) if isinstance(value, str) else value
        return {
            name: _nodes((i, DARTS_OPERATIONS[range(len(DARTS_OPERATIONS)).index(k)]) for i, k in cell)
            for name, cell in zip(CELL_TYPES, pair, strict=True)
        }
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "not a compact genotype of NASLib: expected two cells, each ((input, operation 0 .. "
            f"{len(DARTS_OPERATIONS) - 1}), ...), got {shown(value)} ({reason(error)})."
        ) from error


def write_naslib(space: SearchSpace, cells: Cells) -> Compact:
    """NASLib's compact form; raises ConfigError unless the space is DARTS's."""
    _check_form(space, _NODES, DARTS_OPERATIONS)
    return tuple(
        tuple((edge.input, DARTS_OPERATIONS.index(edge.operation)) for edge in _edges(cells[name]))
        for name in CELL_TYPES
    )


def read_nasbench301(value: Any) -> Cells:
    """The cells of NAS-Bench-301's configuration, a mapping or its JSON; raises ConfigError where a key is missing."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
        cells = {}
        for name, theirs in _NAMES.items():
            nodes = []
            for j in range(_NODES):
                inputs = "0_1" if j == 0 else found[f"{_PREFIX}inputs_node_{theirs}_{j + 2}"]
                edges = [(int(i), _edge_key(theirs, j, int(i))) for i in inputs.split("_")]
                nodes.append(tuple(Edge(i, found[key]) for i, key in edges))
            cells[name] = tuple(nodes)
    except ConfigError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"not a configuration of NAS-Bench-301: expected {_PREFIX}edge_normal_0 and its like, for each edge and "
            f"each node's inputs, got {shown(value)} ({reason(error)})."
        ) from error
    return cells


def write_nasbench301(space: SearchSpace, cells: Cells) -> dict[str, str]:
    """The cells' keys of NAS-Bench-301's configuration; raises ConfigError unless the space is DARTS's."""
    _check_form(space, _NODES, DARTS_OPERATIONS)
    found: dict[str, str] = {}
    for name, theirs in _NAMES.items():
        for j, node in enumerate(cells[name]):
            found |= {_edge_key(theirs, j, edge.input): edge.operation for edge in node}
            if j > 0:  # the first node has no choice
                found[f"{_PREFIX}inputs_node_{theirs}_{j + 2}"] = "_".join(str(edge.input) for edge in node)
    return found


def check_fits(space: SearchSpace, cells: Cells) -> None:
    """Raise ConfigError, with the options to give, unless cells of these forms are some of the space."""
    nodes = len(cells["normal"])
    if (space.nodes, space.inputs_per_node, set(space.cell_types)) != (nodes, 2, set(CELL_TYPES)):
        raise ConfigError(
            f"the genotype has {nodes} nodes with 2 inputs in normal and reduction cells, the search space "
            f"{_described(space)}: give --nodes {nodes} --inputs-per-node 2 --cell-types both, or "
            f"SearchSpace({nodes}, 2, {CELL_TYPES})."
        )
    used = {edge.operation for cell in cells.values() for edge in _edges(cell)}
    if not used <= set(space.operations):
        raise ConfigError(
            f"the genotype has operations that the search space, of {', '.join(space.operations)}, has not: "
            f"{', '.join(sorted(used - set(space.operations)))}. Add them to --operations."
        )


def _check_form(space: SearchSpace, nodes: int, operations: tuple[str, ...] | None = None) -> None:
    """Raise ConfigError unless genotypes of the space have this form."""
    fits = (space.nodes, space.inputs_per_node, set(space.cell_types)) == (nodes, 2, set(CELL_TYPES))
    if not fits:
        raise ConfigError(
            f"this form has {nodes} nodes with 2 inputs in normal and reduction cells; the genotype's search space has "
            f"{_described(space)}. Write it with to_json."
        )
    if operations is not None and not set(space.operations) <= set(operations):
        raise ConfigError(
            f"this form knows the operations {', '.join(operations)}; the genotype's search space has "
            f"{', '.join(space.operations)}. Write it with to_json or to_darts."
        )


def _described(space: SearchSpace) -> str:
    return f"{space.nodes} nodes with {space.inputs_per_node} input(s) in {' and '.join(space.cell_types)} cells"


def _edge_key(theirs: str, node: int, i: int) -> str:
    return f"{_PREFIX}edge_{theirs}_{node * (node + 3) // 2 + i}"


def _edges(cell: Iterable[Node]) -> list[Edge]:
    return [edge for node in cell for edge in node]


def _nodes(pairs: Iterable[tuple[Any, Any]]) -> tuple[Node, ...]:
    """Nodes of two edges each from (input, operation)."""
    edges = [Edge(i, operation) for i, operation in pairs]
    if not edges or len(edges) % 2:
        raise ConfigError(f"a cell of this form has two edges a node, got {len(edges)} edges.")
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _parsed(text: str) -> ast.expr:
    """The only expression of a text, or the value that it assigns."""
    if len(text) > TEXT:
        raise ValueError(f"it has {len(text)} characters, and at most {TEXT} are read")
    try:
        (statement,) = ast.parse(text.strip()).body
    except (MemoryError, RecursionError, SyntaxError, ValueError) as error:  # the parser's own limits among them
        raise ValueError(f"it is no expression: {reason(error)}") from None
    if isinstance(statement, ast.Expr | ast.Assign):
        return statement.value
    raise ValueError("it is no expression")


def _arguments(text: str) -> Any:
    """An object with the arguments of the call `Genotype(...)` in a text."""
    call = _parsed(text)
    if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "Genotype" or call.args:
        raise ValueError("it is no Genotype(normal=..., ...)")
    return DartsGenotype(**{str(each.arg): _argument(each.value) for each in call.keywords})


def _argument(node: ast.expr) -> Any:
    """A literal, or `range(2, 6)`."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "range" and not node.keywords:
        return range(*map(_literal, node.args))
    return _literal(node)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (MemoryError, RecursionError, TypeError, ValueError):
        raise ValueError("only numbers, names in quotes, lists and tuples are read") from None
