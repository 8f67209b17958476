"""The depthwise convolution's own gradients are those of torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from edgenes.nn.depthwise import depthwise
from tests.support.toys import seeded


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("height, width", [(1, 1), (2, 2), (5, 5), (7, 7), (8, 8), (14, 14), (28, 28), (2, 9), (11, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (7, 3)])
def test_output_and_gradients_are_those_of_a_convolution(
    layout, dtype, tolerance, height, width, stride, kernel, dilation
):
    generator = seeded()

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)

    x = draw(3, 4, height, width).to(memory_format=layout).requires_grad_()
    weight = draw(4, 1, kernel, kernel).requires_grad_()
    ours = depthwise(x, weight, stride, dilation)
    theirs = F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, groups=4)
    grad = draw(*ours.shape)
    found, expected = (torch.autograd.grad(output, (x, weight), grad) for output in (ours, theirs))
    for one, other in zip((ours, *found), (theirs, *expected), strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * max(scale, 1))


def test_the_layout_stays_that_of_the_input():
    for size, stride, dilation in [(9, 1, 2), (18, 2, 1), (18, 2, 2), (16, 1, 2), (16, 1, 1)]:
        x = torch.randn(2, 4, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
        out = depthwise(x, torch.randn(4, 1, 5, 5, requires_grad=True), stride, dilation)
        [grad] = torch.autograd.grad(out, x, torch.ones_like(out))
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (out, grad))
