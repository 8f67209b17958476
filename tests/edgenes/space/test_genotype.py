"""Genotypes: exact distances after deviating, uniform draws, and JSON that is read back or refused."""

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from edgenes.space.genotype import Edge, Genotype, SearchSpace, deviate, random_genotype, shared_edges
from edgenes.space.operations import DARTS_OPERATIONS
from tests.support.toys import enumerate_genotypes, genotypes, seeded, spaces

TINY = SearchSpace(nodes=2, operations=("skip_connect", "max_pool_3x3"))
TINY_PAIRS = replace(TINY, inputs_per_node=2)


@settings(max_examples=40)
@given(genotype=genotypes(), seed=st.integers(0, 2**32), data=st.data())
def test_deviate_replaces_exactly_as_many_edges_as_told(genotype, seed, data):
    edges = data.draw(st.integers(0, genotype.space.max_edges))
    other = deviate(genotype, edges, seeded(seed))
    assert shared_edges(genotype, other) == shared_edges(other, genotype) == genotype.space.max_edges - edges
    # ... counted again, without the code under test
    pairs = [
        set(map(str, a)) & set(map(str, b))
        for own, others in zip(genotype.cells, other.cells, strict=True)
        for a, b in zip(own, others, strict=True)
    ]
    assert sum(map(len, pairs)) == genotype.space.max_edges - edges
    assert deviate(genotype, edges, seeded(seed)) == other


def chi_square(counts: Counter, outcomes: int) -> float:
    """Distance from a uniform distribution in standard deviations of a chi square."""
    assert len(counts) == outcomes
    expected = counts.total() / outcomes
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    return (statistic - (outcomes - 1)) / math.sqrt(2 * max(1, outcomes - 1))


@pytest.mark.parametrize("space", [TINY, TINY_PAIRS], ids=["one input", "two inputs"])
def test_random_genotypes_are_uniform(space):
    generator = seeded()
    every = enumerate_genotypes(space)
    counts = Counter(random_genotype(space, generator) for _ in range(40 * len(every)))
    assert set(counts) == set(every)
    assert abs(chi_square(counts, len(every))) < 4


def test_with_either_input_an_edge_from_input_0_is_that_from_input_1():
    space = SearchSpace(nodes=2)
    pool, skip = "max_pool_3x3", "skip_connect"
    a = Genotype(space, (((Edge(0, pool),), (Edge(2, skip),)),))
    b = Genotype(space, (((Edge(1, pool),), (Edge(1, skip),)),))
    assert (shared_edges(a, b), shared_edges(a, b, either_input=True)) == (0, 1)


@pytest.mark.parametrize("space", [TINY, TINY_PAIRS], ids=["one input", "two inputs"])
@pytest.mark.parametrize("edges", [1, 2])
def test_deviate_is_uniform_among_the_completions_of_the_kept_edges(space, edges):
    origin = enumerate_genotypes(space)[3]
    generator = seeded(1)
    possible = [g for g in enumerate_genotypes(space) if shared_edges(g, origin) == space.max_edges - edges]
    counts = Counter(deviate(origin, edges, generator) for _ in range(4000))
    assert set(counts) == set(possible)
    by_kept: dict[frozenset, Counter] = {}
    for genotype, count in counts.items():
        by_kept.setdefault(genotype.edge_set & origin.edge_set, Counter())[genotype] = count
    assert len(by_kept) == math.comb(space.max_edges, edges)
    assert abs(chi_square(Counter({k: c.total() for k, c in by_kept.items()}), len(by_kept))) < 4
    for completions in by_kept.values():
        assert abs(chi_square(completions, len(completions))) < 4


