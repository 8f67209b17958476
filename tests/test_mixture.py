"""The mixture computed state by state is the plain mixed network, outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F

import edgenes.mixture
from benchmarks.reference import MixedNetwork
from edgenes.genotype import SearchSpace
from edgenes.supernet import Supernet

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
    monkeypatch.setattr(edgenes.mixture, "TOGETHER", together)
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
