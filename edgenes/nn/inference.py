"""A trained network as fast as it can be asked on a CPU: the same numbers, up to rounding, from fewer and other calls.

Batch norm is folded into the convolution before it. On images of up to `SMALL` pixels a convolution costs little more
than its call: there tensors are (channels, batch, pixels), a depthwise convolution or a pool is one product with a
matrix (pixels, pixels) a channel, and a 1x1 convolution one with a matrix (channels, channels). Nothing is copied.
"""

import copy
from collections.abc import Callable
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgenes.nn.depthwise import Depthwise
from edgenes.nn.layers import SMALL, Norm, Pointwise
from edgenes.nn.network import Cell, Network, total
from edgenes.nn.operations import FactorizedReduce

Step = Callable[[Tensor], Tensor]
Size = tuple[int, int, int]
"""Channels, rows, columns."""


class FastNetwork:
    """`network`, in eval mode on the CPU, for pixels of one size: (batch, channels, H, W) -> logits (batch, classes).

    `normalise` is what it does to pixels first, the same for each of a channel. Later changes of its weights do not
    reach it.
    """

    @torch.no_grad()
    def __init__(self, network: Network, size: Size, normalise: Step):
        self.network = folded(network)
        self.normalise = normalise
        stem = copy.deepcopy(self.network.stem).double()  # of which small differences are taken
        self.stem = _dense(lambda images: stem(normalise(images).double()), size) if _is_small(size) else None
        with torch.inference_mode():
            entered = self.network.entered(normalise(torch.zeros(1, *size)))
        before = previous = _size(entered)
        self.cells: list[_SmallCell | None] = []
        for cell_type, module in zip(network.cell_types, self.network.cells, strict=True):
            cell = cast(Cell, module)
            if _is_small(before):
                self.cells.append(_SmallCell(cell, network.choices[cell_type], before, previous))
            else:
                self.cells.append(None)
            with torch.inference_mode():
                states = [torch.zeros(1, *each) for each in (before, previous)]
                before, previous = previous, _size(cell(*states, self.network._mix(cell_type)))

    def __call__(self, pixels: Tensor) -> Tensor:
        network = self.network
        if self.stem is None:
            before = previous = network.entered(self.normalise(pixels))
        else:
            before = previous = self.stem(pixels)
        small = self.stem is not None
        for cell_type, module, cell in zip(network.cell_types, network.cells, self.cells, strict=True):
            if cell is None:
                before, previous = previous, module(before, previous, network._mix(cell_type))
                continue
            if not small:
                before, previous, small = _flat(before), _flat(previous), True
            before, previous = previous, cell(before, previous)
        if not small:
            return network.classify(previous)
        # Before the mean over pixels, so that it is over classes and not over many channels.
        logits = (network.classifier.weight @ previous.flatten(1)).view(-1, *previous.shape[1:])
        return logits.mean(2).t() + network.classifier.bias


def folded(network: Network) -> Network:
    """A copy without batch norms where a convolution comes before."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for k in range(len(module) - 1):
                convolution, norm = module[k], module[k + 1]
                if _is_plain(convolution) and isinstance(norm, nn.BatchNorm2d):
                    module[k], module[k + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
        elif isinstance(module, FactorizedReduce):
            scale, shift = _scale_and_shift(module.norm)
            split = module.even.out_channels
            for half, part in ((module.even, slice(split)), (module.odd, slice(split, None))):
                half.weight.data = half.weight.data * scale[part, None, None, None]
                half.bias = nn.Parameter(shift[part], requires_grad=False)
            module.norm = cast(Norm, nn.Identity())
    return network


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is the convolution of its weights and bias, which another subclass may not be."""
    return type(module) in (nn.Conv2d, Pointwise)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.detach())
    return scale, (0 if norm.bias is None else norm.bias.detach()) - mean * scale


class _SmallCell:
    """A cell on states (channels, batch, pixels)."""

    def __init__(self, cell: Cell, nodes: list[list[tuple[int, int, str]]], before: Size, previous: Size):
        self.inputs = _Branch(cell.preprocess0, before), _Branch(cell.preprocess1, previous)
        sizes = [branch.size for branch in self.inputs]
        self.nodes: list[list[tuple[int, _Branch]]] = []
        for node in nodes:
            self.nodes.append([(i, _Branch(cell.operation(edge, name), sizes[i])) for edge, i, name in node])
            sizes.append(self.nodes[-1][0][1].size)

    def __call__(self, before: Tensor, previous: Tensor) -> Tensor:
        first = before.relu()
        states = [self.inputs[0](first), self.inputs[1](first if previous is before else previous.relu())]
        positive: dict[int, Tensor] = {}  # the ReLU of a state, which several operations begin with
        for node in self.nodes:
            outputs = []
            for i, branch in node:
                if branch.relu and i not in positive:
                    positive[i] = states[i].relu()
                outputs.append(branch(positive[i] if branch.relu else states[i]))
            states.append(total(outputs))
        return torch.cat(states[2:])


