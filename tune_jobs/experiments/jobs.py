"""What the studies have in common: jobs by condition and seed, what they train, and frames of their results."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from edgenes.methods.budget import Setting
from edgenes.methods.trainer import Member, TrainedHypernetwork, Trainer
from edgenes.metrics import accuracy
from edgenes.space.genotype import Genotype

Job = dict[str, Any]


def jobs_by_seed(conditions: Mapping[str, Job], seeds: int) -> list[Job]:
    """A job for each condition, by its name, and each seed: that many independent searches."""
    return [
        {"name": f"{name} seed {seed}", "seed": seed, **condition}
        for name, condition in conditions.items()
        for seed in range(seeds)
    ]


def trained(setting: Setting, trainer: Trainer, **changes: Any) -> tuple[Genotype, TrainedHypernetwork]:
    """The optimal genotype of the setting's seed and its hypernetwork, with `changes` in its configuration."""
    optimal = trainer.search(setting.search_config()).genotype
    return optimal, trainer.hypernetwork(setting.hypernetwork_config(**changes), optimal)


def accuracy_of(genotype: Genotype, setting: Setting, bench: Any) -> float:
    """Accuracy on V of the genotype, fully retrained."""
    (found,) = bench.trainer.retrain([Member(genotype, setting.training_config(genotype))])
    return accuracy(found.probabilities, bench.data.validation.labels)


def result_frame(jobs: Sequence[Job], results: Sequence[Job], rows: str, columns: Sequence[str]) -> pd.DataFrame:
    """One row for each of the `rows` in a result, beside these columns of its job."""
    return pd.DataFrame(
        {**{name: job[name] for name in columns}, **row}
        for job, result in zip(jobs, results, strict=True)
        for row in result[rows]
    )
