"""Does a search end in pools and skips, and what does each remedy against that do?

`python -m benchmarks collapse` prints two tables, on one thread. Each pass searches without a remedy, which is without
warm-up too, and with remedies; what is found is retrained shortly, with a seed of its own, and so are random genotypes.
All numbers are means over seeds with 95% intervals by Student's t; differences are of the same seeds. A search with a
cap, or with an early stop, is the one without up to its end, and is not run again.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks.printing import machine, table
from edgenes import (
    ArchitectureLogits,
    Dataset,
    Genotype,
    SearchConfig,
    TrainingConfig,
    load_data,
    predict,
    random_genotype,
    search_genotype,
    train_network,
)
from edgenes.metrics import accuracy
from edgenes.training.collapse import RARE, architecture_metrics, capped_genotype, chance, ends_early, parameter_free

PASSES = {"sampled, score": {"forward": "sampled", "gradient": "score"}, "mixture": {"forward": "mixture"}}
NONE = "none"
RANDOM = "random genotypes"


@dataclass(frozen=True)
class Options:
    """Measure collapse and its remedies."""

    dataset: str = "digits"
    """Name or path of the data set."""
    seeds: int = 8
    """Seeds of everything."""
    epochs: int = 20
    """Epochs of a search."""
    passes: tuple[str, ...] = tuple(PASSES)
    """Passes that search."""
    warmup: float = 0.3
    """Warm-up, as a share of the search; the default of SearchConfig."""
    weight_decay: float = 0.0081
    """Weight decay of the supernet: 27 times DARTS's, one of RobustDARTS's."""
    most: int = 2
    """Cap, and early stop, of the parameter-free edges: just above the mean of random genotypes, 1.7 of 4."""
    retrain_epochs: int = 4
    """Epochs of a short retraining."""
    randoms: int = 6
    """Random genotypes a seed."""


@dataclass(frozen=True)
class Found:
    """What a search found: numbers of its last architecture, and accuracy on V after a short retraining."""

    share: float
    collapsed: bool
    operation_entropy: float
    edge_entropy: float
    epochs: int
    accuracy: float


def interval(values: Sequence[float], digits: int = 2, sign: str = "") -> str:
    """Mean [95% interval] by Student's t."""
    mean, n = statistics.mean(values), len(values)
    half = student.ppf(0.975, n - 1) * statistics.stdev(values) / n**0.5 if n > 1 else float("nan")
    return f"{mean:{sign}.{digits}f} [{mean - half:{sign}.{digits}f}, {mean + half:{sign}.{digits}f}]"


class Retrained:
    """Accuracy on V of genotypes after a short retraining from one seed, each trained once."""

    def __init__(self, config: TrainingConfig, data: Dataset):
        self.config, self.data = config, data
        self._known: dict[Genotype, float] = {}

    def __call__(self, genotype: Genotype) -> float:
        if genotype not in self._known:
            network = train_network(self.config, self.data, genotype)
            probabilities = np.exp(predict(network, self.data.validation, self.data))
            self._known[genotype] = accuracy(probabilities, self.data.validation.labels)
        return self._known[genotype]


def searched(config: SearchConfig, data: Dataset) -> list[ArchitectureLogits]:
    """The logits after each epoch."""
    after = []

    def report(epoch: int, metrics: dict[str, float], state: dict[str, torch.Tensor]) -> None:
        after.append(ArchitectureLogits(state["alpha"].clone(), state["beta"].clone()))

    search_genotype(config, data, report=report)
    return after


def until_stopped(config: SearchConfig, after: list[ArchitectureLogits]) -> list[ArchitectureLogits]:
    """The epochs of the same search that come before its early stop: up to it the option changes nothing."""
    for epoch in range(1, len(after)):
        if ends_early(config, epoch, after[epoch - 1], after[epoch]):
            return after[:epoch]
    return after


