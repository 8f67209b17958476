"""Genotypes as numbers: a canonical form for those that compute the same function, and features for a regression.

Arrays of genotypes are `inputs` and `operations`, each int64 (genotypes, types, nodes, inputs_per_node): a node's
inputs 0 .. node + 1, and positions in the space's operations.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgenes.errors import ConfigError
from edgenes.space.genotype import Edge, Genotype, SearchSpace
from edgenes.space.logits import Choice
from edgenes.space.operations import is_parameter_free

CELL_INPUTS = 2


def to_arrays(space: SearchSpace, genotypes: Sequence[Genotype]) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, operations) of genotypes of the space; raises ConfigError for one of another space."""
    position = {name: k for k, name in enumerate(space.operations)}
    shape = (len(genotypes), len(space.cell_types), space.nodes, space.inputs_per_node)
    edges: list[Edge] = []
    for genotype in genotypes:
        if genotype.space != space:
            raise ConfigError(f"a genotype is of another search space: {genotype.space}, not {space}.")
        edges.extend(edge for cell in genotype.cells for node in cell for edge in node)
    inputs = np.array([edge.input for edge in edges], np.int64)
    operations = np.array([position[edge.operation] for edge in edges], np.int64)
    return inputs.reshape(shape), operations.reshape(shape)


def from_arrays(space: SearchSpace, inputs: np.ndarray, operations: np.ndarray) -> list[Genotype]:
    """The inverse of `to_arrays`."""
    edges = (inputs + _first_edges(space)).tolist()
    return [Genotype.from_indices(space, e, o) for e, o in zip(edges, operations.tolist(), strict=True)]


def from_choice(space: SearchSpace, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, operations) of genotypes as `sample_choice` draws them."""
    return choice[0].numpy() - _first_edges(space), choice[1].numpy()


def _first_edges(space: SearchSpace) -> np.ndarray:
    """(nodes, 1): the position of each node's first edge among the space's."""
    return np.array([space.edge(node, 0) for node in range(space.nodes)]).reshape(-1, 1)


def canonical(genotype: Genotype, same_inputs: bool = False) -> Genotype:
    """The one genotype that stands for all that compute the same function.

    A cell's output is the concatenation of its nodes, whose order the next layer's weights absorb: nodes are put into
    an order that depends on what they compute alone. With `same_inputs` a cell's two inputs carry the same data, as
    in a network of one cell, and count as one where the space allows it.

    Example:
        >>> from edgenes import Edge, Genotype, SearchSpace
        >>> from edgenes.space.encoding import canonical
        >>> space = SearchSpace(nodes=2)
        >>> pool, skip = Edge(0, "max_pool_3x3"), Edge(0, "skip_connect")
        >>> one, other = Genotype(space, (((pool,), (skip,)),)), Genotype(space, (((skip,), (pool,)),))
        >>> one == other, canonical(one) == canonical(other)
        (False, True)
    """
    arrays = canonical_arrays(genotype.space, *to_arrays(genotype.space, [genotype]), same_inputs)
    return from_arrays(genotype.space, *arrays)[0]


def canonical_arrays(
    space: SearchSpace, inputs: np.ndarray, operations: np.ndarray, same_inputs: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """`canonical` of arrays of genotypes."""
    if same_inputs:
        inputs, operations = _merged_inputs(inputs, operations)
    colours = _colours(space, inputs, operations)
    count, types, nodes = inputs.shape[:3]
    # Nodes are placed one by one: of those whose inputs are placed, the one of the least colour. Where some play the
    # same part, the one whose inputs were placed first: which of them is placed would else depend on their numbers.
    number = np.full((count, types, nodes + CELL_INPUTS), -1)
    number[..., :CELL_INPUTS] = np.arange(CELL_INPUTS)
    new_inputs, new_operations = np.empty_like(inputs), np.empty_like(operations)
    rows, cells = np.ogrid[:count, :types]
    digits = (nodes + CELL_INPUTS) ** np.arange(inputs.shape[-1])
    for place in range(nodes):
        renamed = np.take_along_axis(number, inputs.reshape(count, types, -1), 2).reshape(inputs.shape)
        waiting = (renamed < 0).any(-1) | (number[..., CELL_INPUTS:] >= 0)
        ready = np.where(waiting, np.iinfo(np.uint64).max, colours)
        least = ready == ready.min(-1, keepdims=True)
        chosen = np.where(least, np.sort(renamed, -1) @ digits, np.iinfo(np.int64).max).argmin(-1)
        number[rows, cells, chosen + CELL_INPUTS] = place + CELL_INPUTS
        order = np.argsort(renamed[rows, cells, chosen], -1)
        new_inputs[:, :, place] = np.take_along_axis(renamed[rows, cells, chosen], order, -1)
        new_operations[:, :, place] = np.take_along_axis(operations[rows, cells, chosen], order, -1)
    return new_inputs, new_operations


def _merged_inputs(inputs: np.ndarray, operations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cell's input 1 as its input 0; a node that takes both has its lower operation on input 0."""
    both = (inputs < CELL_INPUTS).sum(-1, keepdims=True) == CELL_INPUTS
    order = np.argsort(operations, -1)
    operations = np.where(both, np.take_along_axis(operations, order, -1), operations)
    return np.where(~both & (inputs == 1), 0, inputs), operations


