"""Small spaces, logits and data sets that the tests of the core share."""

import copy
import itertools

import numpy as np
import torch
from hypothesis import strategies as st

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.data.dataset import Dataset, Part, build_dataset
from edgenes.space.genotype import CELL_TYPES, Edge, Genotype, SearchSpace, random_genotype
from edgenes.space.logits import ArchitectureLogits
from edgenes.space.operations import DARTS_OPERATIONS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spaces(max_nodes: int = 5) -> st.SearchStrategy[SearchSpace]:
    return st.builds(
        SearchSpace,
        nodes=st.integers(1, max_nodes),
        inputs_per_node=st.sampled_from([1, 2]),
        cell_types=st.sampled_from([CELL_TYPES, *((name,) for name in CELL_TYPES)]),
        operations=st.sampled_from([DARTS_OPERATIONS, DARTS_OPERATIONS[2:4]]),
    )


def genotypes(max_nodes: int = 5) -> st.SearchStrategy[Genotype]:
    return st.builds(lambda space, seed: random_genotype(space, seeded(seed)), spaces(max_nodes), st.integers(0, 2**32))


def random_logits(space, seed=0, scale=1.0, batch=(), dtype=torch.float32) -> ArchitectureLogits:
    generator = seeded(seed)
    shape = (*batch, len(space.cell_types), len(space.edges), len(space.operations))
    alpha = scale * torch.randn(shape, generator=generator, dtype=dtype)
    return ArchitectureLogits(alpha, scale * torch.randn(shape[:-1], generator=generator, dtype=dtype))


def one_hot_logits(genotype: Genotype, size: float = 50.0, dtype=torch.float32) -> ArchitectureLogits:
    """Logits that choose `genotype`: `size` at its edges and operations, else -`size`."""
    space = genotype.space
    alpha = torch.full((len(space.cell_types), len(space.edges), len(space.operations)), -size, dtype=dtype)
    beta = torch.full(alpha.shape[:-1], -size, dtype=dtype)
    for kind, cell in enumerate(genotype.cells):
        for j, node in enumerate(cell):
            for edge in node:
                position = space.edges.index((j, edge.input))
                alpha[kind, position, space.operations.index(edge.operation)] = size
                beta[kind, position] = size
    return ArchitectureLogits(alpha, beta)


def enumerate_genotypes(space: SearchSpace) -> list[Genotype]:
    """Every genotype of a small space."""
    per_node = [
        [
            tuple(map(Edge, inputs, operations))
            for inputs in itertools.combinations(range(j + 2), space.inputs_per_node)
            for operations in itertools.product(space.operations, repeat=space.inputs_per_node)
        ]
        for j in range(space.nodes)
    ]
    cells = list(itertools.product(*per_node))
    return [Genotype(space, chosen) for chosen in itertools.product(cells, repeat=len(space.cell_types))]


def blobs(count=96, size=8, classes=3, seed=0) -> Dataset:
    """Images whose brightest third of rows tells the class, in noise: learnt within a few steps."""
    rng = np.random.default_rng(seed)

    def part():
        labels = rng.integers(classes, size=count)
        images = rng.integers(0, 160, (count, 1, size, size))
        for image, label in zip(images, labels, strict=True):
            image[:, label * size // classes : (label + 1) * size // classes] += 90
        return Part(images.astype(np.uint8), labels.astype(np.int64))

    return build_dataset("blobs", [f"third {i}" for i in range(classes)], part(), part(), part())


class Interrupted(Exception):
    """What stops a run in a test."""


def reports_of(run, path=None, stop_after=None, resume=None):
    """[(epoch, metrics, state)] of `run(report, resume)`, and its result; None if it stops, its state saved."""
    reports = []

    def report(epoch, metrics, state):
        reports.append(copy.deepcopy((epoch, metrics, state)))
        if epoch == stop_after:
            save_checkpoint(path, "trial", state)
            raise Interrupted

    try:
        return reports, run(report=report, resume=resume)
    except Interrupted:
        return reports, None


def interrupted_and_resumed(run, path):
    """Reports and result of a whole run, and the result of one that stopped and resumed, with the same reports."""
    whole, result = reports_of(run)
    before, _ = reports_of(run, path, stop_after=1)
    torch.rand(3)  # the global state plays no part
    after, resumed = reports_of(run, resume=load_checkpoint(path, "trial"))
    assert_same(whole, before + after)
    return whole, result, resumed


def assert_same(one, other):
    """Equal to the last bit, through dicts and lists."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other
