"""What this machine does, on one page, in about five minutes: steps, networks, predictions, and a study's time."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.convolutions import seconds
from benchmarks.printing import machine, table
from edgenes.nn.network import Network
from edgenes.space.genotype import Edge, Genotype, SearchSpace
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.worker import keep_freed_memory, leave_out_compiler
from tune_jobs.stages.estimate import estimate

SIZES = {"8x8 grey, C=8": (8, 1, 8), "16x16 colour, C=8": (16, 3, 8), "32x32 colour, C=16": (32, 3, 16)}
"""Pixels, channels of an image, and channels of a network."""
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the steps that a study consists of, and estimate the study on digits."""

    operations: tuple[str, ...] = ("max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_5x5")
    """Operations of the networks, the same on every edge."""
    repeats: int = 7
    """Measurements of each step."""


def median(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of CPU, after a run that is not counted."""
    run()
    return 1e3 * statistics.median(seconds(run) for _ in range(repeats))


def row(name: str, operation: str, repeats: int) -> list[str]:
    """A step of a retraining, a prediction of as many images, and what 1,000 images for 25 epochs take."""
    pixels, image_channels, channels = SIZES[name]
    space = SearchSpace()
    genotype = Genotype(space, (tuple((Edge(1, operation),) for _ in range(space.nodes)),))
    network = Network(genotype, image_channels, 10, channels, 2)
    images, labels = torch.randn(BATCH, image_channels, pixels, pixels), torch.randint(10, (BATCH,))

    def step() -> None:
        F.cross_entropy(network(images), labels).backward()

    @torch.inference_mode()
    def predict() -> None:
        network(images)

    training = median(step, repeats)
    network.eval()
    prediction = median(predict, repeats)
    minutes = training * 25 * 1000 / BATCH / 60_000
    return [name, operation, f"{training:.1f}", f"{prediction:.1f}", f"{minutes:.1f}"]


def main(options: Options) -> None:
    """Print the page."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as the study's workers do
    leave_out_compiler()
    print(f"# This machine\n\n{torch.backends.cpu.get_cpu_capability()}; {machine()}\n")
    print(f"Networks of two cells, one operation on all edges, {BATCH} images a step, median of {options.repeats}:\n")
    header = ["images", "operation", "training step, ms", "prediction, ms", "1,000 images, 25 epochs, min"]
    rows = (row(name, operation, options.repeats) for name in SIZES for operation in options.operations)
    print(table(header, rows), flush=True)
    print(f"\nThe study on digits with its defaults:\n\n{estimate(SweepConfig.of())}\n\n{machine()} at the end")
