"""A network as it is asked gives the numbers of the one that was trained, whatever its operations and sizes."""

import copy

import pytest
import torch
from torch import nn

from edgenes.nn.depthwise import Depthwise
from edgenes.nn.inference import FastNetwork, folded
from edgenes.nn.network import Network, calibrate
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype
from edgenes.space.operations import DARTS_OPERATIONS, OPERATIONS, register_operation
from tests.support.toys import seeded


def trained(genotype, channels, size, cells, **options):
    """A network whose batch norms have statistics, scales and shifts."""
    torch.manual_seed(0)
    network = Network(genotype, channels, 5, 6, cells, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    calibrate(network, torch.randn(32, channels, size, size))
    return network


def check(network, channels, size):
    fast = FastNetwork(network, (channels, size, size), lambda x: x.float() / 100 - 1)
    for count in (1, 7):
        pixels = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8)
        with torch.inference_mode():
            found, expected = fast(pixels), network(pixels.float() / 100 - 1)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("operation", DARTS_OPERATIONS)
@pytest.mark.parametrize("size", [8, 7, 16])
def test_every_operation(operation, size):
    space = SearchSpace(nodes=2)
    genotype = Genotype(space, (((Edge(0, operation),), (Edge(2, operation),)),))
    check(trained(genotype, 1, size, 2), 1, size)


@pytest.mark.parametrize(
    ("space", "cells", "options"),
    [
        (SearchSpace(nodes=3, inputs_per_node=2), 1, {}),
        (SearchSpace(nodes=2, inputs_per_node=2, cell_types=("normal", "reduction")), 3, {"auxiliary": True}),
    ],
)
@pytest.mark.parametrize("size", [8, 20])
def test_random_networks(space, cells, options, size):
    for seed in range(3):
        check(trained(random_genotype(space, seeded(seed)), 3, size, cells, stem_kernel=5, **options), 3, size)


def test_batch_norms_behind_convolutions_are_gone_and_the_network_stays():
    genotype = random_genotype(SearchSpace(nodes=2, operations=("sep_conv_3x3", "skip_connect")), seeded(0))
    network = trained(genotype, 1, 8, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(network).modules())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


@pytest.mark.parametrize("convolution", [Standardised(6, 6, 3, padding=1), Depthwise(6, 3), nn.Conv2d(6, 6, 1)])
def test_only_convolutions_of_their_weights_take_a_norm_in(monkeypatch, convolution):
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))
    register_operation("own", lambda *_: nn.Sequential(copy.deepcopy(convolution), nn.BatchNorm2d(6)))
    space = SearchSpace(nodes=1, cell_types=("normal",), operations=("own",))
    check(trained(random_genotype(space, seeded(0)), 1, 8, 1), 1, 8)


def test_the_stem_as_one_matrix_loses_no_digits():
    network = trained(random_genotype(SearchSpace(nodes=2), seeded(0)), 1, 8, 2)
    pixels = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        found = FastNetwork(network, (1, 8, 8), lambda x: (x.float() / 255 - 0.3) / 0.38).stem(pixels)
        expected = network.double().stem((pixels.double() / 255 - 0.3) / 0.38).transpose(0, 1).flatten(2)
    torch.testing.assert_close(found.double(), expected, atol=3e-6, rtol=0)
