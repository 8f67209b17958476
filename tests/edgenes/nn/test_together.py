"""Networks that are trained at once: each one's outputs and gradients are those that it has alone, to the last bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgenes.nn.network import Network
from edgenes.nn.together import Together, _plan, _tasks
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotypes
from edgenes.space.operations import OPERATIONS, register_operation
from tests.support.toys import seeded

BOTH = ("normal", "reduction")
CASES = {
    "one input a node": (SearchSpace(), {}),
    "two inputs a node": (SearchSpace(inputs_per_node=2), {}),
    "both cell types": (SearchSpace(nodes=2, inputs_per_node=2, cell_types=BOTH), {"cells": 3}),
    "skips": (SearchSpace(nodes=5, operations=("skip_connect", "sep_conv_3x3")), {}),
    "as DARTS": (SearchSpace(nodes=2, cell_types=BOTH), {"cells": 4, "darts_layout": True, "auxiliary": True}),
    "larger images": (SearchSpace(), {"size": 16}),
    "odd images": (SearchSpace(), {"size": 7}),
}


def networks_of(space, count, cells=2, size=8, **options):
    """`count` networks, and an input of each."""
    made = []
    for k, genotype in enumerate(random_genotypes(space, count, seeded(1))):
        with torch.random.fork_rng():
            torch.manual_seed(k)
            network = Network(genotype, 2, 4, channels=4, cells=cells, **options)
        made.append((network, torch.randn(6, 2, size, size, generator=seeded(k))))
    return made


def learnt(made, run):
    """Outputs, gradients and buffers after `run(networks, images)` and a backward pass."""
    networks, images = zip(*made, strict=True)
    outputs = [out if isinstance(out, tuple) else (out,) for out in run(networks, images)]
    labels = torch.arange(6) % 4
    torch.autograd.backward([F.cross_entropy(each, labels) for out in outputs for each in out])
    gradients = [weight.grad for network in networks for weight in network.parameters()]
    return [each for out in outputs for each in out], gradients, [b for network in networks for b in network.buffers()]


def at_once(networks, images):
    return Together(networks)(images)


def one_by_one(networks, images):
    return [Together([network])([x])[0] for network, x in zip(networks, images, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_a_network_learns_the_same_whatever_is_beside_it(case):
    space, options = CASES[case]
    alone, beside = (learnt(networks_of(space, 7, **options), run) for run in (one_by_one, at_once))
    for one, other in zip(alone, beside, strict=True):
        for x, y in zip(one, other, strict=True):
            assert (x is None) == (y is None)
            assert x is None or torch.equal(x, y)


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_the_network_does(case):
    space, options = CASES[case]
    plain = learnt(
        networks_of(space, 3, **options), lambda networks, images: list(map(nn.Module.__call__, networks, images))
    )
    found = learnt(networks_of(space, 3, **options), at_once)
    for x, y in zip(plain[0], found[0], strict=True):
        torch.testing.assert_close(x, y)
    for x, y in zip(plain[1], found[1], strict=True):
        if y is not None:
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["two inputs a node", "both cell types", "as DARTS"])
def test_layers_of_large_images_run_at_once_too(case):
    space, options = CASES[case]
    alone = learnt(networks_of(space, 3, **options, size=18), one_by_one)
    beside = learnt(
        networks_of(space, 3, **options, size=18), lambda networks, images: Together(networks, large=True)(images)
    )
    for one, other in zip(alone, beside, strict=True):
        for x, y in zip(one, other, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_what_no_output_depends_on_is_left_out():
    space = SearchSpace(nodes=1)
    genotype = Genotype(space, (((Edge(0, "skip_connect"),),),))
    network = Network(genotype, 2, 4, channels=4, cells=2)
    Together([network])([torch.randn(4, 2, 8, 8)])[0].sum().backward()
    used = {name.split(".preprocess")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    # The last cell takes the stem's output alone, and so nothing needs the first cell.
    assert not any(name.startswith("cells.0") for name in used) and "cells.1" in used
    assert network.cells[1].preprocess1[1].weight.grad is None


def test_layers_of_one_form_run_at_once():
    made = networks_of(SearchSpace(), 8)
    tasks = [task for k, (network, _) in enumerate(made) for task in _tasks(k, network)]
    together = [len(step.tasks) for step in _plan(tasks) if step.tasks[0].layers]
    assert sum(together) == sum(bool(task.layers) for task in tasks)
    assert len(together) < sum(together) / 2


def test_an_own_operation_runs_alone_and_may_change_its_input(monkeypatch):
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))  # for this test alone
    register_operation(
        "own",
        lambda channels, stride, affine, track: nn.Sequential(nn.ReLU(inplace=True), nn.AvgPool2d(3, stride, 1)),
        parameter_free=True,
    )
    made = networks_of(SearchSpace(nodes=3, operations=("own", "skip_connect")), 4)
    plain = [network(x) for network, x in made]
    alone, beside = learnt(made, one_by_one), learnt(made, at_once)
    for x, y, z in zip(plain, alone[0], beside[0], strict=True):
        assert torch.equal(y, z)
        torch.testing.assert_close(x, y)
