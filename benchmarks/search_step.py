"""What a step of the search costs: each forward pass beside DARTS's mixed network as it is usually written.

Forward and backward, the reference (benchmarks/reference.py: a module for every operation of every
edge, torch's default layout) and ours in turns in one process. `mixture` has the same weights as the reference, so
both compute the same (tests/test_mixture.py); `gdas` and `sampled` take a new random genotype each time. `floor` is
the network without its cells' operations: stem, preprocessing, classifier.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.printing import machine, quantiles, table
from benchmarks.reference import MixedCell, MixedNetwork
from edgenes.genotype import SearchSpace
from edgenes.mixture import mixed_nodes
from edgenes.search import FairPaths
from edgenes.supernet import Supernet
from tune_jobs.allocator import keep_freed_memory


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the search step."""

    sizes: tuple[tuple[int, int], ...] = ((8, 8), (16, 8), (32, 16))
    """Images' pixels and the stem's channels of each network."""
    cells: tuple[int, ...] = (1, 8)
    """Cells; above 2 with normal and reduction cells."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of torch. Seconds are those of a clock where there is more than one."""
    seconds: float = 20.0
    """Time for each pair of passes; at least three are made."""
    genotypes: int = 200
    """Genotypes of `gdas` and `sampled` at most."""
    batch: int = 64
    """Images of a batch."""
    keep_memory: bool = True
    """Let the process keep freed memory, as the study's workers do."""


Pass = Callable[[], None]


def in_turns(reference: Pass, ours: Pass, seconds: float, threads: int, most: int) -> tuple[list, list]:
    """Seconds of both, alternately."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    times: tuple[list[float], list[float]] = ([], [])
    reference(), ours()
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or (time.perf_counter() < end and len(times[0]) < most):
        for run, found in zip((reference, ours), times, strict=True):
            start = clock()
            run()
            found.append(clock() - start)
    return times


def passes(size: int, channels: int, cells: int, options: Options) -> tuple[Pass, dict[str, Pass]]:
    """The reference's whole network, and ours by name."""
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

    whole = {
        "mixture": step(ours, lambda: ours.mixture(images, *soft)),
        "gdas": step(ours, one_each),
        "sampled": step(ours, lambda: ours.sampled(images, fair.next())),
        "floor": step(ours, floor),
    }
    return step(theirs, lambda: theirs(images, *soft)), whole


def cell_alone(size: int, channels: int, options: Options) -> tuple[Pass, Pass]:
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

    return (
        run(lambda states: cell(states, *soft), list(cell.parameters()), torch.contiguous_format),
        run(
            lambda states: torch.cat(mixed_nodes(ours, space, states, soft[0] * soft[1].unsqueeze(-1), 1), 1),
            list(ours.parameters()),
            torch.channels_last,
        ),
    )


def main(options: Options) -> None:
    """Print the table."""
    if options.keep_memory:
        keep_freed_memory()
    print(
        f"Forward + backward of {options.batch} images of 3 channels, milliseconds: median [5%, 95%]; mean for gdas "
        f"and sampled, whose genotypes differ; ratio of the means; freed memory "
        f"{'kept' if options.keep_memory else 'returned'}; {machine()}\n",
        flush=True,
    )
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for size, channels in options.sizes:
            what = f"{size}x{size}, C={channels}"
            pairs = {("normal cell alone", "mixture"): (*cell_alone(size, channels, options), 20)}
            for cells in options.cells:
                reference, ours = passes(size, channels, cells, options)
                for name, run in ours.items():
                    most = 20 if name in ("mixture", "floor") else options.genotypes
                    pairs[f"net of {cells} cell{'s' * (cells > 1)}", name] = (reference, run, most)
            for (part, name), (reference, run, most) in pairs.items():
                theirs, mine = in_turns(reference, run, options.seconds, threads, most)
                ratio = statistics.mean(theirs) / statistics.mean(mine)
                rows.append(
                    (
                        str(threads), what, part, name, str(len(mine)),
                        quantiles([1e3 * t for t in theirs]), quantiles([1e3 * t for t in mine]),
                        f"{1e3 * statistics.mean(mine):.1f}", f"{ratio:.1f}",
                    )
                )  # fmt: skip
                print("  " + ", ".join(rows[-1]), flush=True)
    header = ["threads", "images", "part", "forward", "n", "reference", "ours", "ours, mean", "ratio"]
    print("\n" + table(header, rows))
    print(f"\n{machine()} at the end")
