"""Random genotypes and successive halving: what the price of a search buys without one."""

from dataclasses import dataclass

from edgenes.config import TrainingConfig
from edgenes.data import Dataset
from edgenes.errors import ConfigError
from edgenes.genotype import Genotype, random_genotype
from edgenes.metrics import accuracy, nll
from edgenes.setting import Setting
from edgenes.trainer import Trainer
from edgenes.work import Work, retraining_work

MOST = 4096
"""Genotypes of the first rung at most."""


@dataclass(frozen=True)
class Rung:
    """So many genotypes, each retrained for so many epochs."""

    genotypes: int
    epochs: int


def rungs(first: int, keep: int, short: int, full: int) -> list[Rung]:
    """Halve from `first` genotypes down to `keep`, doubling the epochs from `short` up to `full` at most."""
    found = [Rung(first, min(short, full))]
    while found[-1].genotypes > keep:
        last = found[-1]
        found.append(Rung(max(keep, last.genotypes // 2), min(2 * last.epochs, full)))
    return found


def affordable_rungs(setting: Setting, data: Dataset, images: int, keep: int, finish: bool) -> list[Rung]:
    """The most genotypes to begin with such that all rungs train on at most `images` images.

    With `finish` the last rung is a full retraining, whatever came before it. Raises ConfigError if not even `keep`
    genotypes can be paid.
    """

    def plan(first: int) -> list[Rung]:
        found = rungs(first, keep, setting.short_epochs, setting.training.epochs)
        if finish and found[-1].epochs < setting.training.epochs:
            found.append(Rung(keep, setting.training.epochs))
        return found

    per_epoch = retraining_work(setting.training_config(epochs=1), data).images
    found, first = None, keep
    while first <= min(MOST, setting.space.genotypes):
        tried = plan(first)
        if per_epoch * sum(rung.genotypes * rung.epochs for rung in tried) > images:
            break
        found, first = tried, first + 1
    if found is None:
        raise ConfigError(
            f"{images} images do not pay for {keep} retrainings: raise the budget of the search, or lower the "
            "epochs of the retraining."
        )
    return found


def halve(setting: Setting, trainer: Trainer, plan: list[Rung]) -> list[list[tuple[Genotype, TrainingConfig]]]:
    """Retrain rung by rung from scratch, keeping the genotypes that are best on V by the setting's criterion.

    Returns each rung's networks, best first. Genotypes are random and distinct; ties go to those drawn earlier.
    """
    generator = setting.generator("halving")
    drawn: dict[Genotype, None] = {}
    while len(drawn) < plan[0].genotypes:
        drawn.setdefault(random_genotype(setting.space, generator))
    labels = trainer.data.validation.labels
    score = {"nll": nll, "accuracy": lambda p, y: -accuracy(p, y)}[setting.criterion]
    genotypes, found = list(drawn), []
    for rung in plan:
        config = setting.training_config(epochs=rung.epochs)
        kept = genotypes[: rung.genotypes]
        losses = {genotype: score(trainer.retrain(config, genotype).probabilities, labels) for genotype in kept}
        genotypes = sorted(kept, key=losses.__getitem__)
        found.append([(genotype, config) for genotype in genotypes])
    return found


def best_by_halving(setting: Setting, trainer: Trainer, budget: Work) -> Genotype:
    """The genotype that successive halving finds at the price of `budget`, by images: a search's rival."""
    plan = affordable_rungs(setting, trainer.data, budget.images, keep=1, finish=False)
    return halve(setting, trainer, plan)[-1][0][0]
