"""The layers of cells have the values and gradients of torch's, on small images and on large ones."""

import copy

import pytest
import torch
from torch import nn

from edgenes.nn.layers import AveragePool, MaxPool, Norm, Pointwise, is_small, joined, subsample
from tests.support.toys import seeded

PAIRS = {
    "pointwise": lambda: (Pointwise(4, 6), nn.Conv2d(4, 6, 1, bias=False)),
    "norm": lambda: (Norm(4), nn.BatchNorm2d(4)),
    "norm without scale and statistics": lambda: [
        kind(4, affine=False, track_running_stats=False) for kind in (Norm, nn.BatchNorm2d)
    ],
    "norm of a cumulative mean": lambda: (Norm(4, momentum=None), nn.BatchNorm2d(4, momentum=None)),
    "max pool": lambda: (MaxPool(1), nn.MaxPool2d(3, 1, 1)),
    "max pool of stride 2": lambda: (MaxPool(2), nn.MaxPool2d(3, 2, 1)),
    "average pool": lambda: (AveragePool(1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "average pool of stride 2": lambda: (AveragePool(2), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
}
LAYOUTS = {
    "channels first": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "by channel": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("height, width", [(2, 2), (8, 8), (5, 7), (9, 9)])
@pytest.mark.parametrize("name", PAIRS)
def test_a_layer_is_torchs(name, height, width, dtype, tolerance, layout):
    ours, theirs = (layer.to(dtype) for layer in PAIRS[name]())
    for parameter in ours.parameters():
        nn.init.normal_(parameter, generator=seeded())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    x = LAYOUTS[layout](torch.randn(3, 4, height, width, generator=seeded(1), dtype=torch.float64).to(dtype))
    found = []
    for layer in (ours, theirs):
        image = x.detach().requires_grad_()
        out = layer(image)
        grad = torch.randn(out.shape, generator=seeded(2), dtype=torch.float64).to(dtype)
        gradients = torch.autograd.grad(out, [image, *layer.parameters()], grad)
        found.append([out, *gradients, *layer.buffers(), layer.eval()(x)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1, other.abs().max().item()))


def test_no_images_and_one_value_a_channel_are_torchs():
    network = nn.Sequential(Pointwise(2, 4), AveragePool(2), Norm(4).eval())
    assert network(torch.zeros(0, 2, 8, 8)).shape == (0, 4, 4, 4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Norm(4)(torch.zeros(1, 4, 1, 1))


def test_only_training_on_the_cpu_in_full_precision_takes_the_way_of_small_images():
    x = torch.zeros(1, 1, 8, 8)
    assert is_small(x)
    assert not is_small(torch.zeros(1, 1, 9, 8)) and not is_small(x.to("meta"))
    with torch.no_grad():
        assert not is_small(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_small(x)


@pytest.mark.slow  # it imports torch's compiler
def test_an_export_has_torchs_layers():
    network = nn.Sequential(Pointwise(2, 4), Norm(4), AveragePool(2)).eval()
    program = torch.export.export(network, (torch.zeros(3, 2, 8, 8),))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called == {"aten.conv2d.default", "aten.batch_norm.default", "aten.avg_pool2d.default"}


@pytest.mark.parametrize("size", [5, 12])
def test_slices_and_concatenations_are_torchs(size):
    x = torch.randn(2, 3, size, size, generator=seeded(), dtype=torch.float64, requires_grad=True)
    for ours, theirs in [
        (subsample(x, 2, first=1), x[..., 1::2, 1::2]),
        (joined([x, 2 * x]), torch.cat([x, 2 * x], 1)),
    ]:
        assert torch.equal(ours, theirs)
        grad = torch.randn(ours.shape, generator=seeded(1), dtype=torch.float64)
        assert torch.equal(*(torch.autograd.grad(out, x, grad)[0] for out in (ours, theirs)))
