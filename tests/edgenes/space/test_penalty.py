"""The closed-form penalty against Monte Carlo, numerical gradients and hand-made cases."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace, deviate, random_genotype, shared_edges
from edgenes.space.logits import ArchitectureLogits, gumbel_weights, sample_genotypes
from edgenes.space.penalty import shared_edge_penalty
from tests.support.toys import genotypes, one_hot_logits, random_logits, seeded

PAPER = SearchSpace()
DARTS = SearchSpace(inputs_per_node=2, nodes=3, cell_types=("normal", "reduction"))
SPACES = pytest.mark.parametrize(
    "space",
    [PAPER, replace(PAPER, inputs_per_node=2), replace(DARTS, inputs_per_node=1), DARTS],
    ids=["1 input", "2 inputs", "1 input, 2 cells", "2 inputs, 2 cells"],
)


def near(optimal, seed, dtype=torch.float32, batch=()):
    """Random logits that favour the optimal genotype, so that many numbers of shared edges occur."""
    hot = one_hot_logits(optimal, 1.0, dtype)
    noise = random_logits(optimal.space, seed, 1.0, batch, dtype)
    return ArchitectureLogits(noise.alpha + hot.alpha, noise.beta + hot.beta)


@SPACES
@pytest.mark.parametrize("either_input", [False, True])
def test_exact_is_the_mean_over_sampled_genotypes(space, either_input):
    optimal = random_genotype(space, seeded(1))
    logits = near(optimal, seed=2)
    lam, n = 1.7, 1000
    shared = [shared_edges(g, optimal, either_input) for g in sample_genotypes(logits, space, n, seeded(3))]
    assert len(set(shared)) > 2
    squares = (lam - torch.tensor(shared, dtype=torch.float64)) ** 2
    error = squares.std() / n**0.5
    found = shared_edge_penalty(logits, optimal, lam, either_input=either_input).item()
    assert abs(found - squares.mean()) < 4 * error


@SPACES
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_exact_has_the_gradient_of_its_values(space, scale):
    optimal = random_genotype(space, seeded(1))
    logits = near(optimal, 4, torch.float64, batch=(2,))
    lams = torch.tensor([0.3, 2.0], dtype=torch.float64)

    def of(alpha, beta):
        return shared_edge_penalty(ArchitectureLogits(alpha, beta), optimal, lams)

    inputs = [(x.sign() * scale if scale > 1 else x).requires_grad_() for x in (logits.alpha, logits.beta)]
    if scale == 1:
        assert torch.autograd.gradcheck(of, inputs)
    gradients = torch.autograd.grad(of(*inputs).sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("estimator", ["exact", "gumbel"])
@settings(max_examples=25)
@given(optimal=genotypes(4), seed=st.integers(0, 1000), lam=st.floats(-0.5, 20))
def test_a_decided_architecture_costs_its_squared_distance(estimator, optimal, seed, lam):
    generator = seeded(seed)
    edges = int(torch.randint(optimal.space.max_edges + 1, (), generator=generator))
    other = deviate(optimal, edges, generator)
    penalty = shared_edge_penalty(one_hot_logits(other), optimal, lam, estimator, 0.5, generator)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx((lam - shared_edges(optimal, other)) ** 2, rel=1e-4, abs=1e-3)


@SPACES
def test_a_batch_of_lambdas_equals_a_loop(space):
    optimal = random_genotype(space, seeded(1))
    logits = near(optimal, 5, batch=(4,))
    lams = torch.tensor([-0.2, 0.0, 1.5, 4.0])
    batch = shared_edge_penalty(logits, optimal, lams)
    each = map(ArchitectureLogits, logits.alpha, logits.beta)
    loop = [shared_edge_penalty(one, optimal, lam.item()) for one, lam in zip(each, lams, strict=True)]
    assert batch.shape == (4,)
    assert torch.allclose(batch, torch.stack(loop))


def test_gumbel_is_the_papers_product_of_one_sample():
    optimal = random_genotype(DARTS, seeded(1))
    logits = near(optimal, 8, batch=(2,))
    operations, edges = gumbel_weights(logits, DARTS, 0.7, seeded(9))
    share = torch.zeros(2)
    for kind, cell in enumerate(optimal.cells):
        for j, node in enumerate(cell):
            for edge in node:
                position = DARTS.edges.index((j, edge.input))
                operation = DARTS.operations.index(edge.operation)
                share += edges[:, kind, position] * operations[:, kind, position, operation]
    lams = torch.tensor([2.0, 3.0])
    penalty = shared_edge_penalty(logits, optimal, lams, "gumbel", 0.7, seeded(9))
    torch.testing.assert_close(penalty, (lams - share) ** 2)


@pytest.mark.parametrize(
    ("space", "arguments", "word"),
    [
        (PAPER, ("softmax",), "'softmax'"),
        (PAPER, ("gumbel", 1.0, None), "generator"),
        (PAPER, ("gumbel", 0.0, seeded()), "temperature"),
        (DARTS, (), "different search spaces"),
    ],
)
def test_what_cannot_be_estimated_is_refused(space, arguments, word):
    with pytest.raises(ConfigError, match=word):
        shared_edge_penalty(random_logits(space), random_genotype(PAPER, seeded()), 1.0, *arguments)
