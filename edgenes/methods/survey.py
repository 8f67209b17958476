"""The survey: genotypes retrained shortly on W and scored on H, to which a performance predictor is fitted.

The first round has fair genotypes. Later ones have those that are predicted to be best: where the regression
extrapolates, as to genotypes of one operation alone, their losses correct it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from edgenes.methods.budget import Setting
from edgenes.methods.trainer import Member, Trainer
from edgenes.metrics import nll
from edgenes.predictor import PerformancePredictor
from edgenes.space.choices import LEAST_SURVEY
from edgenes.space.encoding import canonical
from edgenes.space.genotype import Genotype
from edgenes.training.paths import FairPaths

ROUNDS = 2
"""Rounds of best predicted genotypes, after that of fair ones."""
FAIR = 2 / 3
"""Share of the survey that the fair genotypes have."""
Measured = list[tuple[Member, float]]
"""Retrainings and their losses on H."""
Measure = Callable[[int, Sequence[Member]], Measured]
"""`measure(round, members)` retrains the members of a round; one that failed is left out."""


def survey(setting: Setting, measure: Measure) -> PerformancePredictor:
    """The predictor, fitted again after each round of retrainings that `measure` does."""
    predictor = PerformancePredictor(setting.space, same_inputs=setting.same_inputs)
    found: Measured = []
    for k, count in enumerate(round_sizes(setting)):
        members = fair_members(setting, count) if k == 0 else best_members(setting, predictor, count, k)
        if members:
            found += measure(k, members)
            predictor.fit([member.genotype for member, _ in found], [loss for _, loss in found])
    return predictor


def round_sizes(setting: Setting) -> list[int]:
    """Genotypes of each round."""
    total = min(setting.survey, setting.space.genotypes)
    fair = max(min(LEAST_SURVEY, total), round(FAIR * total))
    return [fair, *((total - fair) // ROUNDS + (k < (total - fair) % ROUNDS) for k in range(ROUNDS))]


def fair_members(setting: Setting, count: int) -> list[Member]:
    """Distinct genotypes in which every choice of a node comes about equally often."""
    paths = FairPaths(setting.space, setting.generator("survey"))
    found: dict[Genotype, None] = {}
    while len(found) < count:
        found.setdefault(paths.next())
    return [_short(genotype, setting) for genotype in found]


def best_members(setting: Setting, predictor: PerformancePredictor, count: int, k: int) -> list[Member]:
    """The best predicted genotypes of round k; none computes what a surveyed one does."""
    seen = {canonical(genotype, predictor.same_inputs) for genotype in predictor.genotypes}
    best = predictor.best(count + len(seen), setting.generator("survey", k))
    return [_short(genotype, setting) for genotype in best if genotype not in seen][:count]


def _short(genotype: Genotype, setting: Setting) -> Member:
    return Member(genotype, setting.training_config(genotype, epochs=setting.survey_epochs))


def optimal_genotype(predictor: PerformancePredictor) -> Genotype:
    """The surveyed genotype of the least loss, measured and predicted averaged as logarithms.

    The mean of both ranks better than either.
    """
    both = np.log(predictor.predict(predictor.genotypes)[0]) + np.log(predictor.losses)
    return predictor.genotypes[int(both.argmin())]


def losses_on_h(members: Sequence[Member], trainer: Trainer) -> list[float]:
    """NLL on H of each network, trained on W alone."""
    return [nll(each.probabilities, trainer.data.architecture.labels) for each in trainer.survey(members)]


def guided_search(setting: Setting, trainer: Trainer) -> tuple[Genotype, PerformancePredictor]:
    """The optimal genotype by the predictor, and the predictor."""

    def measure(_: int, members: Sequence[Member]) -> Measured:
        return list(zip(members, losses_on_h(members, trainer), strict=True))

    predictor = survey(setting, measure)
    return optimal_genotype(predictor), predictor
