"""Samples of genotypes against their probabilities, and relaxed samples against hard ones."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace
from edgenes.space.logits import (
    ArchitectureLogits,
    argmax_genotype,
    gumbel_weights,
    harden,
    log_probability,
    sample_genotypes,
    successive_top,
)
from tests.support.toys import enumerate_genotypes, genotypes, one_hot_logits, random_logits, seeded

ONE = SearchSpace(nodes=2, operations=("skip_connect", "max_pool_3x3", "avg_pool_3x3"))
TWO = replace(ONE, inputs_per_node=2)
BOTH_CELLS = SearchSpace(nodes=1, cell_types=("normal", "reduction"), operations=("skip_connect", "max_pool_3x3"))
SMALL = pytest.mark.parametrize("space", [ONE, TWO, BOTH_CELLS], ids=["one input", "two inputs", "two cells"])


def probability_by_hand(logits, genotype, temperature):
    """Draw a node's inputs one after the other, in either order, then each one's operation: plain Python floats."""
    space = genotype.space
    alpha, beta = logits.alpha.double() / temperature, logits.beta.double() / temperature
    total = 1.0
    for kind, cell in enumerate(genotype.cells):
        for j, node in enumerate(cell):
            weight = {i: math.exp(beta[kind, space.edges.index((j, i))]) for i in range(j + 2)}
            inputs = [edge.input for edge in node]
            if len(inputs) == 1:
                total *= weight[inputs[0]] / sum(weight.values())
            else:
                a, b = inputs
                all_ = sum(weight.values())
                total *= weight[a] / all_ * weight[b] / (all_ - weight[a])
                total += total / (weight[a] / (all_ - weight[a])) * (weight[a] / (all_ - weight[b]))
            for edge in node:
                scores = [math.exp(x) for x in alpha[kind, space.edges.index((j, edge.input))]]
                total *= scores[space.operations.index(edge.operation)] / sum(scores)
    return total


@SMALL
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_probabilities_sum_to_one_and_equal_a_draw_by_hand(space, temperature):
    logits = random_logits(space, seed=2, dtype=torch.float64)
    every = enumerate_genotypes(space)
    logs = log_probability(logits, space, every, temperature)
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    by_hand = torch.tensor([probability_by_hand(logits, g, temperature) for g in every], dtype=torch.float64)
    assert torch.allclose(logs.exp(), by_hand, rtol=1e-9)


@SMALL
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_samples_come_as_often_as_their_probability_says(space, temperature):
    logits = random_logits(space, seed=3)
    every = enumerate_genotypes(space)
    n = 4500
    counts = Counter(sample_genotypes(logits, space, n, seeded(1), temperature))
    expected = (n * log_probability(logits, space, every, temperature).exp()).double()
    observed = torch.tensor([counts[g] for g in every], dtype=torch.float64)
    assert observed.sum() == n  # nothing else is drawn
    common = expected >= 5  # the chi square needs that
    assert common.sum() >= 8
    statistic = ((observed - expected) ** 2 / expected)[common].sum().item()
    freedom = common.sum().item() - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


@settings(max_examples=30)
@given(genotype=genotypes(4))
def test_one_hot_logits_choose_their_genotype_for_certain(genotype):
    space = genotype.space
    logits = one_hot_logits(genotype)
    assert argmax_genotype(logits, space) == genotype
    assert set(sample_genotypes(logits, space, 20, seeded())) == {genotype}
    assert log_probability(logits, space, [genotype]).item() == pytest.approx(0, abs=1e-5)
    noise = seeded(5)
    operations, edges = gumbel_weights(logits, space, 0.5, noise)
    hot = one_hot_logits(genotype, 1.0)
    assert torch.allclose(edges, (hot.beta > 0).float(), atol=1e-5)
    for kind, edge in zip(*torch.nonzero(hot.beta > 0, as_tuple=True), strict=True):
        assert torch.allclose(operations[kind, edge], (hot.alpha[kind, edge] > 0).float(), atol=1e-5)


@pytest.mark.parametrize("space", [ONE, TWO], ids=["one input", "two inputs"])
def test_cold_relaxed_samples_are_hard_samples(space):
    """As the temperature falls the Gumbel-softmax of the same noise becomes the Gumbel-max draw, two inputs or one."""
    logits = random_logits(space, seed=6, dtype=torch.float64)
    for seed in range(20):
        operations, edges = gumbel_weights(logits, space, 1e-8, seeded(seed))
        [drawn] = sample_genotypes(logits, space, 1, seeded(seed))
        hot = one_hot_logits(drawn, 1.0)
        assert torch.equal(edges > 0.5, hot.beta > 0)
        assert ((edges - edges.round()).abs() < 1e-6).all()
        chosen = hot.beta > 0
        assert torch.equal(operations[chosen] > 0.5, hot.alpha[chosen] > 0)


@settings(max_examples=30)
@given(scores=st.lists(st.floats(-60, 60), min_size=2, max_size=6).map(lambda x: torch.tensor(x, dtype=torch.float64)))
def test_successive_top_is_the_chance_to_be_among_two_draws(scores):
    weights = scores.softmax(-1).tolist()
    expected = []
    for i in range(len(weights)):
        later = 0.0
        for a in range(len(weights)):
            others = scores.clone()
            others[a] = -math.inf
            later += weights[a] * others.softmax(-1)[i].item()
        expected.append(weights[i] + later)
    actual = successive_top(scores, 2)
    assert actual.tolist() == pytest.approx(expected, abs=1e-9)
    assert actual.sum().item() == pytest.approx(2)
    assert torch.equal(successive_top(scores, 1), scores.softmax(-1))


def test_hardened_weights_are_hard_forward_and_soft_backward():
    logits = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
    weights = logits.softmax(-1)
    hard = harden(weights, weights == weights.max())
    assert hard.detach().tolist() == pytest.approx([0, 0, 1], abs=1e-12)
    assert (hard[:2] == 0).all()  # exactly: the supernet skips what is exactly 0
    direction = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    (soft,) = torch.autograd.grad(weights @ direction, logits, retain_graph=True)
    (straight,) = torch.autograd.grad(hard @ direction, logits)
    assert torch.equal(soft, straight)


def test_logits_have_one_shape():
    for alpha, beta in (((1, 5, 7), (1, 4)), ((5, 7), (5,))):
        with pytest.raises(ConfigError, match="alpha"):
            ArchitectureLogits(torch.zeros(alpha), torch.zeros(beta))
