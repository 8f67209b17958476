"""What moves the architecture best: cost and truth of each pass's gradient, and what searches make of it.

`python -m benchmarks architecture_gradients` prints three tables, on one thread; times are CPU time of this process.

1. A supernet is trained by fair paths. Its choices' true advantages, one for every (edge, operation), are the expected
   loss of a uniform genotype minus that of a uniform genotype with that choice, on a fixed large batch of H. Then each
   way to estimate a gradient runs for the same time at uniform logits. For an unbiased one, the choice (i, o) of a node
   has the advantage -(d alpha_io / (P(i) P(o)) + d beta_i / P(i)); the table gives the correlation of that with the
   truth, and the same for the truth against itself, estimated on two halves of the genotypes: the most to be had.
2. Each searches for the same CPU time; what it finds is retrained with a seed of its own, beside a random genotype and
   beside the best of as many random genotypes as can be retrained shortly in that time.
3. The hypernetwork is trained with each kind of weight paths and gradient, and its candidates are retrained shortly,
   beside random genotypes and genotypes that deviate from the optimal one by 0 .. Lambda edges.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.printing import machine, quantiles, spread, table
from edgenes import (
    ArchitectureLogits,
    Dataset,
    Genotype,
    HypernetworkConfig,
    SearchConfig,
    SearchSpace,
    TrainingConfig,
    deviate,
    draw_candidates,
    load_data,
    predict,
    random_genotype,
    search_genotype,
    train_hypernetwork,
    train_network,
)
from edgenes.metrics import accuracy
from edgenes.space.logits import incoming
from edgenes.training.bilevel import Bilevel, FairPaths

PASSES = {
    "sampled, score": {"forward": "sampled", "gradient": "score"},
    "sampled, straight-through": {"forward": "sampled", "gradient": "straight_through"},
    "gdas": {"forward": "gdas"},
    "mixture": {"forward": "mixture"},
    "mixture, 1/4 of the channels": {"forward": "mixture", "partial_channels": 4},
    "mixture, second order": {"forward": "mixture", "second_order": True},
}
VARIANTS = {
    f"{paths} paths, {gradient}": {"weight_paths": paths, "gradient": gradient}
    for paths in ("fair", "architecture")
    for gradient in ("score", "straight_through")
}


@dataclass(frozen=True)
class Options:
    """Measure the architecture's gradients and what they make of the hypernetwork."""

    dataset: str = "digits"
    """Name or path of the data set."""
    seconds: float = 3.0
    """CPU seconds for which each gradient is estimated."""
    seeds: int = 3
    """Seeds of everything; each gives one value of each number."""
    supernet_epochs: int = 40
    """Epochs of fair paths before gradients are compared."""
    truth_genotypes: int = 840
    """Random genotypes behind the true advantages; a multiple of 420 is exactly fair."""
    truth_images: int = 256
    """Images of H behind the true advantages."""
    candidates: int = 8
    """Candidates retrained for each hypernetwork, and as many random and deviating genotypes."""
    retrain_epochs: int = 4
    """Epochs of a short retraining."""
    search_seconds: float = 10.0
    """CPU seconds of each search of the second table; 0 leaves it out."""
    hypernetworks: bool = True
    """The third table."""
    c_ends: tuple[float, ...] = ()
    """Further values of c_end, with c_start a tenth of it, for the default paths and gradient."""


def mean_error(values: list[float]) -> str:
    """Mean (standard error)."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.3f} ({error:.3f})"


# --- 1. gradients against the truth -----------------------------------------------------------------------------------


@torch.no_grad()
def path_losses(loop: Bilevel, genotypes: list[Genotype], images: int) -> np.ndarray:
    """Cross-entropy of each genotype on the same `images` images of H, with the supernet's weights."""
    batch, labels = loop.architecture.draw(images, loop.generator, augment=False)
    return np.array([F.cross_entropy(loop.supernet.sampled(batch, g), labels).item() for g in genotypes])


def true_advantages(genotypes: list[Genotype], losses: np.ndarray) -> np.ndarray:
    """(types, edges, operations): minus the main effects of an additive model of uniformly drawn genotypes' losses.

    Choices of different nodes are independent, so a choice's main effect is its disadvantage; least squares only
    takes the other nodes' effects out of the noise.
    """
    space = genotypes[0].space
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    design = np.zeros((len(genotypes), *shape))
    for row, genotype in zip(design, genotypes, strict=True):
        edges, operations = (index.numpy() for index in genotype.indices)
        row[np.arange(shape[0]).reshape(-1, 1, 1), edges, operations] = 1
    effects, *_ = np.linalg.lstsq(design.reshape(len(genotypes), -1), losses - losses.mean(), rcond=None)
    return -centred_by_node(effects.reshape(shape), space)


