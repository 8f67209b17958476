"""The survey: fair genotypes retrained shortly on W and scored on H, from which a performance predictor is fitted."""

from collections.abc import Sequence

import numpy as np

from edgenes.methods.budget import Setting
from edgenes.methods.result import Member
from edgenes.methods.trainer import Trainer
from edgenes.metrics import nll
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype
from edgenes.training.paths import FairPaths


def surveyed(setting: Setting) -> list[Member]:
    """The retrainings of the survey: distinct genotypes, every choice of a node about equally often among them."""
    paths = FairPaths(setting.space, setting.generator("survey"))
    found: dict[Genotype, None] = {}
    while len(found) < min(setting.survey, setting.space.genotypes):
        found.setdefault(paths.next())
    return [_short(genotype, setting, 0) for genotype in found]


def _short(genotype: Genotype, setting: Setting, repeat: int) -> Member:
    return Member(genotype, setting.training_config(genotype, repeat, setting.survey_epochs))


def losses_on_h(members: Sequence[Member], trainer: Trainer) -> list[float]:
    """NLL on H of each network, trained on W alone."""
    labels = trainer.data.architecture.labels
    return [nll(trainer.survey(member.config, member.genotype).probabilities, labels) for member in members]


def fitted(setting: Setting, members: Sequence[Member], losses: Sequence[float]) -> PerformancePredictor:
    """The predictor of these losses on H."""
    predictor = PerformancePredictor(setting.space, same_inputs=setting.training.cells == 1)
    return predictor.fit([member.genotype for member in members], losses)


def contenders(setting: Setting, predictor: PerformancePredictor) -> list[Member]:
    """The retrainings that confirm the best predicted genotypes, on H again."""
    best = predictor.best(setting.confirmed, setting.generator("contenders"))
    return [_short(genotype, setting, 1) for genotype in best]


def confirmed(predictor: PerformancePredictor, members: Sequence[Member], losses: Sequence[float]) -> Genotype:
    """The contender of the least loss, its predicted and its measured one averaged as logarithms.

    The mean ranks better than either: they err independently.
    """
    genotypes = [member.genotype for member in members]
    both = np.log(predictor.predict(genotypes)[0]) + np.log(losses)
    return genotypes[int(both.argmin())]


def guided_search(setting: Setting, trainer: Trainer) -> tuple[Genotype, PerformancePredictor]:
    """The optimal genotype by the predictor, and the predictor: survey, fit, confirmation."""
    members = surveyed(setting)
    predictor = fitted(setting, members, losses_on_h(members, trainer))
    rivals = contenders(setting, predictor)
    return confirmed(predictor, rivals, losses_on_h(rivals, trainer)), predictor
