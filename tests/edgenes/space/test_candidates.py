"""Candidates: distinct, argmax first, samples in their strata, fewer where the hypernetwork collapsed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.space.genotype import SearchSpace
from edgenes.space.hypernetwork import Hypernetwork, draw_candidates
from tests.support.toys import genotypes, one_hot_logits, seeded, spaces


@settings(max_examples=40, deadline=None)
@given(
    space=spaces(4),
    count=st.integers(1, 12),
    seed=st.integers(0, 1000),
    share=st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)),
)
def test_candidates_are_distinct_and_come_from_their_lambda(space, count, seed, share):
    low, high = (space.max_edges * part for part in share)
    hypernetwork = Hypernetwork(space, generator=seeded(seed))
    found = draw_candidates(hypernetwork, count, seeded(seed), low, high)
    assert found == draw_candidates(hypernetwork, count, seeded(seed), low, high)
    assert len({candidate.genotype for candidate in found}) == len(found) <= count
    assert all(low - 1e-9 <= candidate.lam <= high + 1e-9 for candidate in found)
    sources = [candidate.source for candidate in found]
    assert sources == sorted(sources)  # argmax before sample
    for candidate in found:
        if candidate.source == "argmax":
            assert candidate.genotype == hypernetwork.genotype(candidate.lam)


def test_the_grid_has_both_ends_and_the_middle_of_one():
    hypernetwork = Hypernetwork(SearchSpace(), generator=seeded(3))
    whole = draw_candidates(hypernetwork, 5, seeded())
    grid = [candidate.lam for candidate in whole if candidate.source == "argmax"]
    assert set(grid) <= {0, 1, 2, 3, 4}
    assert grid[0] == 0
    [one] = draw_candidates(hypernetwork, 1, seeded())
    assert one.lam == 2
    assert one.source == "argmax"


@given(genotype=genotypes(3))
@settings(max_examples=20, deadline=None)
def test_a_collapsed_hypernetwork_gives_its_one_genotype_and_ends(genotype):
    hypernetwork = Hypernetwork(genotype.space, generator=seeded())
    logits = one_hot_logits(genotype)
    with torch.no_grad():
        hypernetwork.alpha[:] = logits.alpha
        hypernetwork.beta[:] = logits.beta
    [candidate] = draw_candidates(hypernetwork, 6, seeded(), max_draws=30)
    assert candidate.genotype == genotype


@pytest.mark.parametrize(("same_inputs", "count"), [(False, 2), (True, 1)])
def test_by_functions_two_inputs_of_one_data_give_one_candidate(same_inputs, count):
    space = SearchSpace(nodes=1, operations=("skip_connect",))  # its two genotypes differ in the input alone
    hypernetwork = Hypernetwork(space, generator=seeded())
    assert len(draw_candidates(hypernetwork, 4, seeded(), functions=True, same_inputs=same_inputs)) == count


def test_samples_fill_up_what_the_argmax_repeats_evenly_over_lambda():
    """All argmax equal, but undecided logits: the other candidates are samples, one stratum after the other."""
    space = SearchSpace()
    hypernetwork = Hypernetwork(space, generator=seeded())
    with torch.no_grad():
        hypernetwork.alpha[:] = 0.1 * hypernetwork.alpha[0]
        hypernetwork.beta[:] = 0.1 * hypernetwork.beta[0]
    first, *others = draw_candidates(hypernetwork, 9, seeded())
    assert first.source == "argmax"
    assert {candidate.source for candidate in others} == {"sample"}
    assert len(others) == 8
    strata = [int(candidate.lam / space.max_edges * 9) for candidate in others]
    assert strata == pytest.approx(list(range(8)))