@pytest.mark.parametrize("edges", [-1, 5])
def test_deviate_refuses_what_it_cannot_replace(edges):
    with pytest.raises(ConfigError, match=f"got {edges}"):
        deviate(random_genotype(SearchSpace(), seeded()), edges, seeded())
    space = SearchSpace(nodes=1, inputs_per_node=2, operations=("skip_connect",))  # without another choice
    with pytest.raises(ConfigError, match="no other edges"):
        deviate(random_genotype(space, seeded()), 1, seeded())


@settings(max_examples=50)
@given(genotype=genotypes())
def test_json_and_indices_give_the_genotype_back(genotype):
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype
    assert again.to_json() == genotype.to_json()
    assert again.digest == genotype.digest
    edges, operations = genotype.indices
    assert tuple(edges.shape) == (len(genotype.space.cell_types), genotype.space.nodes, genotype.space.inputs_per_node)
    assert Genotype.from_indices(genotype.space, edges.tolist(), operations.tolist()) == genotype


def test_the_order_of_a_nodes_edges_does_not_name_another_genotype():
    space = SearchSpace(nodes=1, inputs_per_node=2)
    a, b = Edge(0, "skip_connect"), Edge(1, "max_pool_3x3")
    one, other = Genotype(space, (((a, b),),)), Genotype(space, (((b, a),),))
    assert one == other
    assert one.digest == other.digest
    assert one.indices[0].tolist() == other.indices[0].tolist() == [[[0, 1]]]


def test_the_digest_never_changes():
    """It names files of studies that are to be resumed: a new value would orphan them all."""
    nodes = [(Edge(j, DARTS_OPERATIONS[j]),) for j in range(4)]
    assert Genotype(SearchSpace(), (tuple(nodes),)).digest == "078469f523affdd1"


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"input": 1e999, "operation": "skip_connect"}, "input number"),
        ({"input": 0.5, "operation": "skip_connect"}, "input number"),
        ({"input": True, "operation": "skip_connect"}, "input number"),
        ({"input": "0", "operation": "skip_connect"}, "input number"),
        ({"input": 2, "operation": "skip_connect"}, "from 0..1"),
        ({"input": -1, "operation": "skip_connect"}, "from 0..1"),
        ({"input": 0, "operation": "none"}, "operations from"),
        ({"input": 0}, "'operation' is missing"),
    ],
)
def test_an_edge_that_does_not_exist_is_refused(edge, message):
    value = random_genotype(SearchSpace(nodes=1), seeded()).to_dict()
    value["cells"]["reduction"] = [[edge]]
    with pytest.raises(ConfigError, match=message):
        Genotype.from_json(json.dumps(value))


def test_a_genotype_must_fit_its_space():
    space = SearchSpace(nodes=2, inputs_per_node=2)
    node = (Edge(0, "skip_connect"), Edge(1, "skip_connect"))
    for cells in [(), ((node,),), ((node, node), (node, node)), ((node, node[:1]),), ((node, node[:1] * 2),)]:
        with pytest.raises(ConfigError):
            Genotype(space, cells)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": 0},
        {"nodes": 9},
        {"nodes": 4.0},
        {"nodes": True},
        {"inputs_per_node": 3},
        {"inputs_per_node": 1.0},
        {"cell_types": ()},
        {"cell_types": ("normal", "normal")},
        {"cell_types": "normal"},
        {"cell_types": [["normal"]]},
        {"cell_types": 1},
        {"operations": {"skip_connect": 1}},
        {"operations": ("identity",)},
    ],
)
def test_a_space_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SearchSpace(**wrong)


@given(space=spaces())
def test_edges_are_numbered_by_node_and_input(space):
    assert [space.edge(node, i) for node, i in space.edges] == list(range(len(space.edges)))
    assert len(space.edges) == sum(j + 2 for j in range(space.nodes))
    assert SearchSpace(**space.to_dict()) == space


def test_genotypes_of_different_spaces_are_not_compared():
    with pytest.raises(ConfigError, match="different search spaces"):
        shared_edges(random_genotype(TINY, seeded()), random_genotype(SearchSpace(), seeded()))
