"""The mixture computed state by state is the sum of every operation on every edge, outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F

import edgenes.nn.mixed_cell
from edgenes.nn.operations import make_operation
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import SearchSpace
from tests.edgenes.nn.test_operations import own  # noqa: F401
from tests.support.toys import seeded

EACH_EDGE, ALL_EDGES = 0, 1 << 30
MIXED = ("sep_conv_3x3", "own", "max_pool_3x3")
CASES = [
    ({"nodes": 3}, 1, 8, EACH_EDGE, 1),
    ({"nodes": 2}, 2, 9, ALL_EDGES, 1),
    ({"nodes": 4, "cell_types": ("normal",)}, 1, 8, ALL_EDGES, 1),
    ({"nodes": 2, "cell_types": ("normal", "reduction")}, 3, 8, EACH_EDGE, 1),
    ({"nodes": 2, "cell_types": ("normal", "reduction")}, 3, 8, ALL_EDGES, 1),
    ({"nodes": 2, "operations": ("skip_connect", "dil_conv_3x3")}, 1, 8, ALL_EDGES, 1),
    ({"nodes": 2, "cell_types": ("normal",), "operations": ("max_pool_3x3", "skip_connect")}, 1, 8, ALL_EDGES, 1),
    ({"nodes": 3, "cell_types": ("normal",)}, 1, 6, ALL_EDGES, 4),
    ({"nodes": 3}, 2, 9, EACH_EDGE, 4),
    ({"nodes": 2, "operations": ("own",)}, 2, 9, ALL_EDGES, 1),
    ({"nodes": 2, "operations": ("own", "skip_connect")}, 2, 9, EACH_EDGE, 2),
    ({"nodes": 2, "operations": MIXED}, 2, 9, EACH_EDGE, 1),
    ({"nodes": 2, "operations": MIXED}, 2, 9, ALL_EDGES, 2),
]


def plain(supernet, images, operations, edges):
    """The mixture, operation by operation."""
    space = supernet.space

    def mix_of(cell_type):
        kind = space.cell_types.index(cell_type)

        def mix(cell, states):
            for node in range(space.nodes):
                terms = []
                for i in range(node + 2):
                    edge = space.edge(node, i)
                    for name, weight in zip(space.operations, operations[kind, edge], strict=True):
                        terms.append(edges[kind, edge] * weight * cell.operations[str(edge)][name](states[i]))
                states.append(sum(terms))
            return states[2:]

        return mix

    return supernet.classify(supernet.features(images, mix_of)[-1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_each_operation_by_itself(case, monkeypatch, own):  # noqa: F811
    options, cells, size, together, parts = case
    monkeypatch.setattr(edgenes.nn.mixed_cell, "TOGETHER", together)
    space = SearchSpace(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = Supernet(space, 3, 5, 8, cells, parts=parts).double()
    generator = seeded(1)
    images = torch.randn(6, 3, size, size, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (6,), generator=generator)
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    logits = [torch.randn(each, generator=generator, dtype=torch.float64) for each in (shape, shape[:2])]
    weights = [each.softmax(-1).requires_grad_() for each in logits]
    names, parameters = zip(*supernet.named_parameters(), strict=True)
    results = []
    for output in (supernet.mixture(images, *weights), plain(supernet, images, *weights)):
        gradients = torch.autograd.grad(F.cross_entropy(output, labels), (*weights, *parameters))
        results.append((output, *gradients))
    largest = max(value.abs().max() for value in results[1])
    for name, ours, theirs in zip(("output", "operations", "edges", *names), *results, strict=True):
        # A convolution before a batch norm has a gradient near 0, which is all rounding: hence the common floor.
        scale = theirs.abs().max().clamp_min(1e-3 * largest)
        assert (ours - theirs).abs().max() <= 1e-9 * scale, name


def test_partial_channels_pass_by_what_an_operation_does_not_see():
    operation = make_operation("avg_pool_3x3", 8, 2, affine=False, track=False, parts=4)
    x = torch.randn(2, 8, 5, 5, generator=seeded(0))
    out = operation(x)
    assert out.shape == (2, 8, 3, 3)
    seen = [0, 4]  # channels 0 and 1 of x, after the shuffle
    pooled = F.max_pool2d(x, 2, 2, ceil_mode=True)
    assert torch.equal(out[:, [1, 2, 3, 5, 6, 7]], pooled[:, [2, 4, 6, 3, 5, 7]])
    assert torch.equal(out[:, seen], operation.operation(x[:, :2]))
