"""What depthwise convolutions cost, and the step of a retraining, with torch's layers and with ours.

Forward and backward in turns in one process, CPU time of one thread. `plain` is torch's convolution with its own
gradients, channels last; `ours` chooses by the rule of `edgenes/nn/depthwise.py`, here with the copies between both
layouts, which a network of small images does not make. In a step `plain` is also torch's other layers and its own
training step; `at once`: several networks together, a network's share.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.printing import machine, table
from edgenes.config import TrainingConfig
from edgenes.data.dataset import Part, build_dataset
from edgenes.nn import depthwise, layers
from edgenes.nn.together import Together
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.training.retraining import AT_ONCE, Learner
from tune_jobs.execution.worker import keep_freed_memory, leave_out_compiler


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure depthwise convolutions and the retraining step."""

    sizes: tuple[tuple[int, int], ...] = ((2, 32), (4, 16), (4, 32), (7, 16), (8, 8), (8, 16), (14, 16), (16, 16))
    """Images' pixels and channels."""
    steps: tuple[tuple[int, int], ...] = ((8, 1), (16, 3))
    """Images' pixels and channels of the retraining steps."""
    genotypes: int = 200
    """Random genotypes of the steps: two cells, C=8."""
    repeats: int = 20
    """Measurements of each convolution; a genotype's step takes the least of 5."""
    batch: int = 64
    """Images of a batch."""


Run = Callable[[], object]
Convolution = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]
CHOICES = [(kernel, stride, dilation) for kernel in (3, 5) for stride in (1, 2) for dilation in (1, 2)]


def plain(x: torch.Tensor, weight: torch.Tensor, stride: int = 1, dilation: int = 1) -> torch.Tensor:
    """torch's convolution."""
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))


@contextmanager
def plain_layers() -> Iterator[None]:
    """Let networks have torch's layers."""
    with patch.object(layers, "SMALL", 0), patch.object(depthwise, "depthwise", plain):
        yield


def seconds(run: Run) -> float:
    """CPU time of this thread."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


def convolutions(options: Options) -> Iterator[list[str]]:
    """The rows of the first table."""
    for size, channels in options.sizes:
        for kernel, stride, dilation in CHOICES:
            shape = (options.batch, channels, size, size)
            x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
            times: dict[Convolution, list[float]] = {plain: [], depthwise.depthwise: []}

            def run(way: Convolution, x=x, weight=weight, stride=stride, dilation=dilation) -> None:
                out = way(x, weight, stride, dilation)
                torch.autograd.grad(out, (x, weight), torch.ones_like(out))

            for turn in range(options.repeats + 1):
                for way, found in times.items():
                    spent = seconds(lambda way=way: run(way))
                    if turn:
                        found.append(1e3 * spent)
            name = f"{size}x{size}, {channels}"
            columns = [f"{statistics.median(found):.2f} ({min(found):.2f})" for found in times.values()]
            yield [name, f"{kernel}, {stride}, {dilation}", *columns]


def retraining(size: int, image_channels: int, options: Options) -> list[str]:
    """A row of the second table: means over the genotypes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.batch, image_channels, size, size, generator=generator)
    labels = torch.randint(10, (options.batch,), generator=generator)
    pixels = np.zeros((2, image_channels, size, size), np.uint8)
    data = build_dataset("none", [str(k) for k in range(10)], *[Part(pixels, np.zeros(2, np.int64))] * 3)
    config = TrainingConfig(channels=8, cells=2)
    times: dict[str, list[float]] = {"plain": [], "ours": [], f"{AT_ONCE} at once": []}
    for first in range(0, options.genotypes, AT_ONCE):
        count = min(AT_ONCE, options.genotypes - first)
        learners = [Learner(config, data, random_genotype(SearchSpace(), generator)) for _ in range(count)]
        optimizers = [torch.optim.SGD(each.network.parameters(), 0.025, 0.9, weight_decay=3e-4) for each in learners]
        single = [Together([each.network]) for each in learners]
        many = Together([each.network for each in learners])

        def plain(learners=learners, optimizers=optimizers) -> None:
            for learner, optimizer in zip(learners, optimizers, strict=True):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(learner.network(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(learner.network.parameters(), config.gradient_clip)
                optimizer.step()

        def ours(learners=learners, parts=single) -> None:
            share = len(learners) // len(parts)
            for k, part in enumerate(parts):
                some = learners[k * share : (k + 1) * share]
                for learner in some:
                    learner.begin(0.025)
                outputs = part([images] * len(some))
                torch.stack([F.cross_entropy(output, labels) for output in outputs]).sum().backward()
                for learner in some:
                    learner.step()

        found: dict[str, list[float]] = {way: [] for way in times}
        for _ in range(5):
            with plain_layers():
                spent = [seconds(plain)]
            spent += [seconds(ours), seconds(lambda many=many: ours(parts=[many]))]
            for values, each in zip(found.values(), spent, strict=True):
                values.append(each)
        for way, values in found.items():
            times[way].append(1e3 * min(values))
    means = [sum(values) / options.genotypes for values in times.values()]
    ratios = ", ".join(f"{means[0] / mean:.2f}" for mean in means[1:])
    return [f"{size}x{size}x{image_channels}", *(f"{mean:.1f}" for mean in means), ratios]


def main(options: Options) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as the study's workers do
    leave_out_compiler()
    print(f"{options.batch} images, forward and backward, milliseconds: median (least); {machine()}\n", flush=True)
    header = ["images, channels", "kernel, stride, dilation", "plain", "ours"]
    print(table(header, convolutions(options)), flush=True)
    print(f"\nA retraining step, two cells, C=8, mean over {options.genotypes} random genotypes:\n", flush=True)
    rows = [retraining(size, channels, options) for size, channels in options.steps]
    print(table(["images", "plain", "ours", f"{AT_ONCE} at once", "ratios"], rows))
    print(f"\n{machine()} at the end")