class _Branch:
    """An operation's steps without the ReLU that it begins with, which `relu` tells of, and the size it makes."""

    def __init__(self, operation: nn.Module, size: Size):
        modules = list(operation) if isinstance(operation, nn.Sequential) else [operation]
        self.relu = isinstance(modules[0], nn.ReLU | FactorizedReduce)
        self.steps: list[Step] = []
        for module in modules[isinstance(modules[0], nn.ReLU) :]:
            if not isinstance(module, nn.Identity):
                self.steps.append(_step(module, size))
                size = _size(module(torch.zeros(1, *size)))
        self.size = size

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


def _step(module: nn.Module, size: Size) -> Step:
    """The module in eval mode as a function of (channels, batch, pixels)."""
    if isinstance(module, nn.ReLU):
        return torch.relu
    if _is_plain(module) and module.kernel_size == module.stride == (1, 1) and module.groups == 1:
        return _pointwise(module)
    if isinstance(module, Depthwise | nn.AvgPool2d):
        return _spatial(module, size)
    if isinstance(module, nn.MaxPool2d):
        return lambda x: module(x.unflatten(2, size[1:])).flatten(2)
    if isinstance(module, nn.BatchNorm2d):
        scale, shift = (each.view(-1, 1, 1) for each in _scale_and_shift(module))
        return lambda x: torch.addcmul(shift, x, scale)
    if isinstance(module, FactorizedReduce):
        return _reduce(module, size)
    return lambda x: _flat(module(x.unflatten(2, size[1:]).transpose(0, 1)))


def _pointwise(convolution: nn.Conv2d) -> Step:
    weight = convolution.weight.detach().flatten(1)
    bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
    bias = bias.view(-1, 1)
    return lambda x: torch.addmm(bias, weight, x.reshape(len(x), -1)).view(-1, *x.shape[1:2], x.shape[2])


def _spatial(module: nn.Module, size: Size) -> Step:
    """What acts on each channel alone, and linearly: one product a channel with what it makes of each pixel."""
    channels, pixels = size[0], size[1] * size[2]
    each = torch.eye(pixels).view(pixels, 1, *size[1:]).expand(-1, channels, -1, -1)
    matrices = module(each).flatten(2).transpose(0, 1).contiguous()
    return lambda x: torch.bmm(x, matrices)


def _dense(function: Step, size: Size) -> Step:
    """What is affine in the whole images (batch, channels, H, W), as (channels, batch, pixels)."""
    numbers = size[0] * size[1] * size[2]
    shift = function(torch.zeros(1, *size))
    white = function(255 * torch.eye(numbers).view(-1, *size))  # pixels end at 255: no digit is lost
    matrices = ((white - shift) / 255).float().flatten(2).transpose(0, 1).contiguous()
    added = shift[0].float().flatten(1).unsqueeze(1).contiguous()
    return lambda images: torch.baddbmm(added, images.float().flatten(1).expand(len(matrices), -1, -1), matrices)


def _reduce(module: FactorizedReduce, size: Size) -> Step:
    """Two grids of pixels, the second one shifted, each with a 1x1 convolution; the batch norm has been folded."""
    (even, odd), (_, height, width) = (module.even, module.odd), size
    pixels = torch.eye(height * width).view(-1, height, width)
    shifted = F.pad(pixels, (0, 1, 0, 1))[:, 1:, 1:]
    grids = [each[:, ::2, ::2].flatten(1) for each in (pixels, shifted)]
    steps = [_pointwise(half) for half in (even, odd)]
    return lambda x: torch.cat([step(x @ grid) for step, grid in zip(steps, grids, strict=True)])


def _is_small(size: Size) -> bool:
    return size[1] * size[2] <= SMALL


def _size(images: Tensor) -> Size:
    return images.shape[1], images.shape[2], images.shape[3]


def _flat(images: Tensor) -> Tensor:
    """(channels, batch, pixels) of images (batch, channels, H, W)."""
    return images.transpose(0, 1).flatten(2)
