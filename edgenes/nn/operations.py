"""The package's own operations, those of DARTS (Liu et al. 2018, section 3.1).

The supernet and the retrained networks use this one code; `affine` gives batch norm its scale and shift
(off in the search, where a path must not win by its scale) and `track` its running statistics.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.nn.depthwise import Depthwise
from edgenes.nn.layers import AveragePool, MaxPool, Norm, Pointwise, joined, subsample
from edgenes.space.operations import OPERATIONS, Make, Operation


def _norm(channels: int, affine: bool, track: bool) -> Norm:
    return Norm(channels, affine=affine, track_running_stats=track)


class FactorizedReduce(nn.Module):
    """Halves the resolution: two 1x1 convolutions of stride 2 on grids shifted by one pixel, concatenated."""

    def __init__(self, inputs: int, outputs: int, affine: bool, track: bool):
        super().__init__()
        self.even = Pointwise(inputs, outputs // 2)
        self.odd = Pointwise(inputs, outputs - outputs // 2)
        self.norm = _norm(outputs, affine, track)

    def forward(self, x: Tensor) -> Tensor:
        even, odd = grids(x)
        return self.norm(joined([self.even(even), self.odd(odd)]))


def grids(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every second pixel of the rectified images, from the first one and from the second one on."""
    height, width = x.shape[2:]
    x = F.relu(x)
    odd = F.pad(subsample(x, 2, first=1), (0, width % 2, 0, height % 2))  # an odd size has one grid point less here
    return subsample(x, 2), odd


def relu_conv_norm(inputs: int, outputs: int, affine: bool, track: bool) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: brings a cell's input to the cell's channels."""
    return nn.Sequential(nn.ReLU(), Pointwise(inputs, outputs), _norm(outputs, affine, track))


def _depthwise_separable(
    channels: int, kernel: int, stride: int, dilation: int, affine: bool, track: bool
) -> list[nn.Module]:
    return [
        nn.ReLU(),
        Depthwise(channels, kernel, stride, dilation),
        Pointwise(channels, channels),
        _norm(channels, affine, track),
    ]


def _separable(kernel: int) -> Make:
    def make(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
        first = _depthwise_separable(channels, kernel, stride, 1, affine, track)
        return nn.Sequential(*first, *_depthwise_separable(channels, kernel, 1, 1, affine, track))

    return make


def _dilated(kernel: int) -> Make:
    def make(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
        return nn.Sequential(*_depthwise_separable(channels, kernel, stride, 2, affine, track))

    return make


def _max_pool(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
    return nn.Sequential(MaxPool(stride), _norm(channels, affine, track))


def _average_pool(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
    return nn.Sequential(AveragePool(stride), _norm(channels, affine, track))


def _skip(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine, track)


for _name, _operation in {
    # What batch norm and a reduction add to pools and skips does not count as parameters.
    "max_pool_3x3": Operation(_max_pool, "max 3×3", parameter_free=True),
    "avg_pool_3x3": Operation(_average_pool, "avg 3×3", parameter_free=True),
    "skip_connect": Operation(_skip, "skip", parameter_free=True),
    "sep_conv_3x3": Operation(_separable(3), "sep 3×3", parameter_free=False),
    "sep_conv_5x5": Operation(_separable(5), "sep 5×5", parameter_free=False),
    "dil_conv_3x3": Operation(_dilated(3), "dil 3×3", parameter_free=False),
    "dil_conv_5x5": Operation(_dilated(5), "dil 5×5", parameter_free=False),
}.items():
    OPERATIONS.add(_name, _operation, built_in=True)


class Partial(nn.Module):
    """An operation on the first 1/parts of the channels, the others passed by (Xu et al. 2020, PC-DARTS, section 3.1).

    At stride 2 the others are max pooled. The channels are shuffled after it, so that all take their turn.
    """

    def __init__(self, operation: nn.Module, parts: int, stride: int):
        super().__init__()
        self.operation = operation
        self.parts = parts
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        first, others = partial_channels(x, self.parts, self.stride)
        return shuffled(self.operation(first), others, self.parts)


def partial_channels(x: Tensor, parts: int, stride: int) -> tuple[Tensor, Tensor]:
    """The channels of x (batch, channels, H, W) that an operation gets, and the others in the size it makes."""
    first, others = x.tensor_split([x.shape[1] // parts], 1)
    return first, others if stride == 1 else F.max_pool2d(others, stride, stride, ceil_mode=True)


def shuffled(first: Tensor, others: Tensor, parts: int) -> Tensor:
    """Both, as channels 0, c, 2c, ..., 1, c + 1, ... of their concatenation, c the channels of `first`."""
    return torch.cat([first, others], 1).unflatten(1, (parts, -1)).transpose(1, 2).flatten(1, 2)


def make_operation(
    name: str,
    channels: int,
    stride: int,
    affine: bool = True,
    track: bool = True,
    parts: int = 1,
    pool_norm: bool = True,
) -> nn.Module:
    """The operation `name` from (batch, channels, H, W) to (batch, channels, ceil(H / stride), ceil(W / stride)).

    With `parts` above 1, of which `channels` is a multiple, on as small a part of the channels. Without `pool_norm`
    the pools have no batch norm.
    """
    make = OPERATIONS.find(name).make
    if not pool_norm and name in ("max_pool_3x3", "avg_pool_3x3"):
        return cast(nn.Sequential, make(channels, stride, affine, track))[0]
    if parts == 1:
        return make(channels, stride, affine, track)
    return Partial(make(channels // parts, stride, affine, track), parts, stride)