def one_seed(
    options: Options, data: Dataset, seed: int
) -> tuple[dict[tuple[str, str], Found], dict[str, list[ArchitectureLogits]], list[tuple[float, float]]]:
    """What each (pass, remedy) found; each pass's epochs without a remedy; (share, accuracy) of random genotypes."""
    retrained = Retrained(TrainingConfig(epochs=options.retrain_epochs, seed=1000 + seed), data)
    space, most = SearchConfig().space, options.most
    results, curves = {}, {}
    for name in options.passes:

        def note(remedy: str, after: list[ArchitectureLogits], cap: int | None = None, name: str = name) -> None:
            genotype = capped_genotype(after[-1], space, cap)
            count, last = parameter_free(genotype), architecture_metrics(after[-1], space)
            results[name, remedy] = Found(
                count / space.max_edges,
                chance(space, count) < RARE,
                last["operation_entropy"],
                last["edge_entropy"],
                len(after),
                retrained(genotype),
            )
            print(f"  seed {seed}, {name}, {remedy}: {genotype}", flush=True)

        plain = SearchConfig(seed=seed, epochs=options.epochs, warmup=0.0, **PASSES[name])
        for first, config in (("", plain), (f"warm-up of {options.warmup:.0%}", replace(plain, warmup=options.warmup))):
            after = searched(config, data)
            note(first or NONE, after)
            also = f"{first}, " if first else ""
            note(f"{also}cap of {most}", after, most)
            note(f"{also}stop above {most}", until_stopped(replace(config, stop_parameter_free=most), after))
            curves.setdefault(name, after)
        decayed = replace(plain, weight_decay=options.weight_decay)
        note(f"weight decay {options.weight_decay:g}", searched(decayed, data))
    generator = torch.Generator().manual_seed(seed)
    randoms = [random_genotype(space, generator) for _ in range(options.randoms)]
    return results, curves, [(parameter_free(g) / space.max_edges, retrained(g)) for g in randoms]


def main(options: Options) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    print(f"{machine('numpy')}\n", flush=True)
    data = load_data(options.dataset).without_test()
    results, curves, randoms = zip(*(one_seed(options, data, seed) for seed in range(options.seeds)), strict=True)
    chosen = [statistics.mean(accuracy for _, accuracy in pool) for pool in randoms]
    shares = [statistics.mean(share for share, _ in pool) for pool in randoms]

    rows = []
    for name, remedy in results[0]:
        of, none = ([each[name, which] for each in results] for which in (remedy, NONE))
        reached = [one.accuracy for one in of]
        gain = [one.accuracy - other.accuracy for one, other in zip(of, none, strict=True)]
        rows.append(
            (
                f"{name}: {remedy}",
                interval([one.share for one in of]),
                f"{sum(one.collapsed for one in of)} of {len(of)}",
                interval([one.operation_entropy for one in of]),
                interval([one.edge_entropy for one in of]),
                f"{statistics.mean(one.epochs for one in of):.1f}",
                interval(reached, 3),
                interval([a - b for a, b in zip(reached, chosen, strict=True)], 3, "+"),
                "" if remedy == NONE else interval(gain, 3, "+"),
            )
        )
    rows.append((RANDOM, interval(shares), "", "", "", "", interval(chosen, 3), "", ""))
    header = ["search: remedy", "parameter-free edges", "warned of", "operation entropy", "edge entropy", "epochs"]
    header += ["accuracy on V", "minus random", "minus none"]
    print(f"\n{table(header, rows)}\n")

    rows, space = [], SearchConfig().space
    edges = space.max_edges
    for name in options.passes:
        for epoch in sorted({round(options.epochs * part / 4) for part in (1, 2, 3, 4)} - {0}):
            after = [architecture_metrics(each[name][epoch - 1], space) for each in curves]
            numbers = [[metrics["parameter_free"] / edges for metrics in after]]
            numbers += [[metrics[key] for metrics in after] for key in ("operation_entropy", "edge_entropy")]
            rows.append((name, f"{epoch}", *map(interval, numbers)))
    print("Without a remedy, after so many epochs:\n")
    print(table(["search", "epochs", "parameter-free edges", "operation entropy", "edge entropy"], rows))
    print(f"\n{machine('numpy')} at the end")
