"""The depthwise convolution's own gradients are those of torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from edgenes.nn.depthwise import depthwise
from tests.support.toys import seeded


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (7, 3)])
def test_output_and_gradients_are_those_of_a_convolution(layout, size, stride, kernel, dilation):
    generator = seeded()

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    x = draw(3, 4, size, size).to(memory_format=layout).requires_grad_()
    weight = draw(4, 1, kernel, kernel).requires_grad_()
    ours = depthwise(x, weight, stride, dilation)
    theirs = F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, groups=4)
    grad = draw(*ours.shape)
    found, expected = (torch.autograd.grad(output, (x, weight), grad) for output in (ours, theirs))
    torch.testing.assert_close((ours, *found), (theirs, *expected))


def test_only_what_is_asked_for_is_computed():
    x, weight = torch.randn(2, 3, 6, 6), torch.randn(3, 1, 5, 5, requires_grad=True)
    depthwise(x, weight).sum().backward()
    assert weight.grad is not None
    assert not depthwise(x, weight.detach()).requires_grad
