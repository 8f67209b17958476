"""Depthwise convolution whose gradients take the fast paths of a CPU.

Its values are those of torch's convolution. Measured (oneDNN as in torch 2.14, channels last), two gradients are 5 to
20 times slower than the forward pass: the input's of a dilated convolution; the kernel's of one that is dilated, wider
than 3 columns, or wider than the image. `depthwise` says what is computed instead, by a rule of sizes alone.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edgenes.nn.layers import by_channel, is_small, subsample

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
    """x (batch, channels, H, W) convolved by weight (channels, 1, k, k), k odd, padded by dilation * (k // 2).

    On the CPU, numbers of the kernel that never meet an image are left out, and

    - small images, in training, are multiplied by a matrix (pixels, outputs) a channel (see `edgenes.nn.layers`);
    - for others, at stride 1, where torch's own gradients are slow, the kernel's is computed in pieces of 3 columns,
      and the input's, if the kernel is dilated, is the convolution by the turned kernel.
    """
    if stride > 1 and dilation % stride == 0:  # only every stride-th pixel takes part
        x, stride, dilation = subsample(x, stride), 1, dilation // stride
    if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        weight = _within(weight, (max(x.shape[2:]) - 1) // dilation)
        if is_small(x):
            return _by_matrices(x, weight, stride, dilation)
        slow = stride == 1 and (dilation > 1 or weight.shape[-1] > min(FAST_COLUMNS, *x.shape[2:]))
        if slow and torch.is_grad_enabled():
            return _Depthwise.apply(x, weight, dilation)
    return _convolve(x, weight, stride, dilation)


def _within(weight: Tensor, reach: int) -> Tensor:
    """The numbers of the kernel at most `reach` rows and columns from its centre."""
    outside = weight.shape[-1] // 2 - reach
    return weight[..., outside:-outside, outside:-outside].contiguous() if outside > 0 else weight


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))


def _by_matrices(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Each channel's images times the matrix (pixels, outputs) of its kernel."""
    batch, count, height, width = x.shape
    places = _places(height, width, weight.shape[-1], stride, dilation, x.dtype)
    matrices = (weight.flatten(1) @ places).view(count, height * width, -1)
    out = by_channel(x).flatten(2) @ matrices
    return out.view(count, batch, -(-height // stride), -(-width // stride)).transpose(0, 1)


@functools.cache
def _places(height: int, width: int, kernel: int, stride: int, dilation: int, dtype: torch.dtype) -> Tensor:
    """(kernel**2, pixels * outputs): 1 where the number of the kernel joins the pixel and the output, else 0."""

    def along(size: int) -> Tensor:  # (pixels, outputs, kernel), of one side
        pixel = torch.arange(size).view(-1, 1, 1)
        output = torch.arange(0, size, stride).view(-1, 1)
        return pixel == output + dilation * (torch.arange(kernel) - kernel // 2)

    both = torch.einsum("pok,qrl->klpqor", along(height).to(dtype), along(width).to(dtype))
    return both.reshape(kernel**2, -1)


class _Depthwise(torch.autograd.Function):
    """A convolution of stride 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _convolve(x, weight, 1, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        dilation = ctx.dilation
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if dilation > 1:
                of_x = _convolve(grad, weight.flip(2, 3), 1, dilation)
            else:
                of_x = _torch_gradients(x, grad, weight, (True, False))[0]
        if ctx.needs_input_grad[1]:
            of_weight = _by_columns(x, grad, weight, dilation)
        return of_x, of_weight, None


def _torch_gradients(x: Tensor, grad: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """torch's own gradients in x and weight (channels, 1, rows, columns), without stride and dilation."""
    padding = [size // 2 for size in weight.shape[2:]]
    sizes = ([1, 1], padding, [1, 1], False, [0, 0], len(weight))
    return torch.ops.aten.convolution_backward(grad, x, weight, None, *sizes, [*wanted, False])[:2]


def _by_columns(x: Tensor, grad: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The kernel's gradient at stride 1: three columns around each of the offsets `center`."""
    if dilation > 1:
        x, grad = _phases(x, dilation), _phases(grad, dilation)
    half = weight.shape[-1] // 2
    if half <= 1:
        return _kernel_gradient(x, grad, weight)
    # The gradient is shifted by the offset; neighbours share a column.
    wide = F.pad(x, (half - 1, half - 1))
    pieces = []
    for center in range(1 - half, half, 2):
        shifted = F.pad(grad, (half - 1 + center, half - 1 - center))
        pieces.append(_kernel_gradient(wide, shifted, weight.new_empty(*weight.shape[:3], 3)))
    return torch.cat([piece[..., :2] for piece in pieces[:-1]] + pieces[-1:], -1)


def _kernel_gradient(x: Tensor, grad: Tensor, kernel: Tensor) -> Tensor:
    return _torch_gradients(x, grad, kernel, (False, True))[1]


def _phases(x: Tensor, dilation: int) -> Tensor:
    """The dilation**2 interleaved images of x as images of a larger batch, in which neighbours are neighbours."""
    batch, channels, height, width = x.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    if rows * dilation != height or columns * dilation != width:
        x = F.pad(x, (0, columns * dilation - width, 0, rows * dilation - height))
    split = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, channels)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
