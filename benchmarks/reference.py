"""The mixed network as DARTS is usually written: a module for every operation of every edge, and a weighted sum.

Our own code, as plain as it can be: torch's modules, its default memory layout, no sharing between edges. It has the
parameters of `edgenes.nn.supernet.Supernet` under the same names, so that `load_state_dict` makes them equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.nn.network import cell_layout
from edgenes.space.genotype import SearchSpace


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def _half(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), _norm(channels)]


class Reduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second one pixel further, batch norm."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])], 1))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """The operation `name` of stride `stride`."""
    kernel = 5 if name.endswith("5x5") else 3
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), _norm(channels))
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), _norm(channels))
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Reduce(channels, channels)
    if name.startswith("sep"):
        return nn.Sequential(*_half(channels, kernel, stride, 1), *_half(channels, kernel, 1, 1))
    return nn.Sequential(*_half(channels, kernel, stride, 2))


class MixedCell(nn.Module):
    """The nodes of a cell without the preprocessing of its inputs."""

    def __init__(self, space: SearchSpace, channels: int, reduction: bool):
        super().__init__()
        self.space = space
        self.operations = nn.ModuleDict()
        for edge, (_, i) in enumerate(space.edges):
            stride = 2 if reduction and i < 2 else 1
            self.operations[str(edge)] = nn.ModuleDict({o: operation(o, channels, stride) for o in space.operations})

    def forward(self, states: list[Tensor], operations: Tensor, edges: Tensor) -> Tensor:
        """states: the two inputs (batch, channels, H, W); weights (edges, operations) and (edges,)."""
        states = list(states)
        for node in range(self.space.nodes):
            total = 0.0
            for i in range(node + 2):
                edge = self.space.edge(node, i)
                candidates = self.operations[str(edge)]
                mixed = sum(w * candidates[o](states[i]) for w, o in zip(operations[edge], candidates, strict=True))
                total = total + edges[edge] * mixed
            states.append(total)
        return torch.cat(states[2:], 1)


class _Cell(MixedCell):
    def __init__(self, space: SearchSpace, before: int, previous: int, channels: int, reduction: bool, reduced: bool):
        super().__init__(space, channels, reduction)
        self.preprocess0 = Reduce(before, channels) if reduced else self._preprocess(before, channels)
        self.preprocess1 = self._preprocess(previous, channels)

    @staticmethod
    def _preprocess(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs))


class MixedNetwork(nn.Module):
    """Stem, mixed cells, mean, classifier: images (batch, channels, H, W) to logits (batch, classes)."""

    def __init__(self, space: SearchSpace, image_channels: int, classes: int, channels: int, cells: int):
        super().__init__()
        self.space = space
        self.stem = nn.Sequential(nn.Conv2d(image_channels, channels, 3, padding=1, bias=False), _norm(channels))
        self.cell_types = cell_layout(space, cells)
        self.cells = nn.ModuleList()
        before = previous = channels
        reduced = False
        for cell_type in self.cell_types:
            reduction = cell_type == "reduction"
            channels *= 2 if reduction else 1
            self.cells.append(_Cell(space, before, previous, channels, reduction, reduced))
            before, previous, reduced = previous, channels * space.nodes, reduction
        self.classifier = nn.Linear(previous, classes)

    def forward(self, images: Tensor, operations: Tensor, edges: Tensor) -> Tensor:
        """Weights (types, edges, operations) and (types, edges)."""
        before = previous = self.stem(images)
        for cell_type, cell in zip(self.cell_types, self.cells, strict=True):
            kind = self.space.cell_types.index(cell_type)
            states = [cell.preprocess0(before), cell.preprocess1(previous)]
            before, previous = previous, cell(states, operations[kind], edges[kind])
        return self.classifier(previous.mean((2, 3)))
