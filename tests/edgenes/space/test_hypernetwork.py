"""The map from lambda to logits against numpy.interp, its trainable pivots, its files, and its candidates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace, deviate, random_genotype
from edgenes.space.hypernetwork import Hypernetwork, control_curve, control_error, draw_candidates
from tests.support.toys import genotypes, one_hot_logits, seeded, spaces

SPACE = SearchSpace(nodes=2, cell_types=("normal", "reduction"))


def with_moved_pivots(pivots=5, interpolation="corrected"):
    hypernetwork = Hypernetwork(SPACE, pivots, True, interpolation, seeded(1))
    with torch.no_grad():
        hypernetwork.widths.copy_(torch.randn(pivots - 1, generator=seeded(2)))
    return hypernetwork


def reference(hypernetwork, lams):
    """numpy.interp of each logit, which clamps outside the pivots too."""
    at = hypernetwork.pivots.detach().double().numpy()
    for name in ("alpha", "beta"):
        values = getattr(hypernetwork, name).detach().double().numpy()
        columns = values.reshape(len(at), -1).T
        result = np.stack([np.interp(lams, at, column) for column in columns], axis=1)
        yield torch.from_numpy(result.reshape(len(lams), *values.shape[1:])).float()


@settings(max_examples=30)
@given(space=spaces(3), pivots=st.integers(2, 9), seed=st.integers(0, 1000), moved=st.booleans())
def test_the_map_is_numpys_piecewise_linear_interpolation(space, pivots, seed, moved):
    hypernetwork = Hypernetwork(space, pivots, moved, generator=seeded(seed))
    if moved:
        with torch.no_grad():
            hypernetwork.widths.copy_(torch.randn(pivots - 1, generator=seeded(seed)))
    lams = np.random.default_rng(seed).uniform(-1, space.max_edges + 1, 20).astype(np.float32)
    logits = hypernetwork(torch.from_numpy(lams))
    alpha, beta = reference(hypernetwork, lams)
    assert torch.allclose(logits.alpha, alpha, atol=1e-4)
    assert torch.allclose(logits.beta, beta, atol=1e-4)
    single = hypernetwork(float(lams[3]))
    assert not single.batched
    assert torch.allclose(single.alpha, logits.alpha[3])


def test_as_printed_swaps_the_two_weights_and_jumps_at_inner_pivots():
    hypernetwork = with_moved_pivots(4, "as_printed")
    at = hypernetwork.pivots.detach()
    for k in range(3):
        low, high = at[k].item(), at[k + 1].item()
        for share in (0.1, 0.5, 0.8):
            lam = low + share * (high - low)
            # eq. (2.2) as printed: the weight of a_k is the distance to r_k, that of a_k+1 the distance to r_k+1
            printed = ((lam - low) * hypernetwork.alpha[k] + (high - lam) * hypernetwork.alpha[k + 1]) / (high - low)
            assert torch.allclose(hypernetwork(lam).alpha, printed, atol=1e-5)
    jump = hypernetwork(at[1].item() - 1e-4).alpha - hypernetwork(at[1].item() + 1e-4).alpha
    assert jump.abs().max() > 0.5
    for outside, end in ((-0.2, 0.0), (1e6, 4.0)):
        assert torch.equal(hypernetwork(outside).alpha, hypernetwork(end).alpha)


@pytest.mark.parametrize("pivots", [2, 5, 50])
def test_trainable_pivots_stay_ordered_with_fixed_ends_after_wild_steps(pivots):
    hypernetwork = Hypernetwork(SPACE, pivots, trainable_pivots=True, generator=seeded())
    optimizer = torch.optim.SGD(hypernetwork.parameters(), lr=100.0)
    generator = seeded(3)
    start = hypernetwork.pivots.detach().clone()
    for _ in range(8):
        logits = hypernetwork(torch.rand(16, generator=generator) * 4)
        loss = (logits.alpha * torch.randn(logits.alpha.shape, generator=generator)).sum()
        optimizer.zero_grad()
        (1000 * loss).backward()
        optimizer.step()
        at = hypernetwork.pivots.detach()
        assert at[0] == 0
        assert at[-1] == SPACE.max_edges
        assert (at.diff() > 0.01 * SPACE.max_edges).all()
    assert pivots == 2 or not torch.equal(at, start)
    assert torch.isfinite(hypernetwork(torch.linspace(0, 4, 33)).beta).all()


def test_pivots_are_uniform_and_untrained_unless_asked():
    hypernetwork = Hypernetwork(SPACE, 5, generator=seeded())
    assert hypernetwork.pivots.tolist() == pytest.approx([0, 1, 2, 3, 4])
    assert not hypernetwork.widths.requires_grad
    hypernetwork(1.3).alpha.sum().backward()
    assert hypernetwork.widths.grad is None


def test_the_start_is_drawn_from_the_generator_as_standard_normal():
    space = SearchSpace(nodes=8)
    one, same, other = (Hypernetwork(space, 9, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.alpha, same.alpha)
    assert not torch.equal(one.alpha, other.alpha)
    assert abs(one.alpha.mean().item()) < 4 / one.alpha.numel() ** 0.5
    assert one.alpha.std().item() == pytest.approx(1, abs=4 / (2 * one.alpha.numel()) ** 0.5)


@pytest.mark.parametrize("wrong", [{"pivots": 1}, {"pivots": 51}, {"interpolation": "cubic"}])
def test_a_map_that_does_not_exist_is_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigError, match=f"{name} must be .*{value}"):
        Hypernetwork(SPACE, **wrong)


@pytest.mark.parametrize("interpolation", ["corrected", "as_printed"])
def test_a_file_gives_the_hypernetwork_back(tmp_path, interpolation):
    hypernetwork = with_moved_pivots(4, interpolation)
    path = tmp_path / "hypernetwork.pt"
    hypernetwork.save(path)
    before = torch.get_rng_state()
    again = Hypernetwork.load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.space == SPACE
    assert again.widths.requires_grad
    lams = torch.linspace(-1, 5, 50)
    assert torch.equal(again(lams).alpha, hypernetwork(lams).alpha)
    assert torch.equal(again(lams).beta, hypernetwork(lams).beta)
    assert again.genotype(2) == hypernetwork.genotype(2) == Hypernetwork.load(tmp_path).genotype(2)


def perfect(optimal):
    """Whole lambda -> a genotype that shares exactly that many edges, one pivot each."""
    hypernetwork = Hypernetwork(optimal.space, optimal.space.max_edges + 1, generator=seeded())
    with torch.no_grad():
        for lam in range(optimal.space.max_edges + 1):
            logits = one_hot_logits(deviate(optimal, optimal.space.max_edges - lam, seeded(lam)), 5.0)
            hypernetwork.alpha[lam] = logits.alpha
            hypernetwork.beta[lam] = logits.beta
    return hypernetwork


def test_control_error_counts_the_edges_off_the_diagonal():
    optimal = random_genotype(SPACE, seeded(4))
    hypernetwork = perfect(optimal)
    assert control_error(hypernetwork, optimal) == 0
    assert control_curve(hypernetwork, optimal) == [{"lambda": lam, "shared": lam} for lam in range(5)]
    assert [point["lambda"] for point in control_curve(hypernetwork, optimal, 2)] == [x / 2 for x in range(9)]
    with torch.no_grad():  # always the optimal genotype: off by 4, 3, 2, 1, 0
        hypernetwork.alpha[:] = hypernetwork.alpha[-1].clone()
        hypernetwork.beta[:] = hypernetwork.beta[-1].clone()
    assert control_error(hypernetwork, optimal) == 2


def test_genotypes_at_a_lambda_are_its_argmax_and_its_samples():
    optimal = random_genotype(SPACE, seeded(4))
    hypernetwork = perfect(optimal)
    assert hypernetwork.genotype(4) == optimal
    with torch.no_grad():
        hypernetwork.alpha *= 10
        hypernetwork.beta *= 10
    assert hypernetwork.sample_genotypes(4, 5, seeded()) == [optimal] * 5


# --- candidates -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
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
@settings(max_examples=20)
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
