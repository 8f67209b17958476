"""The layers of cells, fast on small images on a CPU; their values and gradients are those of torch's layers.

On small images most of a layer's time is spent on reordering numbers for its kernel. So in training a channel's numbers
stay side by side from layer to layer: (batch, channels, H, W) by shape, (channels, batch, H, W) in memory.
Then a 1x1 convolution is one product of matrices; a depthwise convolution and an average pool are one a channel, with
a matrix (pixels, outputs); batch norm is group norm of one image. Larger images have their channels last, in which
depthwise convolutions, pools and batch norm are several times faster than with the pixels last.

A rule of sizes alone chooses, so that a study's numbers do not depend on what a machine measured.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 64
"""The most pixels of a small image; measured in training on AVX2 and AVX-512, in `inference` from 1 to 359 images."""
WINDOW, PADDING = 3, 1
"""Of pools, in pixels."""
_average = functools.partial(F.avg_pool2d, kernel_size=WINDOW, padding=PADDING, count_include_pad=False)


def is_small(x: Tensor) -> bool:
    """Whether x (batch, channels, H, W) are small images, trained on by a CPU in full precision."""
    return (
        not torch.compiler.is_compiling()  # nor exporting: both choose their own layout, and a batch of any size
        and x.shape[2] * x.shape[3] <= SMALL
        and len(x) > 0
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def by_channel(x: Tensor) -> Tensor:
    """x as (channels, batch, H, W), contiguous: no copy of what the layers give for small images."""
    return x.transpose(0, 1).contiguous()


def joined(parts: list[Tensor]) -> Tensor:
    """The channels of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if is_small(parts[0]):
        return torch.cat([by_channel(part) for part in parts]).transpose(0, 1)
    return torch.cat(parts, 1)


def parted(x: Tensor, count: int) -> list[Tensor]:
    """The channels of x in `count` equal parts, from which `joined` makes x again."""
    if count == 1:
        return [x]
    if is_small(x):
        return [part.transpose(0, 1) for part in by_channel(x).chunk(count)]
    return list(x.chunk(count, 1))


def beside(weights: Sequence[Tensor]) -> Tensor:
    """Weights of several layers, one's after the other's; None where they have none."""
    return weights[0] if len(weights) == 1 or weights[0] is None else torch.cat(list(weights))


def subsample(x: Tensor, stride: int, first: int = 0) -> Tensor:
    """x[..., first::stride, first::stride], with a gradient in the layout of x."""
    if is_small(x):
        return by_channel(x)[..., first::stride, first::stride].transpose(0, 1)
    return _Subsample.apply(x, stride, first)


class _Subsample(torch.autograd.Function):
    """Slicing alone forgets the layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, first: int) -> Tensor:
        last = torch.channels_last
        ctx.layout = last if x.is_contiguous(memory_format=last) else torch.contiguous_format
        ctx.shape, ctx.stride, ctx.first = x.shape, stride, first
        return x[..., first::stride, first::stride].contiguous(memory_format=last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        everywhere = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout).zero_()
        everywhere[..., ctx.first :: ctx.stride, ctx.first :: ctx.stride] = grad
        return everywhere, None, None


def pointwise(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """The 1x1 convolution of x by weight (outputs, inputs / groups, 1, 1)."""
    if not is_small(x):
        return F.conv2d(x, weight, groups=groups)
    channels = by_channel(x)
    products = weight.view(groups, -1, weight.shape[1]) @ channels.view(groups, weight.shape[1], -1)
    return products.view(-1, *channels.shape[1:]).transpose(0, 1)


def batch_norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """x normalised by the batch's own statistics, times scale (channels,)."""
    return _normalised(x, scale, None, 1e-5)[0] if is_small(x) else F.batch_norm(x, None, None, scale, training=True)


def _normalised(x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x normalised, the mean of each channel, and 1 / sqrt(variance + eps)."""
    if not is_small(x):
        return torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, eps)
    channels, count = by_channel(x), x.shape[1]  # as a group norm with a channel a group
    out, mean, inverse = torch.native_group_norm(channels, scale, shift, 1, count, x.numel() // count, count, eps)
    return out.view(channels.shape).transpose(0, 1), mean.view(-1), inverse.view(-1)


def max_pool(x: Tensor, stride: int) -> Tensor:
    """The greatest of each window of 3x3 pixels."""
    return F.max_pool2d(x.contiguous(memory_format=torch.channels_last), WINDOW, stride, PADDING)


def average_pool(x: Tensor, stride: int) -> Tensor:
    """The mean of each window of 3x3 pixels, without what lies outside."""
    if not is_small(x):
        return _average(x, stride=stride)
    height, width = x.shape[2:]
    pooled = by_channel(x).flatten(2) @ _means(height, width, stride, x.dtype)
    return pooled.view(x.shape[1], len(x), -(-height // stride), -(-width // stride)).transpose(0, 1)


@functools.cache
def _means(height: int, width: int, stride: int, dtype: torch.dtype) -> Tensor:
    """(pixels, outputs): what each pixel adds to each mean."""
    pixels = torch.eye(height * width, dtype=dtype).view(-1, 1, height, width)
    return _average(pixels, stride=stride).flatten(1)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution without bias: (batch, inputs, H, W) to (batch, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Batch norm that is folded into it adds a bias.
        return pointwise(x, self.weight) if self.bias is None else super().forward(x)


class Norm(nn.BatchNorm2d):
    """Batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        # Last: one value a channel, which torch refuses; an export must not ask for it.
        if not self.training or self.momentum is None or not is_small(x) or x.numel() == x.shape[1]:
            return super().forward(x)
        return normalised([self], x)


def normalised(norms: Sequence[Any], x: Tensor) -> Tensor:
    """In training, what several norms make of the channels of x, one's after the other's."""
    scale, shift, first = beside([n.weight for n in norms]), beside([n.bias for n in norms]), norms[0]
    out, mean, inverse = _normalised(x, scale, shift, first.eps)
    if first.track_running_stats:
        samples = out.numel() // len(mean)
        with torch.no_grad():
            variance = (inverse.pow(-2) - first.eps) * (samples / (samples - 1))
            torch._foreach_lerp_([n.running_mean for n in norms], mean.chunk(len(norms)), first.momentum)
            torch._foreach_lerp_([n.running_var for n in norms], variance.chunk(len(norms)), first.momentum)
            torch._foreach_add_([n.num_batches_tracked for n in norms], 1)
    return out


class MaxPool(nn.MaxPool2d):
    """The greatest of each window of 3x3 pixels."""

    stride: int

    def __init__(self, stride: int):
        super().__init__(WINDOW, stride, PADDING)

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x, self.stride)


class AveragePool(nn.AvgPool2d):
    """The mean of each window of 3x3 pixels, without what lies outside."""

    stride: int

    def __init__(self, stride: int):
        super().__init__(WINDOW, stride, PADDING, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return average_pool(x, self.stride)
