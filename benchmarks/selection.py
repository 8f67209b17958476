"""How fast the best ensemble is proven, beside scoring every subset, on a pool of real candidates.

`python -m benchmarks selection --pool FOLDER` trains random genotypes shortly until the folder has enough, and prints a
table. The plain way is the mean of the members' probabilities and its score, subset by subset; both are timed in turns,
and the plain way's whole time is the number of subsets by its rate on random ones. Times are wall-clock seconds of this
process, predictions checked and copied included.
"""

import os
import resource
import time
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.printing import machine, spread, table
from edgenes import SearchSpace, TrainingConfig, load_data, metrics, predict, random_genotype, train_network
from edgenes.selection import CRITERIA, exact_memory, select_ensemble


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure exact selection."""

    pool: Path
    """Folder of the pool; what it lacks is trained."""
    dataset: str = "digits"
    """The images that the networks are trained on."""
    image_size: int | None = None
    """Pixels to which the images are resized."""
    images: int | None = None
    """Training images to use, V included."""
    networks: int = 100
    """Networks of the pool."""
    epochs: int = 5
    """Epochs of each."""
    tasks: tuple[tuple[int, int, Literal[*CRITERIA]], ...] = (
        (50, 5, "nll"),
        (40, 5, "accuracy"),
        (100, 5, "nll"),
        (100, 5, "accuracy"),
    )
    """What to time: candidates, members and criterion of each."""
    repeats: int = 5
    """Times that each exact selection is run."""
    max_seconds: float = 120.0
    """Time limit of each exact selection."""
    plain_seconds: float = 2.0
    """Seconds of the plain way after each."""
    threads: int = 2
    """Threads of the matrix products."""


def pool_of(options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities on V, float32 (networks, samples, classes), and its labels; missing networks are trained."""
    options.pool.mkdir(parents=True, exist_ok=True)
    data = load_data(options.dataset, image_size=options.image_size, images=options.images)
    generator, found = torch.Generator().manual_seed(0), []
    for k in range(options.networks):
        genotype, path = random_genotype(SearchSpace(), generator), options.pool / f"network-{k:03d}.npy"
        if not path.exists():
            network = train_network(TrainingConfig(epochs=options.epochs, seed=k), data, genotype)
            np.save(path, predict(network, data.validation, data))
        found.append(np.exp(np.load(path)))
    return np.stack(found), data.validation.labels


def plain_rate(predictions: np.ndarray, labels: np.ndarray, size: int, criterion: str, seconds: float) -> float:
    """Random subsets scored a second by the plain way."""
    rng, samples = np.random.default_rng(0), np.arange(len(labels))
    start, scored = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        mean = predictions[rng.choice(len(predictions), size, replace=False)].mean(0)
        if criterion == "nll":
            -np.log(np.maximum(mean[samples, labels], metrics.TINY)).mean()
        else:
            (mean.argmax(-1) == labels).mean()
        scored += 1
    return scored / elapsed


def main(options: Options) -> None:
    """Print the table."""
    predictions, labels = pool_of(options)
    print(
        f"Pool {predictions.shape}, float32; n = {options.repeats}, median [smallest, largest]; {options.threads} "
        f"threads of the matrix products; {machine('numpy')}\n"
    )
    rows = []
    with threadpool_limits(options.threads):
        for candidates, size, criterion in options.tasks:
            part, subsets, seconds, rates = predictions[:candidates], comb(candidates, size), [], []
            for _ in range(options.repeats):
                start = time.perf_counter()
                found = select_ensemble(part, labels, size, criterion, max_seconds=options.max_seconds)
                seconds.append(time.perf_counter() - start)
                rates.append(plain_rate(part, labels, size, criterion, options.plain_seconds))
            greedy = select_ensemble(part, labels, size, criterion, "greedy").score
            ratios = [subsets / rate / second for rate, second in zip(rates, seconds, strict=True)]
            rows.append(
                (
                    f"{candidates} choose {size}, {criterion}",
                    f"{subsets:,}",
                    spread(seconds),
                    spread(rates, 0),
                    spread(ratios, 0) if found.proven_optimal else "-",
                    "proven" if found.proven_optimal else f"{found.gap:.5f}",
                    f"{abs(greedy - found.score):.5f}",
                    f"{exact_memory(part.shape, size, criterion) / 2**30:.2f}",
                    f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
                )
            )
            print(f"  {rows[-1][0]}: {rows[-1][2]} s", flush=True)
    header = ["task", "subsets", "exact, s", "plain, subsets/s", "ratio", "gap", "greedy misses by"]
    print("\n" + table([*header, "GiB estimated", "GiB, process so far"], rows))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
