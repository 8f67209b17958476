"""Networks as DARTS's code builds them: its numbers of parameters, its stem, pools and auxiliary head."""

import pytest
import torch
from torch import nn

from edgenes.nn.network import Network, OverlappingPool
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.space.published import published_genotype
from edgenes.training.bilevel import initialised
from tests.support.toys import seeded


def published(name, channels, cells, **layout):
    with torch.device("meta"):
        return Network(published_genotype(name), 3, 10, channels, cells, auxiliary=True, **layout)


@pytest.mark.parametrize(("name", "count"), [("DARTS_V2", 3_349_342), ("PC_DARTS_CIFAR", 3_634_678)])
def test_published_networks_have_the_parameters_that_were_published(name, count):
    named = published(name, 36, 20, darts_layout=True).named_parameters()
    assert sum(p.numel() for key, p in named if "auxiliary" not in key) == count  # as DARTS counts


def test_the_stem_is_three_times_as_wide_and_retrained_pools_have_no_norm():
    darts, ours = published("DARTS_V2", 4, 3, darts_layout=True), published("DARTS_V2", 4, 3)
    assert (darts.stem[0].out_channels, ours.stem[0].out_channels) == (12, 4)

    def number(network, kind):
        return sum(isinstance(module, kind) for module in network.cells.modules())

    assert number(darts, nn.MaxPool2d) == number(ours, nn.MaxPool2d) == 2 * 5
    assert number(ours, nn.BatchNorm2d) - number(darts, nn.BatchNorm2d) == 2 * 5


def test_the_auxiliary_pool_overlaps_as_in_darts():
    images = torch.randn(2, 3, 8, 8, generator=seeded())
    assert torch.allclose(OverlappingPool()(images), nn.functional.avg_pool2d(images, 5, 3), atol=1e-6)
    assert all(OverlappingPool()(torch.ones(1, 1, size, size)).shape[2:] == (2, 2) for size in range(2, 40))


def test_a_supernet_of_this_layout_keeps_the_pools_norms_and_gives_networks_of_it():
    space = SearchSpace(nodes=2, cell_types=("normal", "reduction"))
    supernet = initialised(0, lambda: Supernet(space, 2, 3, 4, 3, darts_layout=True))
    genotype = random_genotype(space, seeded(1))
    calibration = torch.randn(64, 2, 8, 8, generator=seeded(3))
    assert supernet.stem[0].out_channels == 12
    plain = Supernet(space, 2, 3, 4, 3)
    norms = [sum(isinstance(each, nn.BatchNorm2d) for each in one.modules()) for one in (supernet, plain)]
    assert norms[0] == norms[1]
    network = supernet.as_network(genotype, calibration)
    assert torch.allclose(network(calibration), supernet.sampled(calibration, genotype), atol=0.05)