def _colours(space: SearchSpace, inputs: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """(genotypes, types, nodes) uint64: equal for nodes that play the same part, by colour refinement.

    In each round a node's colour takes in those of its inputs and of the nodes that use it, with the operations
    between (Weisfeiler & Lehman, 1968); as many rounds as nodes reach all.
    """
    count, types, nodes, width = inputs.shape
    colour = np.zeros((count, types, nodes + CELL_INPUTS), np.uint64)
    colour[..., :CELL_INPUTS] = np.arange(1, CELL_INPUTS + 1)
    rows, cells = np.ogrid[:count, :types]
    labels = operations.astype(np.uint64)
    for _ in range(nodes):
        received, sent = np.zeros_like(colour), np.zeros_like(colour)
        for node in range(nodes):
            for edge in range(width):
                source, label = inputs[:, :, node, edge], labels[:, :, node, edge]
                received[:, :, node + CELL_INPUTS] += _mixed(colour[rows, cells, source], label, 1)
                sent[rows, cells, source] += _mixed(colour[:, :, node + CELL_INPUTS], label, 2)
        colour[..., CELL_INPUTS:] = _mixed(received, sent, 3)[..., CELL_INPUTS:]
    return colour[..., CELL_INPUTS:]


def _mixed(first: np.ndarray, second: np.ndarray, salt: int) -> np.ndarray:
    """A hash of two arrays of uint64, modulo 2**64 (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        value: Any = first * np.uint64(0x9E3779B97F4A7C15) + second * np.uint64(0xD1B54A32D192ED03) + np.uint64(salt)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def features(space: SearchSpace, inputs: np.ndarray, operations: np.ndarray, same_inputs: bool = False) -> np.ndarray:
    """Features of the canonical genotypes, float64 (genotypes, features).

    For each cell type: the operations on edges from each cell input and from nodes; how many nodes are so deep, in
    edges and in operations with parameters; nodes that no other uses.
    """
    inputs, operations = canonical_arrays(space, inputs, operations, same_inputs)
    count, types, nodes, width = inputs.shape
    kinds = len(space.operations)
    rows, cells = np.ogrid[:count, :types]
    source = np.zeros((count, types, CELL_INPUTS + 1, kinds))
    depth = np.zeros((count, types, nodes + CELL_INPUTS), np.int64)
    trained = np.zeros_like(depth)
    used = np.zeros(depth.shape, bool)
    trains = np.array([not is_parameter_free(name) for name in space.operations])
    for node in range(nodes):
        for k in range(width):
            origin, operation = inputs[:, :, node, k], operations[:, :, node, k]
            np.add.at(source, (rows, cells, np.minimum(origin, CELL_INPUTS), operation), 1)
            here = node + CELL_INPUTS
            depth[:, :, here] = np.maximum(depth[:, :, here], depth[rows, cells, origin] + 1)
            trained[:, :, here] = np.maximum(trained[:, :, here], trained[rows, cells, origin] + trains[operation])
            used[rows, cells, origin] = True
    levels = np.arange(1, nodes + 1)
    parts = [
        source.reshape(count, -1),
        (depth[..., CELL_INPUTS:, None] == levels).sum(2).reshape(count, -1),
        (trained[..., CELL_INPUTS:, None] >= levels).sum(2).reshape(count, -1),
        (~used[..., CELL_INPUTS:]).sum(2),
    ]
    return np.concatenate(parts, 1).astype(np.float64)


def node_options(space: SearchSpace, node: int) -> np.ndarray:
    """(options, 2, inputs_per_node): all inputs and operations that a node may have."""
    width = space.inputs_per_node
    chosen = itertools.combinations(range(node + CELL_INPUTS), width)
    operations = itertools.product(range(len(space.operations)), repeat=width)
    return np.array(list(itertools.product(chosen, operations)))


def random_arrays(space: SearchSpace, count: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform random genotypes as arrays; some may be equal."""
    options = [node_options(space, node) for node in range(space.nodes)]
    drawn = [
        [each[torch.randint(len(each), (count,), generator=generator).numpy()] for each in options]
        for _ in space.cell_types
    ]  # types, nodes of (count, 2, inputs_per_node)
    both = np.array(drawn).transpose(3, 2, 0, 1, 4)
    return both[0], both[1]
