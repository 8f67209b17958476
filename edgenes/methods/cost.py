"""The cost of a search and of a retraining, from their configurations: the same on all machines, cached or not."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any

import torch

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Dataset
from edgenes.nn.network import Network
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.paths import FairPaths

BACKWARD = 2
"""Operations of a backward pass in those of the forward pass: a gradient in the inputs and one in the weights."""
_SAMPLES = 28  # genotypes over which a path's or a network's operations are averaged: two decks of the first node


@dataclass(frozen=True)
class Work:
    """Optimisation steps (of weights and of architecture), images that passed forward, operations, and seconds.

    An image that passes along `score`'s M paths counts M times. Operations are the floating-point ones of convolutions
    and linear layers, two a multiplication with addition, backward passes included; pools and batch norm, which take
    time too, have none. Seconds are the wall clock's of whoever computed it, perhaps on a busy machine.
    """

    steps: int = 0
    images: int = 0
    operations: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __radd__(self, other: int) -> "Work":
        return self  # sum() begins with 0


def search_work(config: SearchConfig, data: Dataset, seconds: float = 0.0, epochs: int | None = None) -> Work:
    """A DARTS search, or a hypernetwork's training; `epochs` are those of one that ended early."""
    epochs = config.epochs if epochs is None else epochs
    batches = max(1, len(data.weights) // config.batch_size)
    first = next((e for e in range(epochs) if e >= config.warmup * config.epochs), epochs)
    learning = (epochs - first) * batches
    scored = config.forward == "sampled" and config.gradient == "score"
    looks = config.paths * config.path_batch if scored else config.batch_size
    if config.second_order:
        looks += 3 * config.batch_size  # the unrolled step's passes: one on W, two of the finite difference
    # Without a look at the images the penalty alone moves the hypernetwork, so that its warm-up has those steps too.
    moves = epochs * batches if isinstance(config, HypernetworkConfig) else learning
    trained, looked = epochs * batches * config.batch_size, learning * looks
    passes = (1 + BACKWARD) * trained + (1 if scored else 1 + BACKWARD) * looked
    sizes = (config.channels, config.cells, config.stem_kernel, config.partial_channels, config.darts_layout)
    shape = (data.channels, data.classes, data.image_size)
    forward = _supernet_operations(config.space, sizes, config.forward, shape)
    return Work(epochs * batches + moves, trained + looked, passes * forward, seconds)


def retraining_work(
    config: TrainingConfig, data: Dataset, seconds: float = 0.0, genotype: Genotype | SearchSpace | None = None
) -> Work:
    """A network trained from scratch: the genotype's, or the mean over a space's; operations 0 for None."""
    steps = config.epochs * max(1, len(data.training) // config.batch_size)
    images = steps * config.batch_size
    sizes = (config.channels, config.cells, config.stem_kernel, config.auxiliary, config.darts_layout)
    shape = (data.channels, data.classes, data.image_size)
    forward = 0 if genotype is None else _network_operations(genotype, sizes, shape)
    return Work(steps, images, (1 + BACKWARD) * images * forward, seconds)


def _typical(space: SearchSpace) -> list[Genotype]:
    """Genotypes whose mean cost is the space's within some 2%; as many random ones miss it by 10%."""
    paths = FairPaths(space, torch.Generator().manual_seed(0))
    return [paths.next() for _ in range(_SAMPLES)]


def _counted(forward: Callable[[], object], batch: int = 2) -> int:
    """Operations an image of what `forward` does with a batch of two."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton: 0.3 s, which a worker need not pay

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() // batch


@lru_cache(maxsize=1024)
def _network_operations(genotype: Genotype | SearchSpace, sizes: tuple[Any, ...], shape: tuple[int, int, int]) -> int:
    """Operations of a forward pass of one image."""
    if isinstance(genotype, SearchSpace):
        return sum(_network_operations(one, sizes, shape) for one in _typical(genotype)) // _SAMPLES
    channels, classes, size = shape
    with torch.random.fork_rng(devices=[]):
        network = Network(genotype, channels, classes, *sizes).train()
        return _counted(lambda: network(torch.zeros(2, channels, size, size)))


@lru_cache(maxsize=64)
def _supernet_operations(space: SearchSpace, sizes: tuple[Any, ...], forward: str, shape: tuple[int, int, int]) -> int:
    """Operations of a forward pass of one image; of `sampled`, the mean over paths."""
    colours, classes, size = shape
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        supernet = Supernet(space, colours, classes, *sizes).train()
        images = torch.zeros(2, colours, size, size)
        if forward == "sampled":
            return sum(_counted(partial(supernet.sampled, images, path)) for path in _typical(space)) // _SAMPLES
        types, edges, operations = len(space.cell_types), len(space.edges), len(space.operations)
        logits = ArchitectureLogits(torch.zeros(types, edges, operations), torch.zeros(types, edges))
        return _counted(lambda: supernet.relaxed(images, logits, forward, 1.0, generator))
