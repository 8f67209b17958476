"""Second-order DARTS: the gradient of the unrolled objective, and searches with it."""

import pytest
import torch
import torch.nn.functional as F

from edgenes.config import SearchConfig
from edgenes.errors import ConfigError
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import SearchSpace
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.bilevel import initialised
from edgenes.training.darts import search_genotype
from edgenes.training.second_order import unrolled_gradient
from tests.support.toys import blobs, seeded

RATE = 0.5
"""Of the weights' step: large, so that the second order is a good part of the gradient."""


def test_it_is_the_derivative_of_the_unrolled_objective():
    space = SearchSpace(nodes=2, operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"))
    supernet = initialised(0, lambda: Supernet(space, 2, 3, 4, 1)).double()
    weights = list(supernet.parameters())
    generator = seeded(1)
    alpha, beta = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((1, 5, 4), (1, 5)))
    batches = [
        (torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64), torch.arange(8) % 3) for _ in range(2)
    ]

    def loss(alpha, beta, batch):
        images, labels = batch
        logits = ArchitectureLogits(alpha, beta)
        return F.cross_entropy(supernet.relaxed(images, logits, "mixture", 0.7, seeded(5)), labels)

    before = [w.detach().clone() for w in weights]

    def objective(alpha, beta):
        steps = torch.autograd.grad(loss(alpha, beta, batches[0]), weights)
        with torch.no_grad():
            for w, step in zip(weights, steps, strict=True):
                w.sub_(step, alpha=RATE)
            value = loss(alpha, beta, batches[1]).item()
            for w, old in zip(weights, before, strict=True):
                w.copy_(old)
        return value

    leaves = [alpha.requires_grad_(), beta.requires_grad_()]
    found, value = unrolled_gradient(
        weights, leaves, lambda: loss(*leaves, batches[0]), lambda: loss(*leaves, batches[1]), RATE
    )
    for w, old in zip(weights, before, strict=True):
        assert torch.equal(w, old)
        assert w.grad is None
    assert value.item() == pytest.approx(objective(alpha.detach(), beta.detach()), rel=1e-12)

    found = torch.cat([g.flatten() for g in found])
    numerical, step = torch.zeros_like(found), 1e-5
    for k in range(len(found)):
        ends = []
        for sign in (1, -1):
            moved = torch.cat([alpha.detach().flatten(), beta.detach().flatten()])
            moved[k] += sign * step
            ends.append(objective(moved[: alpha.numel()].view_as(alpha), moved[alpha.numel() :].view_as(beta)))
        numerical[k] = (ends[0] - ends[1]) / (2 * step)
    assert (found - numerical).abs().max() <= 1e-4 * numerical.abs().max()
    first = torch.cat([g.flatten() for g in torch.autograd.grad(loss(*leaves, batches[1]), leaves)])
    assert (first - numerical).abs().max() > 1e-2 * numerical.abs().max()  # what the second order is there for


@pytest.mark.parametrize("forward", ["mixture", "gdas", "sampled"])
def test_a_search_with_it_is_not_the_first_order_s(forward):
    config = {"space": SearchSpace(nodes=1), "channels": 2, "epochs": 1, "batch_size": 32, "warmup": 0.0}
    config |= {"forward": forward, "gradient": "straight_through" if forward == "sampled" else "score"}
    second, first = (search_genotype(SearchConfig(**config, second_order=order), blobs()) for order in (True, False))
    assert not torch.equal(second.logits.alpha, first.logits.alpha)


def test_score_paths_have_no_second_order():
    with pytest.raises(ConfigError, match="straight_through"):
        SearchConfig(second_order=True)
