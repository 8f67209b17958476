"""Depthwise convolution whose gradients take the CPU library's fast paths.

Measured (oneDNN as in torch 2.14, channels last): a dilated depthwise convolution's gradient in the input is 10 times
slower than the same convolution forward, and the gradient in a kernel wider than 3 columns 10 times slower than in a
narrower one. Both are computed here in a fast way; the values are the same.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FAST_COLUMNS = 3
"""The widest kernel whose gradient is fast, and then only if padded by one column."""


class Depthwise(nn.Conv2d):
    """A depthwise convolution without bias that keeps the size at stride 1: (batch, channels, H, W) to the same."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1):
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.weight, self.stride[0], self.dilation[0])


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """x (batch, channels, H, W) convolved by weight (channels, 1, k, k), k odd, padded by dilation * (k // 2)."""
    if stride > 1 and dilation % stride == 0:  # only every stride-th pixel takes part
        x, stride, dilation = subsample(x, stride), 1, dilation // stride
    slow = stride > 1 or dilation > 1 or weight.shape[-1] > FAST_COLUMNS
    if slow and x.device.type == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        return _Depthwise.apply(x, weight, stride, dilation)
    return _convolve(x, weight, stride, dilation)


def subsample(x: Tensor, stride: int, first: int = 0) -> Tensor:
    """x[..., first::stride, first::stride], with a gradient in the layout of x, which slicing forgets."""
    return _Subsample.apply(x, stride, first)


class _Subsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, first: int) -> Tensor:
        ctx.shape, ctx.layout = x.shape, _layout(x)
        ctx.stride, ctx.first = stride, first
        return x[..., first::stride, first::stride].contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _spread(grad, ctx.shape, ctx.layout, ctx.stride, ctx.first), None, None


def _layout(x: Tensor) -> torch.memory_format:
    last = torch.channels_last
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def _spread(grad: Tensor, shape: torch.Size, layout: torch.memory_format, stride: int, first: int = 0) -> Tensor:
    """The gradient of all pixels from that of every stride-th."""
    everywhere = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout).zero_()
    everywhere[..., first::stride, first::stride] = grad
    return everywhere


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))


class _Depthwise(torch.autograd.Function):
    """The input's gradient is the convolution by the turned kernel, the kernel's comes in narrow pieces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, weight, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        if ctx.stride > 1:  # as if all pixels had been computed and the others not used
            grad = _spread(grad, x.shape, _layout(x), ctx.stride)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(grad, weight.flip(2, 3), 1, ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, grad, weight, ctx.dilation)
        return of_x, of_weight, None, None


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, dilation: int) -> Tensor:
    if dilation > 1:
        x, grad = _phases(x, dilation), _phases(grad, dilation)
    half = weight.shape[-1] // 2
    if half <= 1:
        return _narrow(x, grad, weight)
    # Three columns around each of the offsets `center`, which the gradient is shifted by; neighbours share a column.
    wide = F.pad(x, (half - 1, half - 1))
    pieces = []
    for center in range(1 - half, half, 2):
        shifted = F.pad(grad, (half - 1 + center, half - 1 - center))
        pieces.append(_narrow(wide, shifted, weight.new_empty(*weight.shape[:3], 3)))
    return torch.cat([piece[..., :2] for piece in pieces[:-1]] + pieces[-1:], -1)


def _narrow(x: Tensor, grad: Tensor, kernel: Tensor) -> Tensor:
    """The gradient in a kernel (channels, 1, k, 1 or 3) of a convolution that keeps the size."""
    padding = [kernel.shape[2] // 2, kernel.shape[3] // 2]
    none, groups, only_weight = [0, 0], len(kernel), [False, True, False]
    return torch.ops.aten.convolution_backward(
        grad, x, kernel, None, [1, 1], padding, [1, 1], False, none, groups, only_weight
    )[1]


def _phases(x: Tensor, dilation: int) -> Tensor:
    """The dilation**2 interleaved images of x as images of a larger batch, in which neighbours are neighbours."""
    batch, channels, height, width = x.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    if rows * dilation != height or columns * dilation != width:
        x = F.pad(x, (0, columns * dilation - width, 0, rows * dilation - height))
    split = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, channels)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
