"""Networks of cells: the part that supernet and retrained networks share, and the network of one genotype."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.errors import ConfigError
from edgenes.nn.layers import Norm, by_channel, is_small, joined
from edgenes.nn.operations import FactorizedReduce, make_operation, relu_conv_norm
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.operations import OPERATIONS

Candidates = Mapping[int, Sequence[str]]  # edge position -> the operations that exist on it
Mix = Callable[["Cell", list[Tensor]], list[Tensor]]
"""mix(cell, states) gives the nodes' outputs from the cell's two inputs."""


class Cell(nn.Module):
    """Two inputs, intermediate nodes, the nodes' concatenation; `candidates` says which operations exist.

    `mix(cell, states)` computes the nodes from the two inputs: along a genotype's edges, or as a mixture of all.
    """

    def __init__(
        self,
        space: SearchSpace,
        candidates: Candidates,
        before: int,
        previous: int,
        channels: int,
        reduction: bool,
        reduced_before: bool,
        affine: bool,
        track: bool,
        parts: int = 1,
        pool_norm: bool = True,
    ):
        super().__init__()
        self.space = space
        reduce = FactorizedReduce if reduced_before else relu_conv_norm
        self.preprocess0 = reduce(before, channels, affine, track)
        self.preprocess1 = relu_conv_norm(previous, channels, affine, track)
        self.width = channels
        self.operations = nn.ModuleDict()
        for edge, names in sorted(candidates.items()):
            stride = 2 if reduction and space.edges[edge][1] < 2 else 1
            self.operations[str(edge)] = nn.ModuleDict(
                {name: make_operation(name, channels, stride, affine, track, parts, pool_norm) for name in names}
            )

    def operation(self, edge: int, name: str) -> nn.Module:
        """The operation `name` of the edge."""
        return cast(nn.ModuleDict, self.operations[str(edge)])[name]

    def forward(self, before: Tensor, previous: Tensor, mix: Mix) -> Tensor:
        return joined(mix(self, [self.preprocess0(before), self.preprocess1(previous)]))


class Backbone(nn.Module):
    """Stem, cells, global average pool, linear classifier: images (batch, channels, H, W) -> logits (batch, classes).

    With both cell types, reduction cells stand at one and two thirds of the depth, as in DARTS; else every cell is
    of the one type. Channels double at each reduction. With `parts` above 1 operations see a part of the channels.
    `darts_layout` is that of DARTS's code: a stem of three times the channels, and pools with a batch norm in a
    supernet alone, whose norms are not affine.
    """

    def __init__(
        self,
        space: SearchSpace,
        candidates: Mapping[str, Candidates],
        image_channels: int,
        classes: int,
        channels: int,
        cells: int,
        stem_kernel: int = 3,
        affine: bool = True,
        track: bool = True,
        parts: int = 1,
        darts_layout: bool = False,
    ):
        super().__init__()
        self.space = space
        before = previous = 3 * channels if darts_layout else channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, previous, stem_kernel, padding=stem_kernel // 2, bias=False),
            Norm(previous, affine=affine, track_running_stats=track),
        )
        self.cell_types = cell_layout(space, cells)
        self.cells = nn.ModuleList()
        reduced_before = False
        for cell_type in self.cell_types:
            reduction = cell_type == "reduction"
            channels *= 2 if reduction else 1
            self.cells.append(
                Cell(
                    space,
                    candidates[cell_type],
                    before,
                    previous,
                    channels,
                    reduction,
                    reduced_before,
                    affine,
                    track,
                    parts,
                    pool_norm=not (darts_layout and affine),
                )
            )
            before, previous, reduced_before = previous, channels * space.nodes, reduction
        self.classifier = nn.Linear(previous, classes)

    def entered(self, images: Tensor) -> Tensor:
        """The stem's output, (batch, channels, H, W), both inputs of the first cell."""
        out = self.stem(images)
        return out if is_small(out) else out.contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor, mix: Callable[[str], Mix]) -> list[Tensor]:
        """The outputs of all cells; `mix(cell type)` gives the function that computes its nodes."""
        before = previous = self.entered(images)
        outputs = []
        for cell_type, cell in zip(self.cell_types, self.cells, strict=True):
            before, previous = previous, cell(before, previous, mix(cell_type))
            outputs.append(previous)
        return outputs

    def classify(self, features: Tensor) -> Tensor:
        """Global average pool and linear classifier."""
        if is_small(features):
            return self.classifier(by_channel(features).flatten(2).mean(2).t())
        # The mean over rows of pixels, so that its gradient has the channels last too.
        return self.classifier(features.permute(0, 2, 3, 1).flatten(1, 2).mean(1))


def total(outputs: Sequence[Tensor]) -> Tensor:
    """The sum; with one output that itself, where `sum` would add it to 0."""
    return functools.reduce(torch.add, outputs)


