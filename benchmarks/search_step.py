"""What a step of the search costs: each forward pass beside DARTS's mixed network as it is usually written.

Forward and backward, the reference (benchmarks/reference.py: a module for every operation of every edge, torch's
default layout) and ours in turns in one process. `mixture` has the same weights as the reference, so both compute
the same (tests/edgenes/nn/test_mixed_cell.py); `gdas` and `sampled` take a new random genotype each time, so that
they are measured more often and the others at even distances among them. `floor` is the network without its cells'
operations: stem, preprocessing, classifier.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from benchmarks.printing import machine, quantiles, table
from benchmarks.reference import MixedCell, MixedNetwork
from edgenes.nn.mixed_cell import mixed_nodes
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import SearchSpace
from edgenes.training.paths import FairPaths
from tune_jobs.execution.process import keep_freed_memory


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the search step."""

    sizes: tuple[tuple[int, int], ...] = ((8, 8), (16, 8), (32, 16))
    """Images' pixels and the stem's channels of each network."""
    cells: tuple[int, ...] = (1, 8)
    """Cells; above 2 with normal and reduction cells."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of torch. Seconds are those of a clock where there is more than one."""
    forwards: tuple[Literal["mixture", "gdas", "sampled", "floor"], ...] = ("mixture", "gdas", "sampled", "floor")
    """Passes of ours."""
    genotypes: int = 200
    """Genotypes of `gdas` and `sampled`."""
    others: int = 10
    """Measurements of the reference, `mixture` and `floor`, whose steps are all alike."""
    batch: int = 64
    """Images of a batch."""


Pass = Callable[[], None]
REFERENCE = "reference"
DRAWN = {"gdas", "sampled"}


def in_turns(passes: dict[str, Pass], options: Options, threads: int) -> dict[str, list[float]]:
    """Seconds of each pass."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    for run in passes.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in passes}
    turns = options.genotypes if times.keys() & DRAWN else options.others
    for turn in range(turns):
        for name, run in passes.items():
            if name in DRAWN or turn * options.others % turns < options.others:
                start = clock()
                run()
                times[name].append(clock() - start)
    return times


def whole_net(size: int, channels: int, cells: int, options: Options) -> dict[str, Pass]:
    """The whole network: the reference's, and ours by name."""
    space = SearchSpace(cell_types=("normal", "reduction")) if cells > 2 else SearchSpace()
    generator = torch.Generator().manual_seed(0)
    ours = Supernet(space, 3, 10, channels, cells)
    theirs = MixedNetwork(space, 3, 10, channels, cells)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(options.batch, 3, size, size, generator=generator)
    labels = torch.randint(10, (options.batch,), generator=generator)
    types, edges, operations = len(space.cell_types), len(space.edges), len(space.operations)
    weights = [
        torch.randn(types, edges, operations, generator=generator),
        torch.randn(types, edges, generator=generator),
    ]
    soft = [each.softmax(-1).requires_grad_() for each in weights]
    fair = FairPaths(space, generator)

    def step(network: torch.nn.Module, forward: Callable[[], torch.Tensor]) -> Pass:
        def run() -> None:
            network.zero_grad(set_to_none=True)
            F.cross_entropy(forward(), labels).backward()

        return run

    def one_each() -> torch.Tensor:
        best = torch.randint(operations, (types, edges), generator=generator)
        hard = F.one_hot(best, operations).float().requires_grad_()
        return ours.mixture(images, hard, soft[1])

    def floor() -> torch.Tensor:
        return ours.classify(ours.features(images, lambda _: lambda _, states: [states[0]] * space.nodes)[-1])

    ours_by_name = {
        "mixture": step(ours, lambda: ours.mixture(images, *soft)),
        "gdas": step(ours, one_each),
        "sampled": step(ours, lambda: ours.sampled(images, fair.next())),
        "floor": step(ours, floor),
    }
    reference = step(theirs, lambda: theirs(images, *soft))
    return {REFERENCE: reference, **{name: ours_by_name[name] for name in options.forwards}}


def cell_alone(size: int, channels: int, options: Options) -> dict[str, Pass]:
    """A normal cell without its preprocessing: the reference and `mixture`, gradients in everything."""
    space = SearchSpace(cell_types=("normal",))
    cell = MixedCell(space, channels, reduction=False)
    ours = Supernet(space, 3, 10, channels, 1).cells[0].operations
    ours.load_state_dict(cell.operations.state_dict())
    inputs = [torch.randn(options.batch, channels, size, size) for _ in range(2)]
    soft = [torch.randn(len(space.edges), len(space.operations)), torch.randn(len(space.edges))]
    soft = [each.softmax(-1).requires_grad_() for each in soft]

    def run(forward: Callable, parameters: list[torch.Tensor], layout: torch.memory_format) -> Pass:
        states = [x.clone(memory_format=layout).requires_grad_() for x in inputs]
        grad = torch.ones(options.batch, channels * space.nodes, *inputs[0].shape[2:]).to(memory_format=layout)
        return lambda: torch.autograd.grad(forward(states), (*states, *soft, *parameters), grad)

    def mixture(states: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(mixed_nodes(ours, space, states, soft[0] * soft[1].unsqueeze(-1), 1), 1)

    return {
        REFERENCE: run(lambda states: cell(states, *soft), list(cell.parameters()), torch.contiguous_format),
        "mixture": run(mixture, list(ours.parameters()), torch.channels_last),
    }


def main(options: Options) -> None:
    """Print the table."""
    keep_freed_memory()  # as the study's workers do
    print(
        f"Forward + backward of {options.batch} images of 3 channels, milliseconds: median [5%, 95%]; ratio of the "
        f"reference's median to our mean; {machine()}\n",
        flush=True,
    )
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for size, channels in options.sizes:
            parts = {"normal cell alone": cell_alone} if "mixture" in options.forwards else {}
            for cells in options.cells:
                parts[f"net of {cells} cell{'s' * (cells > 1)}"] = partial(whole_net, cells=cells)
            for part, passes_of in parts.items():
                times = in_turns(passes_of(size, channels, options=options), options, threads)
                reference = times.pop(REFERENCE)
                for name, found in times.items():
                    mean = statistics.mean(found)
                    rows.append(
                        (
                            str(threads), f"{size}x{size}, C={channels}", part, name, str(len(reference)),
                            quantiles([1e3 * t for t in reference]), str(len(found)),
                            quantiles([1e3 * t for t in found]), f"{1e3 * mean:.1f}",
                            f"{statistics.median(reference) / mean:.1f}",
                        )
                    )  # fmt: skip
                    print("  " + ", ".join(rows[-1]), flush=True)
    header = ["threads", "images", "part", "forward", "n", "reference", "n", "ours", "ours, mean", "ratio"]
    print("\n" + table(header, rows))
    print(f"\n{machine()} at the end")
