"""The canonical form against brute force over all numberings of nodes, and features that see functions alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.space.encoding import canonical, canonical_arrays, features, from_arrays, to_arrays
from edgenes.space.genotype import CELL_TYPES, Edge, Genotype, SearchSpace, random_genotypes
from tests.support.toys import enumerate_genotypes, seeded, spaces

POOL, SKIP = "max_pool_3x3", "skip_connect"


def renumberings(cell):
    """Every admissible numbering of the same graph."""
    for order in itertools.permutations(range(len(cell))):
        new = {0: 0, 1: 1} | {old + 2: place + 2 for place, old in enumerate(order)}
        renumbered = tuple(tuple(sorted(Edge(new[e.input], e.operation) for e in cell[old])) for old in order)
        if all(edge.input < place + 2 for place, node in enumerate(renumbered) for edge in node):
            yield renumbered


def function(genotype):
    """What the genotype computes, by brute force: the least of all its numberings, for each cell type."""
    return tuple(min(renumberings(each)) for each in genotype.cells)


@pytest.mark.parametrize("operations", [(SKIP,), (POOL, SKIP)])
@pytest.mark.parametrize("inputs_per_node", [1, 2])
def test_every_numbering_of_the_nodes_has_one_canonical_form(inputs_per_node, operations):
    space = SearchSpace(4, inputs_per_node, CELL_TYPES, operations)
    for genotype in random_genotypes(space, 60, seeded(1)):
        normal, reduction = (list(renumberings(each)) for each in genotype.cells)
        longest = max(len(normal), len(reduction))
        pairs = zip(itertools.islice(itertools.cycle(normal), longest), itertools.cycle(reduction), strict=False)
        same = [Genotype(space, pair) for pair in pairs]
        forms = set(from_arrays(space, *canonical_arrays(space, *to_arrays(space, same))))
        [form] = forms
        assert form.cells[0] in normal and form.cells[1] in reduction, "it computes the same function"
        assert canonical(form) == form


@pytest.mark.parametrize("space", [SearchSpace(3, 1, operations=(POOL, SKIP)), SearchSpace(3, 2, operations=(SKIP,))])
def test_genotypes_are_merged_where_and_only_where_they_compute_the_same(space):
    every = enumerate_genotypes(space)
    forms = from_arrays(space, *canonical_arrays(space, *to_arrays(space, every)))
    functions = [function(genotype) for genotype in every]
    assert len(set(functions)) < len(every)
    assert len(set(zip(functions, forms, strict=True))) == len(set(functions)) == len(set(forms))


def test_inputs_with_the_same_data_count_as_one():
    one = SearchSpace(2)
    first, second = (Genotype(one, (((Edge(k, POOL),), (Edge(2, SKIP),)),)) for k in (0, 1))
    assert canonical(first) != canonical(second)
    assert canonical(first, same_inputs=True) == canonical(second, same_inputs=True)
    two = SearchSpace(1, 2)
    both = [Genotype(two, (((Edge(0, a), Edge(1, b)),),)) for a, b in ((POOL, SKIP), (SKIP, POOL))]
    assert canonical(both[0]) != canonical(both[1])
    assert canonical(both[0], same_inputs=True) == canonical(both[1], same_inputs=True)


@settings(max_examples=30)
@given(space=spaces(5), seed=st.integers(0, 2**32), same_inputs=st.booleans())
def test_arrays_give_the_genotypes_back_and_features_see_the_canonical_form(space, seed, same_inputs):
    genotypes = random_genotypes(space, min(5, space.genotypes), seeded(seed))
    arrays = to_arrays(space, genotypes)
    assert from_arrays(space, *arrays) == genotypes
    forms = canonical_arrays(space, *arrays, same_inputs)
    again = canonical_arrays(space, *forms, same_inputs)
    for one, other in zip(forms, again, strict=True):
        np.testing.assert_array_equal(one, other)
    found = features(space, *arrays, same_inputs)
    np.testing.assert_array_equal(found, features(space, *forms, same_inputs))
    assert len(found) == len(genotypes) and np.isfinite(found).all()


def test_features_count_what_they_name():
    """Two nodes in a chain, 0 -> pool -> skip, by hand."""
    space = SearchSpace(2, operations=(POOL, "sep_conv_3x3"))
    chain = Genotype(space, (((Edge(0, POOL),), (Edge(2, "sep_conv_3x3"),)),))
    source = [1, 0, 0, 0, 0, 1]  # (input 0, input 1, nodes) x (pool, convolution)
    found = features(space, *to_arrays(space, [chain]))
    assert found.tolist() == [[*source, 1, 1, 1, 0, 1]]  # one node of each depth; one trained; one not used