def centred_by_node(values: np.ndarray, space: SearchSpace) -> np.ndarray:
    """(types, edges, operations) minus the mean over each node's choices: a node always chooses something."""
    edge, missing = (tensor.numpy() for tensor in incoming(space))
    result = values.copy()
    for own in (row[~gone] for row, gone in zip(edge, missing, strict=True)):
        result[:, own] -= values[:, own].mean((1, 2), keepdims=True)
    return result


def estimated_advantages(loop: Bilevel, seconds: float) -> tuple[np.ndarray, list[float]]:
    """(advantages (types, edges, operations), milliseconds of each step) after `seconds` at uniform logits."""
    space = loop.config.space
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    alpha, beta = torch.zeros(shape, requires_grad=True), torch.zeros(shape[:2], requires_grad=True)
    logits = ArchitectureLogits(alpha, beta)
    times: list[float] = []
    while sum(times) < 1000 * seconds:
        start = time.process_time()
        loss, _ = loop.architecture_loss(logits, 1.0)
        loss.backward()  # gradients add up
        times.append(1000 * (time.process_time() - start))
    inputs = np.array([node + 2 for node, _ in space.edges]).reshape(1, -1, 1)
    gradient = alpha.grad.numpy() * inputs * len(space.operations) + (beta.grad.numpy()[..., None] * inputs)
    return -centred_by_node(gradient / len(times), space), times


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, over all choices."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def trained_supernet(config: SearchConfig, data: Dataset) -> Bilevel:
    """A supernet after the epochs of `config`, on fair paths."""
    loop = Bilevel(config, data)
    uniform = ArchitectureLogits(*zeros(config.space))
    for _ in range(config.epochs):
        for images, labels in loop.batches():
            loop.weight_step(images, labels, uniform, 1.0)
    return loop


def compare_gradients(options: Options, data: Dataset) -> str:
    """The first table."""
    milliseconds: dict[str, list[float]] = {name: [] for name in PASSES}
    steps: dict[str, list[int]] = {name: [] for name in PASSES}
    truth: dict[str, list[float]] = {name: [] for name in PASSES}
    halves: list[float] = []
    for seed in range(options.seeds):
        config = SearchConfig(seed=seed, epochs=options.supernet_epochs, augment=False)
        loop = trained_supernet(config, data)
        fair = FairPaths(config.space, loop.generator)
        genotypes = [fair.next() for _ in range(options.truth_genotypes)]
        losses = path_losses(loop, genotypes, options.truth_images)
        whole = true_advantages(genotypes, losses)
        half = len(genotypes) // 2
        one, other = (true_advantages(genotypes[at], losses[at]) for at in (slice(half), slice(half, None)))
        halves.append(correlation(one, other))
        for name, settings in PASSES.items():
            if "partial_channels" in settings:  # a supernet of its own, whose truth is taken to be the same
                loop = trained_supernet(replace(config, partial_channels=settings["partial_channels"]), data)
            loop.config = replace(config, **settings)
            advantages, times = estimated_advantages(loop, options.seconds)
            milliseconds[name] += times
            steps[name].append(len(times))
            truth[name].append(correlation(advantages, whole))
    rows = [
        (
            name,
            quantiles(milliseconds[name]),
            spread(steps[name], 0),
            spread(truth[name]),
        )
        for name in PASSES
    ]
    ceiling = [2 * r / (1 + r) for r in halves]  # Spearman-Brown: of the whole sample, twice a half
    rows.append((f"the truth's own reliability, {options.truth_genotypes} genotypes", "", "", spread(ceiling)))
    header = ["pass and gradient", "ms a step: median [5%, 95%]", f"steps in {options.seconds:g} s", "correlation"]
    return table(header, rows)


