"""The hypernetwork that a guide trains: c decides between the loss and lambda, resumed bit for bit, no image seen."""

from functools import cache

import numpy as np
import pytest
import torch

from edgenes.config import HypernetworkConfig
from edgenes.errors import ConfigError, DivergedError
from edgenes.space.encoding import to_arrays
from edgenes.space.genotype import SearchSpace, random_genotype, random_genotypes, shared_edges
from edgenes.space.logits import ArchitectureLogits, log_probability
from edgenes.training.edgenes import train_hypernetwork
from edgenes.training.guided import Guided
from tests.support.toys import (
    assert_same,
    enumerate_genotypes,
    interrupted_and_resumed,
    random_logits,
    reports_of,
    seeded,
)

SPACE = SearchSpace()
BOTH = SearchSpace(2, 2, ("normal", "reduction"))


class Planted:
    """A loss of a cost per input and operation: the least is 1, that of `best`."""

    def __init__(self, space, seed=0):
        rng = np.random.default_rng(seed)
        self.space = space
        self.cost = rng.uniform(0.1, 0.5, (space.nodes + 2, len(space.operations)))
        self.cost[0, 3] = 0

    def predict_arrays(self, inputs, operations):
        return 1 + self.cost[inputs, operations].sum((1, 2, 3))

    def loss(self, *genotypes):
        return self.predict_arrays(*to_arrays(self.space, genotypes))


@cache
def trained(space=SPACE, guide=None, optimal=None, **changes):
    """(guide, optimal, result); the data are None, since none is looked at."""
    guide = Planted(space) if guide is None else guide
    optimal = random_genotype(space, seeded(3)) if optimal is None else optimal
    config = HypernetworkConfig(**{"space": space, "epochs": 20} | changes)
    return guide, optimal, train_hypernetwork(config, None, optimal, guide=guide)


@pytest.mark.parametrize("inputs_per_node", [1, 2])
def test_the_gradient_is_that_of_the_expected_loss(inputs_per_node):
    """Two lambdas, whose expectations differ, against the sum over all genotypes."""
    space = SearchSpace(2, inputs_per_node, operations=("skip_connect", "max_pool_3x3", "dil_conv_3x3"))
    guide = Planted(SearchSpace(2, inputs_per_node))
    every, temperature = enumerate_genotypes(space), 0.7
    losses = torch.from_numpy(guide.predict_arrays(*to_arrays(space, every)))
    logits = random_logits(space, 3, 0.5, (2,), torch.float64)
    leaves = (logits.alpha.requires_grad_(), logits.beta.requires_grad_())
    each = zip(*leaves, strict=True)
    expected = torch.stack(
        [(log_probability(ArchitectureLogits(*one), space, every, temperature).exp() * losses).sum() for one in each]
    )
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(expected.mean(), leaves)])

    loop, draws, values = Guided(HypernetworkConfig(space=space), guide), [], []
    for _ in range(300):
        surrogate, value = loop.architecture_loss(logits, temperature)
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, leaves)]))
        values.append(value)
    draws, values = torch.stack(draws), torch.stack(values)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - exact).abs() <= 4.5 * error + 1e-12).all()
    assert (exact.abs() > 4.5 * error).sum() >= 5, "of another sign or twice the size would have failed"
    assert abs(values.mean() - expected.mean()) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("space", [SPACE, BOTH], ids=["paper", "two inputs, both cells"])
def test_a_small_c_follows_the_loss_and_ignores_lambda(space):
    guide, _, result = trained(space, c_start=0.0, c_end=0.0)
    assert result.supernet is None
    along = [result.hypernetwork.genotype(lam) for lam in range(space.max_edges + 1)]
    random = guide.loss(*random_genotypes(space, 500, seeded(1)))
    assert guide.loss(*along).max() < np.quantile(random, 0.01)
    assert result.control_error > 1


@pytest.mark.parametrize("space", [SPACE, BOTH], ids=["paper", "two inputs, both cells"])
def test_a_large_c_controls_and_costs_loss(space):
    guide, optimal, loose = trained(space, c_start=0.0, c_end=0.0)
    _, _, tight = trained(space, c_start=3.0, c_end=3.0)
    assert tight.control_error <= 0.25
    assert shared_edges(tight.hypernetwork.genotype(0), optimal) == 0
    assert tight.hypernetwork.genotype(space.max_edges) == optimal
    grid = range(space.max_edges + 1)
    losses = [guide.loss(*map(result.hypernetwork.genotype, grid)).mean() for result in (loose, tight)]
    assert losses[0] + 0.1 < losses[1]


def test_between_them_it_controls_with_what_loss_allows():
    """The edges that lambda leaves free are those of a low loss: lower than of random ones that share as many."""
    guide, optimal, result = trained()
    assert result.control_error <= 0.25
    found = guide.loss(result.hypernetwork.genotype(0))[0]
    apart = [g for g in random_genotypes(SPACE, 400, seeded(5)) if shared_edges(g, optimal) == 0]
    assert found < np.quantile(guide.loss(*apart), 0.1)


@pytest.mark.parametrize(
    "changes", [{}, {"space": BOTH, "estimator": "gumbel", "trainable_pivots": True, "warmup": 0.5}]
)
def test_resuming_equals_never_having_stopped(tmp_path, changes):
    config = HypernetworkConfig(**{"epochs": 3, **changes})
    guide, optimal = Planted(config.space), random_genotype(config.space, seeded(3))

    def run(**callbacks):
        return train_hypernetwork(config, None, optimal, guide=guide, **callbacks)

    whole, result, resumed = interrupted_and_resumed(run, tmp_path / "state.pt")
    assert_same(result.hypernetwork.state_dict(), resumed.hypernetwork.state_dict())
    assert result.metrics == resumed.metrics == whole[-1][1]
    other = HypernetworkConfig(**{"epochs": 3, "seed": 1, **changes})
    assert train_hypernetwork(other, None, optimal, guide=guide).metrics != result.metrics


def test_the_loss_is_reported_and_waits_for_the_warmup():
    reports, _ = reports_of(
        lambda **callbacks: train_hypernetwork(
            HypernetworkConfig(epochs=4, warmup=0.5),
            None,
            random_genotype(SPACE, seeded(3)),
            guide=Planted(SPACE),
            **callbacks,
        )
    )
    losses = [metrics["loss"] for _, metrics, _ in reports]
    assert losses[:2] == [0, 0] and 1 < losses[3] < losses[2] < 1 + 4 * 0.5


def test_a_fixed_lambda_is_the_only_one_that_is_trained():
    config = {"lam": 2.0, "c_start": 3.0, "c_end": 3.0}
    _, optimal, result = trained(**config)
    assert result.control_error == 0 and shared_edges(result.hypernetwork.genotype(2.0), optimal) == 2


def test_a_guide_that_gives_no_number_is_an_error():
    class Broken(Planted):
        def predict_arrays(self, inputs, operations):
            return np.full(len(inputs), np.nan)

    with pytest.raises(DivergedError):
        trained(guide=Broken(SPACE), epochs=1)
    with pytest.raises(ConfigError, match="another search space"):
        trained(optimal=random_genotype(BOTH, seeded()))
