"""Theorem 1 against enumeration and the paper's numbers; the counts against weights that really moved."""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from edgenes.config import HypernetworkConfig, SearchConfig
from edgenes.errors import ConfigError
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype
from edgenes.space.logits import ArchitectureLogits
from edgenes.space.theory import expected_edges, updated_edges
from edgenes.training.bilevel import Bilevel
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from tests.support.toys import blobs, seeded

# --- Theorem 1 ------------------------------------------------------------------------------------------------------


def subsets(max_edges, nested):
    """[(probability, edges)] of an architecture: every number of edges, and every set of that many."""
    for size in range(1, max_edges + 1):
        sets = [range(size)] if nested else list(itertools.combinations(range(max_edges), size))
        for edges in sets:
            yield Fraction(1, max_edges * len(sets)), frozenset(edges)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("members", "max_edges"), [(1, 4), (2, 3), (3, 2)])
def test_the_closed_form_is_the_enumerated_expectation(members, max_edges, nested):
    summed = distinct = total = Fraction()
    architectures = list(subsets(max_edges, nested))
    for (p, path), *ensemble in itertools.product(architectures, repeat=members + 1):
        for q, _ in ensemble:
            p *= q
        total += p
        summed += p * sum(len(path & edges) for _, edges in ensemble)
        distinct += p * len(path & frozenset().union(*(edges for _, edges in ensemble)))
    assert total == 1
    assert expected_edges(members, max_edges, nested=nested) == pytest.approx((summed, distinct), rel=1e-12)


@pytest.mark.parametrize("members", [1, 2, 4])
def test_on_an_interval_the_closed_form_is_the_integral(members):
    """On a fine grid of mu and nu, as shares of Lambda."""
    middle = (np.arange(2000) + 0.5) / 2000
    increase = np.diff((np.arange(2001) / 2000) ** members)  # the probability that max nu is in each interval
    nested = np.minimum.outer(middle, middle)
    expected = expected_edges(members, 7, True, True)
    assert expected.summed == pytest.approx(7 * members * nested.mean(), rel=1e-6)
    assert expected.distinct == pytest.approx(7 * (nested.mean(0) @ increase), rel=1e-5)
    # independent: an edge is in no member with probability (1 - nu)^N, averaged apart for each member
    expected = expected_edges(members, 7, True)
    assert expected.summed == pytest.approx(7 * members * np.outer(middle, middle).mean(), rel=1e-9)
    assert expected.distinct == pytest.approx(7 * middle.mean() * (1 - (1 - middle).mean() ** members), rel=1e-9)


# --- counted --------------------------------------------------------------------------------------------------------

SKIP, POOL, CONV = "skip_connect", "max_pool_3x3", "sep_conv_3x3"
TWO = SearchSpace(nodes=2, operations=(SKIP, POOL, CONV))


def genotype(*edges):
    return Genotype(TWO, (tuple((Edge(*edge),) for edge in edges),))


def test_counts_by_hand():
    ensemble = [
        genotype((0, CONV), (2, SKIP)),
        genotype((0, CONV), (1, SKIP)),  # node 3 from another input
        genotype((0, POOL), (2, SKIP)),  # node 2 by another operation
    ]
    paths = [
        genotype((0, CONV), (2, SKIP)),  # the first edge is in two members, the second one too
        genotype((0, CONV), (0, CONV)),  # the operation of node 2, on node 3: in none
        genotype((1, POOL), (1, SKIP)),
        genotype((1, CONV), (0, SKIP)),
    ]
    counts = updated_edges(iter(paths), ensemble)
    assert counts.summed.tolist() == [4, 2, 1, 0]
    assert counts.distinct.tolist() == [2, 1, 1, 0]


# --- in a search ----------------------------------------------------------------------------------------------------

DATA = blobs()
SMALL = {"space": TWO, "channels": 2, "batch_size": 16, "path_batch": 16, "paths": 2}  # six steps an epoch


def searched(config, **callbacks):
    result = search_genotype(SearchConfig(**SMALL | config), DATA, **callbacks)
    return result.metrics, result.logits.alpha, result.logits.beta


def trained(config, **callbacks):
    optimal = random_genotype(TWO, seeded(3))
    result = train_hypernetwork(HypernetworkConfig(**SMALL | config), DATA, optimal, **callbacks)
    return result.metrics, *result.hypernetwork.state_dict().values(), *result.supernet.state_dict().values()


@pytest.mark.parametrize("weight_paths", ["fair", "architecture"])
@pytest.mark.parametrize("run", [searched, trained])
def test_watching_the_paths_changes_no_bit_and_misses_no_step(run, weight_paths):
    config = {"epochs": 2, "weight_paths": weight_paths}
    paths = []
    metrics, *values = run(config, on_path=paths.append)
    unwatched, *same = run(config)
    assert metrics == unwatched
    assert all(torch.equal(a, b) for a, b in zip(values, same, strict=True))
    assert len(paths) == 12
    assert len(set(paths)) > 6


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("weight_paths", ["fair", "architecture"])
def test_the_edges_that_count_are_those_whose_weights_moved(weight_paths, accumulate):
    space = SearchSpace(nodes=2, inputs_per_node=2, operations=(CONV, "dil_conv_3x3"))
    config = SearchConfig(**SMALL | {"space": space, "weight_paths": weight_paths})
    ensemble = [random_genotype(space, seeded(seed)) for seed in range(3)]
    paths, moved = [], []
    loop = Bilevel(config, DATA, accumulate, paths.append)
    logits = ArchitectureLogits(torch.zeros(1, 5, 2), torch.zeros(1, 5))
    operations = loop.supernet.cells[0].operations
    for images, labels in itertools.islice(loop.batches(), 6):
        before = {name: value.clone() for name, value in operations.named_parameters()}
        loop.weight_step(images, labels, logits, 1.0)
        names = [name.split(".")[:2] for name, value in operations.named_parameters() if (value != before[name]).any()]
        moved.append({(0, space.edges[int(e)][0], Edge(space.edges[int(e)][1], name)) for e, name in names})
    assert [path.edge_set for path in paths] == moved
    counts = updated_edges(paths, ensemble)
    times = Counter(edge for member in ensemble for edge in member.edge_set)
    assert counts.summed.tolist() == [sum(times[edge] for edge in edges) for edges in moved]
    assert counts.distinct.tolist() == [sum(edge in times for edge in edges) for edges in moved]
    assert counts.summed.sum() > counts.distinct.sum() > 0


@pytest.mark.parametrize("forward", ["mixture", "gdas"])
@pytest.mark.parametrize("run", [searched, trained])
def test_a_pass_that_follows_no_path_has_none_to_watch(run, forward):
    with pytest.raises(ConfigError, match="on_path"):
        run({"epochs": 1, "forward": forward}, on_path=[].append)