def cell_layout(space: SearchSpace, cells: int) -> tuple[str, ...]:
    """The type of each of `cells` cells; raises ConfigError where a type would never occur."""
    if cells < 1:
        raise ConfigError(f"cells must be at least 1, got {cells}.")
    if len(space.cell_types) == 1:
        return space.cell_types * cells
    if cells < 3:
        raise ConfigError(f"normal and reduction cells together need at least 3 cells, got {cells}.")
    return tuple("reduction" if i in (cells // 3, 2 * cells // 3) else "normal" for i in range(cells))


def check_image_size(space: SearchSpace, cells: int, size: int) -> None:
    """Raise ConfigError unless images of `size` pixels keep at least 2x2 pixels after all reductions."""
    reductions = cell_layout(space, cells).count("reduction")
    needed = 2 ** (reductions + 1)
    if size < needed:
        raise ConfigError(
            f"images of {size}x{size} are too small for {cells} cells with {reductions} reductions, which need at "
            f"least {needed}x{needed}: use fewer cells or a larger image size."
        )


def choices(genotype: Genotype) -> dict[str, list[list[tuple[int, int, str]]]]:
    """For each cell type and node the chosen (edge position, input, operation)."""
    space = genotype.space
    return {
        name: [[(space.edge(j, e.input), e.input, e.operation) for e in node] for j, node in enumerate(cell)]
        for name, cell in zip(space.cell_types, genotype.cells, strict=True)
    }


class Network(Backbone):
    """The discrete network of a genotype, for retraining from scratch (section 3.1).

    images (batch, image_channels, H, W) -> logits (batch, classes). In training mode with `auxiliary`, a pair
    (logits, auxiliary logits). `drop_path` is the probability that an operation's output is zeroed for an image
    (its masks come from `generator`; skip connections that change no resolution are kept, as in DARTS). With
    `darts_layout` the windows of the auxiliary head's pool overlap.

    Example:
        >>> import torch
        >>> from edgenes import Network, SearchSpace, random_genotype
        >>> genotype = random_genotype(SearchSpace(), torch.Generator().manual_seed(0))
        >>> Network(genotype, image_channels=1, classes=10, channels=8, cells=2)(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        genotype: Genotype,
        image_channels: int,
        classes: int,
        channels: int,
        cells: int,
        stem_kernel: int = 3,
        auxiliary: bool = False,
        darts_layout: bool = False,
        affine: bool = True,
        parts: int = 1,
    ):
        self_choices = choices(genotype)
        candidates = {
            name: {edge: [operation] for node in cell for edge, _, operation in node}
            for name, cell in self_choices.items()
        }
        super().__init__(
            genotype.space,
            candidates,
            image_channels,
            classes,
            channels,
            cells,
            stem_kernel,
            affine,
            parts=parts,
            darts_layout=darts_layout,
        )
        self.genotype = genotype
        self.choices = self_choices
        self.drop_path = 0.0
        self.generator: torch.Generator | None = None
        self.auxiliary_at = 2 * cells // 3 if auxiliary and cells > 1 else None
        if self.auxiliary_at is not None:
            doublings = self.cell_types[: self.auxiliary_at + 1].count("reduction")
            width = channels * 2**doublings * genotype.space.nodes
            self.auxiliary = _auxiliary_head(
                width, classes, OverlappingPool() if darts_layout else nn.AdaptiveAvgPool2d(2)
            )

    def _mix(self, cell_type: str) -> Mix:
        def mix(cell: Cell, states: list[Tensor]) -> list[Tensor]:
            for node in self.choices[cell_type]:
                outputs = []
                for edge, i, name in node:
                    operation = cell.operation(edge, name)
                    own = name in OPERATIONS.own()  # which may change its input
                    outputs.append(self.dropped(operation, operation(states[i].clone() if own else states[i])))
                states.append(total(outputs))
            return states[2:]

        return mix

    def dropped(self, operation: nn.Module, out: Tensor) -> Tensor:
        """An operation's output as a node gets it: in training with `drop_path`, zero for some of the images."""
        if not self.training or self.drop_path == 0 or isinstance(operation, nn.Identity):
            return out
        keep = torch.rand(len(out), 1, 1, 1, generator=self.generator) >= self.drop_path
        return out * keep.to(out) / (1 - self.drop_path)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        outputs = self.features(images, self._mix)
        logits = self.classify(outputs[-1])
        if self.training and self.auxiliary_at is not None:
            return logits, self.auxiliary(outputs[self.auxiliary_at])
        return logits


class OverlappingPool(nn.Module):
    """Means of 2x2 windows of five eighths of the size: those of 5x5 pixels in DARTS, from 8x8 ones."""

    def forward(self, x: Tensor) -> Tensor:
        strides = [max(1, 3 * side // 8) for side in x.shape[2:]]
        return F.avg_pool2d(x, [side - stride for side, stride in zip(x.shape[2:], strides, strict=True)], strides)


def _auxiliary_head(width: int, classes: int, pool: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        pool,
        nn.Conv2d(width, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 768, 2, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )


@torch.no_grad()
def calibrate(network: nn.Module, images: Tensor) -> None:
    """Give a new network's batch norms the statistics of one pass over `images`; leaves it in eval mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a cumulative average: after one pass, the pass's own statistics
    network.train()
    network(images)
    network.eval()
