"""The mixture computed state by state is the plain mixed network, outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F

import edgenes.nn.mixed_cell
from benchmarks.reference import MixedNetwork
from edgenes.nn.operations import make_operation
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import SearchSpace, random_genotype

SPACES = [
    (SearchSpace(nodes=3), 1, 8),
    (SearchSpace(nodes=2), 2, 9),
    (SearchSpace(nodes=4, cell_types=("normal",)), 1, 8),
    (SearchSpace(nodes=2, cell_types=("normal", "reduction")), 3, 8),
    (SearchSpace(nodes=2, operations=("skip_connect", "dil_conv_3x3")), 1, 8),
    (SearchSpace(nodes=2, cell_types=("normal",), operations=("max_pool_3x3", "skip_connect")), 1, 8),
]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("together", [0, 1 << 30], ids=["each edge apart", "a state's edges together"])
@pytest.mark.parametrize("space, cells, size", SPACES)
def test_outputs_and_gradients_are_those_of_the_plain_mixed_network(
    space, cells, size, together, dtype, tolerance, monkeypatch
):
    monkeypatch.setattr(edgenes.nn.mixed_cell, "TOGETHER", together)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = Supernet(space, 3, 5, 4, cells).to(dtype)
        theirs = MixedNetwork(space, 3, 5, 4, cells).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, size, size, generator=generator, dtype=dtype)
    labels = torch.randint(5, (6,), generator=generator)
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    results = []
    for forward in (ours.mixture, theirs):
        logits = [torch.randn(s, generator=generator.manual_seed(2), dtype=dtype) for s in (shape, shape[:2])]
        operations, edges = (each.softmax(-1).requires_grad_() for each in logits)
        network = ours if forward == ours.mixture else theirs
        output = forward(images, operations, edges)
        names, parameters = zip(*sorted(network.named_parameters()), strict=True)
        gradients = torch.autograd.grad(F.cross_entropy(output, labels), (operations, edges, *parameters))
        results.append(dict(zip(("output", "operations", "edges", *names), (output, *gradients), strict=True)))
    largest = max(value.abs().max() for value in results[1].values())
    assert results[0].keys() == results[1].keys()
    for name, value in results[1].items():
        # A convolution before a batch norm has a gradient near 0, which is all rounding: hence the common floor.
        scale = value.abs().max().clamp_min(1e-3 * largest)
        assert (results[0][name] - value).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize("together", [0, 1 << 30], ids=["each edge apart", "a state's edges together"])
@pytest.mark.parametrize("cell_types, cells, size", [(("normal",), 1, 6), (("reduction",), 2, 9)])
def test_partial_channels_are_those_of_each_operation_by_itself(cell_types, cells, size, together, monkeypatch):
    monkeypatch.setattr(edgenes.nn.mixed_cell, "TOGETHER", together)
    space = SearchSpace(nodes=3, cell_types=cell_types)
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(space, 3, 5, 8, cells, parts=4).double()
    images = torch.randn(6, 3, size, size, generator=generator, dtype=torch.float64)
    operations = torch.rand(1, len(space.edges), 7, generator=generator, dtype=torch.float64).requires_grad_()
    edges = torch.rand(1, len(space.edges), generator=generator, dtype=torch.float64).requires_grad_()

    def one_by_one(cell, states):
        for node in range(space.nodes):
            total = 0
            for i in range(node + 2):
                edge = space.edge(node, i)
                for name, weight in zip(space.operations, operations[0, edge], strict=True):
                    total = total + edges[0, edge] * weight * cell.operations[str(edge)][name](states[i])
            states.append(total)
        return states[2:]

    plain = supernet.classify(supernet.features(images, lambda cell_type: one_by_one)[-1])
    for output, expected in zip(
        torch.autograd.grad(supernet.mixture(images, operations, edges).square().sum(), (operations, edges)),
        torch.autograd.grad(plain.square().sum(), (operations, edges)),
        strict=True,
    ):
        torch.testing.assert_close(output, expected)


def test_partial_channels_pass_by_what_an_operation_does_not_see():
    operation = make_operation("avg_pool_3x3", 8, 2, affine=False, track=False, parts=4)
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    out = operation(x)
    assert out.shape == (2, 8, 3, 3)
    seen = [0, 4]  # channels 0 and 1 of x, after the shuffle
    pooled = F.max_pool2d(x, 2, 2, ceil_mode=True)
    assert torch.equal(out[:, [1, 2, 3, 5, 6, 7]], pooled[:, [2, 4, 6, 3, 5, 7]])
    assert torch.equal(out[:, seen], operation.operation(x[:, :2]))


def test_a_supernet_of_partial_channels_has_fewer_weights_and_gives_genotypes_their_networks():
    space = SearchSpace(nodes=2)
    whole, partial = (Supernet(space, 3, 5, 8, 1, parts=parts) for parts in (1, 4))
    count = [sum(p.numel() for p in net.cells[0].operations.parameters()) for net in (whole, partial)]
    assert count[1] < count[0] / 4
    images = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    genotype = random_genotype(space, torch.Generator().manual_seed(1))
    network = partial.as_network(genotype, images)
    with torch.no_grad():
        torch.testing.assert_close(network(images), partial.sampled(images, genotype), rtol=1e-2, atol=1e-2)
