"""How costs grow: `ask` and `tell` with a study's trials, a search step with nodes and images.

Each table's last column is the exponent k of cost = a size^k (its standard error), from least squares of the
logarithms over the sizes given: 0 does not grow, 1 grows as the size.

1. The suggestion of a trial and its end, as the driver makes them in a sweep, in a study that has so many finished
   trials: the samplers with a study in memory, then the storages with the random sampler. The files lie in the
   temporary folder (TMPDIR). Wall-clock time.
2. One step of the search (weights and architecture, its defaults, no augmentation), with the nodes of a cell and the
   images of a batch. CPU time of this process.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from ray.tune.utils.util import flatten_dict

from benchmarks.printing import exponent, machine, quantiles, table
from benchmarks.trial_result import SPACE, result_of
from edgenes import SearchConfig, SearchSpace
from edgenes.data.dataset import Dataset
from edgenes.data.loading import load_data
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.bilevel import Bilevel
from tune_jobs.config.sweep import SAMPLERS
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_sampler

STORAGES = {"memory": None, "sqlite": "{}/study.db", "journal": "journal:{}/study.log"}
KINDS = 20  # different results that a study's trials repeat


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how costs grow."""

    trials: tuple[int, ...] = (100, 500, 1000, 5000)
    """Finished trials in the study."""
    asks: int = 20
    """Suggestions, and ends of trials, that are timed in each study."""
    nodes: tuple[int, ...] = (1, 2, 4, 8)
    """Nodes of a cell."""
    images: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Images of a step's batch."""
    steps: int = 30
    """Steps that are timed for each size."""


Seconds = dict[int, list[float]]  # by size


def grown(name: str, sizes: Seconds, digits: int = 1) -> tuple[str, ...]:
    """A row: ms for each size, and the exponent of the medians."""
    cells = [quantiles([1e3 * value for value in values], digits) for values in sizes.values()]
    return (name, *cells, exponent(list(sizes), [float(np.median(values)) for values in sizes.values()]))


def drawn(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """A random value of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[rng.integers(len(distribution.choices))]
    return float(np.exp(rng.uniform(np.log(distribution.low), np.log(distribution.high))))


def study_with(trials: int, storage: str | BaseStorage) -> optuna.Study:
    """A study with so many finished trials, which have the content of real ones."""
    study, rng = open_study("s", storage, space=SPACE), np.random.default_rng(0)
    results = [result_of(k, rng) for k in range(KINDS)]
    for number in range(trials):
        result = results[number % KINDS]
        study.add_trial(
            optuna.trial.create_trial(
                params={name: drawn(distribution, rng) for name, distribution in SPACE.items()},
                distributions=SPACE,
                value=float(result.value + 0.01 * rng.random()),
                user_attrs=result.attributes,
            )
        )
    return study


def time_trials(study: optuna.Study, sampler: str, asks: int, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each suggestion and of each end of a trial."""
    done = len(study.get_trials(deepcopy=False))
    searcher = StudySearcher(
        study,
        SPACE,
        budget=done + asks + 1,
        max_failures=1,
        make_sampler=lambda seed: make_sampler(sampler, seed),
        files=StudyFiles(folder),
    )
    asked, told = [], []
    rng = np.random.default_rng(1)
    for k in range(asks + 1):
        name = str(k)
        start = time.perf_counter()
        config = searcher.suggest(name)
        middle = time.perf_counter()
        result = flatten_dict(result_of(config["trial"], rng).to_dict())
        end = time.perf_counter()
        searcher.on_trial_complete(name, result)
        if k:  # the first one reads the study
            asked.append(middle - start)
            told.append(time.perf_counter() - end)
    return asked, told


def trial_rows(options: Options) -> Iterator[tuple[str, ...]]:
    """Rows of the first table."""
    with tempfile.TemporaryDirectory() as here:
        cases = [(sampler, "memory") for sampler in SAMPLERS]
        cases += [("random", storage) for storage in STORAGES if storage != "memory"]
        for sampler, storage in cases:
            ask: Seconds = {}
            tell: Seconds = {}
            for trials in options.trials:
                place = Path(here) / f"{sampler}-{storage}-{trials}"
                place.mkdir()
                url = STORAGES[storage]
                study = study_with(trials, InMemoryStorage() if url is None else url.format(place))
                ask[trials], tell[trials] = time_trials(study, sampler, options.asks, place)
            yield grown(f"ask, {sampler}, {storage}", ask)
            yield grown(f"tell, {sampler}, {storage}", tell)


def step_seconds(nodes: int, images: int, steps: int, data: Dataset) -> list[float]:
    """Seconds of each step of the search."""
    space = SearchSpace(nodes=nodes)
    loop = Bilevel(SearchConfig(space=space, batch_size=images, path_batch=images, augment=False), data)
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    logits = ArchitectureLogits(torch.zeros(shape, requires_grad=True), torch.zeros(shape[:2], requires_grad=True))
    batch, labels = loop.weights.draw(images, loop.generator, False)

    def step() -> None:
        loop.weight_step(batch, labels, logits, 1.0)
        loop.architecture_loss(logits, 1.0)[0].backward()

    step()  # the first one is slower
    taken = []
    for _ in range(steps):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return taken


def main(options: Options) -> None:
    """Print the tables."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    data = load_data("digits").without_test()
    print(f"Milliseconds, median [5%, 95%], n = {options.asks} and {options.steps}; {machine('optuna')}\n")
    rows = []
    for row in trial_rows(options):
        rows.append(row)
        print(f"  {' | '.join(row)}", flush=True)
    print(f"\n{table(['trials in the study', *map(str, options.trials), 'exponent'], rows)}\n", flush=True)

    sizes = {
        "nodes of a cell": {nodes: step_seconds(nodes, 64, options.steps, data) for nodes in options.nodes},
        "images of a batch": {images: step_seconds(4, images, options.steps, data) for images in options.images},
    }
    for name, found in sizes.items():
        print(table([name, *map(str, found), "exponent"], [grown("search step", found)]) + "\n", flush=True)
    print(f"{machine('optuna')} at the end")
