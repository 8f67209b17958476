"""Operations: their sizes and weights, and one of a user's own in every place that knows operations."""

import pytest
import torch
from torch import nn

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.nn.operations import FactorizedReduce, make_operation
from edgenes.space.choices import FORWARDS
from edgenes.space.genotype import Edge, Genotype, SearchSpace, shared_edges
from edgenes.space.operations import DARTS_OPERATIONS, OPERATIONS, label, register_operation
from edgenes.training.collapse import capped_genotype, parameter_free
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from edgenes.training.retraining import predict, train_network
from tests.support.toys import blobs, random_logits, seeded


def dense_3x3(channels, stride, affine, track):
    norm = nn.BatchNorm2d(channels, affine=affine, track_running_stats=track)
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, stride, 1, bias=False), norm)


@pytest.fixture
def own(monkeypatch):
    """An operation of a user's own, registered for one test."""
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))
    register_operation("own", dense_3x3, label="3×3")


class TestOwn:
    def test_it_is_no_part_of_a_space_that_does_not_name_it(self, own):
        assert SearchSpace().operations == DARTS_OPERATIONS
        assert SearchSpace(operations=("own", "skip_connect")).operations == ("own", "skip_connect")

    def test_it_can_be_searched_retrained_and_drawn(self, own):
        space, data = SearchSpace(nodes=2, operations=("own",)), blobs()
        sizes = {"channels": 2, "epochs": 1, "batch_size": 32}
        for forward in FORWARDS:
            found = search_genotype(SearchConfig(space=space, forward=forward, **sizes), data).genotype
            config = HypernetworkConfig(space=space, forward=forward, **sizes)
            hypernetwork = train_hypernetwork(config, data, found).hypernetwork
            assert shared_edges(hypernetwork.genotype(0), found) >= 1  # the first node has one operation, two inputs
        network = train_network(TrainingConfig(**sizes), data, found)
        assert predict(network, data.validation, data).shape == (len(data.validation), data.classes)
        assert any("operations" in name and "own" in name for name, _ in network.named_parameters())
        assert label("own") == "3×3" and label("not_known") == "not known"
        assert Genotype.from_json(found.to_json()) == found

    @pytest.mark.parametrize("free", [False, True])
    def test_it_is_parameter_free_if_registered_so(self, own, free):
        register_operation("own", dense_3x3, parameter_free=free)
        space = SearchSpace(nodes=1, operations=("own", "sep_conv_3x3"))
        assert parameter_free(Genotype(space, (((Edge(0, "own"),),),))) == free
        assert parameter_free(capped_genotype(random_logits(space), space, 0)) == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [4, 7])
@pytest.mark.parametrize("name", [*OPERATIONS, "own"])
def test_operations_keep_channels_and_halve_the_size_only_with_stride(own, name, size, stride):
    operation = make_operation(name, 6, stride)
    expected = (3, 6, -(-size // stride), -(-size // stride))
    assert operation(torch.randn(3, 6, size, size, generator=seeded())).shape == expected


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 0),
        ("skip_connect", 0),
        ("sep_conv_3x3", 2 * (9 * 6 + 36)),
        ("sep_conv_5x5", 2 * (25 * 6 + 36)),
        ("dil_conv_3x3", 9 * 6 + 36),
        ("dil_conv_5x5", 25 * 6 + 36),
    ],
)
def test_operations_have_the_weights_of_darts(name, weights):
    search, final = make_operation(name, 6, 1, affine=False, track=False), make_operation(name, 6, 1)
    assert sum(p.numel() for p in search.parameters()) == weights
    norms = {"skip_connect": 0, "sep_conv_3x3": 2, "sep_conv_5x5": 2}.get(name, 1)
    assert sum(p.numel() for p in final.parameters()) == weights + norms * 2 * 6
    assert not list(search.buffers())


@pytest.mark.parametrize(
    ("name", "reach"),
    [("sep_conv_3x3", 2), ("sep_conv_5x5", 4), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4), ("max_pool_3x3", 1)],
)
def test_operations_see_as_far_as_their_kernels(name, reach):
    operation = make_operation(name, 2, 1).eval()
    seen = torch.zeros(15, 15, dtype=torch.bool)
    for seed in range(30):  # a pool or a ReLU hides some pixels of some images
        images = torch.rand(1, 2, 15, 15, generator=seeded(seed), requires_grad=True)
        (gradient,) = torch.autograd.grad(operation(images)[0, :, 7, 7].sum(), images)
        seen |= gradient[0].any(0)
    rows, columns = torch.nonzero(seen, as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7 - reach, 7 + reach, 7 - reach, 7 + reach)
    assert seen.sum() == {True: (reach + 1) ** 2, False: (2 * reach + 1) ** 2}[name.startswith("dil")]


def test_factorized_reduce_looks_at_even_and_odd_pixels():
    reduce = FactorizedReduce(1, 2, affine=False, track=False)
    with torch.no_grad():
        reduce.even.weight[:] = 1
        reduce.odd.weight[:] = 1
    reduce.norm = torch.nn.Identity()
    image = torch.arange(25.0).view(1, 1, 5, 5)
    even, odd = reduce(image)[0]
    assert even.tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert odd.tolist() == [[6, 8, 0], [16, 18, 0], [0, 0, 0]]
