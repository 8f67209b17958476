"""Random genotypes and successive halving: what the price of a search buys without one."""

from dataclasses import dataclass, replace

from edgenes.config import TrainingConfig
from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.methods.cost import Work, retraining_work
from edgenes.methods.trainer import Member, Trainer
from edgenes.metrics import accuracy, nll
from edgenes.space.genotype import Genotype

LEAST = 8
"""Genotypes of the first rung at least, where one genotype is looked for: fewer would hardly be a choice."""
MOST = 4096
"""Genotypes of the first rung at most."""


@dataclass(frozen=True)
class Rung:
    """So many genotypes, each retrained for so many epochs."""

    genotypes: int
    epochs: int


def rungs(first: int, keep: int, short: int, full: int, finish: bool = False) -> list[Rung]:
    """Halve from `first` genotypes down to `keep`, doubling the epochs from `short` up to `full` at most.

    With `finish` the last rung is a full retraining, whatever its turn would be.
    """
    found = [Rung(first, min(short, full))]
    while found[-1].genotypes > keep:
        last = found[-1]
        found.append(Rung(max(keep, last.genotypes // 2), min(2 * last.epochs, full)))
    return [*found[:-1], Rung(found[-1].genotypes, full)] if finish else found


def affordable_rungs(setting: Setting, data: Dataset, budget: Work, keep: int, finish: bool) -> list[Rung]:
    """The most genotypes to begin with such that all rungs together take at most the budget's operations.

    Genotypes are priced as random ones on average. Raises ConfigError if not even `keep` of them can be paid.
    """
    epoch = retraining_work(replace(setting.training, epochs=1), data, genotype=setting.space).operations
    found, first = None, keep
    while first <= min(MOST, setting.space.genotypes):
        tried = rungs(first, keep, setting.short_epochs, setting.training.epochs, finish)
        if epoch * _epochs(tried) > budget.operations:
            break
        found, first = tried, first + 1
    if found is None:
        raise ConfigError(
            f"the price of the search does not pay for {keep} retrainings of random genotypes, {epoch:.3g} operations "
            f"an epoch each, with {budget.operations:.3g}: raise the epochs of the search, or lower those of the "
            "retraining."
        )
    return found


def _epochs(plan: list[Rung]) -> int:
    """Epochs of all retrainings; those of a later rung with the same epochs are among an earlier one's."""
    largest = {rung.epochs: rung.genotypes for rung in reversed(plan)}
    return sum(epochs * genotypes for epochs, genotypes in largest.items())


def halve(setting: Setting, trainer: Trainer, plan: list[Rung]) -> list[list[tuple[Genotype, TrainingConfig]]]:
    """Retrain rung by rung from scratch, keeping the genotypes that are best on V by the setting's criterion.

    Returns each rung's networks, best first. Genotypes are random and distinct; ties go to those drawn earlier.
    """
    genotypes, found = setting.random_genotypes(plan[0].genotypes), []
    labels = trainer.data.validation.labels
    sign = 1 if setting.criterion == "nll" else -1
    metric = nll if setting.criterion == "nll" else accuracy
    for rung in plan:
        configs = {one: setting.training_config(one, epochs=rung.epochs) for one in genotypes[: rung.genotypes]}
        asked = trainer.retrain([Member(one, config) for one, config in configs.items()])
        losses = {one: sign * metric(each.probabilities, labels) for one, each in zip(configs, asked, strict=True)}
        genotypes = sorted(configs, key=losses.__getitem__)
        found.append([(one, configs[one]) for one in genotypes])
    return found


def best_by_halving(setting: Setting, trainer: Trainer, budget: Work) -> Genotype:
    """The genotype that successive halving finds, of LEAST random ones or as many as `budget`, a search's, pays for."""
    least = rungs(min(LEAST, setting.space.genotypes), 1, setting.short_epochs, setting.training.epochs)
    try:
        plan = max(least, affordable_rungs(setting, trainer.data, budget, 1, False), key=lambda plan: plan[0].genotypes)
    except ConfigError:
        plan = least  # a search of small images costs less than one retraining
    return halve(setting, trainer, plan)[-1][0][0]