def zeros(space: SearchSpace) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform alpha and beta."""
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    return torch.zeros(shape), torch.zeros(shape[:2])


# --- 2. searches of equal time ----------------------------------------------------------------------------------------


def compare_searches(options: Options, data: Dataset) -> str:
    """The second table."""
    names = (*PASSES, "best of random genotypes", "random genotype")
    reached: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in PASSES}
    tried: dict[str, list[int]] = {name: [] for name in names}
    for seed in range(options.seeds):
        value, final = (short_accuracy(options, data, stage) for stage in (2 * seed, 2 * seed + 1))
        for name, settings in PASSES.items():
            config = SearchConfig(seed=seed, epochs=2, warmup=0.0, **settings)
            start = time.process_time()
            search_genotype(config, data)
            epochs = max(2, round(options.search_seconds / (time.process_time() - start) * config.epochs))
            start = time.process_time()
            found = search_genotype(replace(config, epochs=epochs, warmup=0.3), data).genotype
            seconds[name].append(time.process_time() - start)
            tried[name].append(epochs)
            reached[name].append(final(found))
        generator = torch.Generator().manual_seed(seed)
        start, pool = time.process_time(), []
        while time.process_time() - start < options.search_seconds:
            pool.append(random_genotype(SearchSpace(), generator))
            value(pool[-1])
        tried["best of random genotypes"].append(len(pool))
        reached["best of random genotypes"].append(final(max(pool, key=value)))
        reached["random genotype"].append(statistics.mean(final(genotype) for genotype in pool[:8]))
    rows = []
    for name in names:
        better = [a - b for a, b in zip(reached[name], reached["random genotype"], strict=True)]
        searched = name in PASSES
        rows.append(
            (
                name,
                spread(tried[name], 0) if tried[name] else "",
                spread(seconds[name], 1) if searched else "",
                spread(reached[name], 3),
                "" if name == "random genotype" else mean_error(better),
            )
        )
    header = ["search", "epochs, or genotypes tried", "CPU seconds", "accuracy", "minus random: mean (s.e.)"]
    return table(header, rows)


# --- 3. the hypernetwork ----------------------------------------------------------------------------------------------


def short_accuracy(options: Options, data: Dataset, seed: int) -> Callable[[Genotype], float]:
    """A function that gives a genotype's accuracy on V after a short retraining, each trained once."""
    config = TrainingConfig(epochs=options.retrain_epochs, seed=seed)
    known: dict[Genotype, float] = {}

    def of(genotype: Genotype) -> float:
        if genotype not in known:
            network = train_network(config, data, genotype)
            known[genotype] = accuracy(np.exp(predict(network, data.validation, data)), data.validation.labels)
        return known[genotype]

    return of


def deviating(optimal: Genotype, count: int, generator: torch.Generator) -> list[Genotype]:
    """`count` genotypes that share 0 .. Lambda edges with the optimal one, as the candidates should."""
    edges = optimal.space.max_edges
    return [deviate(optimal, round(edges * k / max(1, count - 1)), generator) for k in range(count)]


def compare_hypernetworks(options: Options, data: Dataset) -> str:
    """The third table."""
    variants = {
        **VARIANTS,
        **{f"defaults, c to {c:g}": {"c_start": c / 10, "c_end": c} for c in options.c_ends},
    }
    errors: dict[str, list[float]] = {name: [] for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    reached: dict[str, list[float]] = {name: [] for name in (*variants, "deviating", "random")}
    better: dict[str, list[float]] = {name: [] for name in reached}
    for seed in range(options.seeds):
        optimal = search_genotype(SearchConfig(seed=seed), data).genotype
        value = short_accuracy(options, data, seed)
        generator = torch.Generator().manual_seed(seed)
        pools = {
            "deviating": deviating(optimal, options.candidates, generator),
            "random": [random_genotype(optimal.space, generator) for _ in range(options.candidates)],
        }
        for name, settings in variants.items():
            start = time.process_time()
            result = train_hypernetwork(HypernetworkConfig(seed=seed, **settings), data, optimal)
            seconds[name].append(time.process_time() - start)
            errors[name].append(result.control_error)
            pools[name] = [c.genotype for c in draw_candidates(result.hypernetwork, options.candidates, generator)]
        means = {name: statistics.mean(map(value, pool)) for name, pool in pools.items()}
        for name, mean in means.items():
            reached[name].append(mean)
            better[name].append(mean - means["random"])
    rows = []
    for name in reached:
        trained = name in variants
        rows.append(
            (
                name,
                spread(errors[name]) if trained else "",
                spread(seconds[name], 1) if trained else "",
                spread(reached[name], 3),
                "" if name == "random" else mean_error(better[name]),
            )
        )
    header = ["weight paths, gradient", "control error", "CPU seconds", "accuracy", "minus random: mean (s.e.)"]
    return table(header, rows)


def main(options: Options) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    start = time.process_time()
    data = load_data(options.dataset).without_test()
    print(
        f"{options.dataset}, {options.seeds} seeds; median [smallest, largest] unless it says otherwise; {machine()}\n"
    )
    print(f"Gradients at uniform logits.\n\n{compare_gradients(options, data)}", flush=True)
    retrained = f"accuracy on V after {options.retrain_epochs} epochs"
    if options.search_seconds:
        print(f"\nSearches; {retrained} of another seed.\n\n{compare_searches(options, data)}", flush=True)
    if options.hypernetworks:
        what = f"{retrained}, mean of {options.candidates} genotypes"
        print(f"\nHypernetworks; {what}.\n\n{compare_hypernetworks(options, data)}")
    print(f"\n{time.process_time() - start:.0f} s of CPU time in all.")
