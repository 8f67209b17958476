"""The finalists of a study: the trials whose candidates are retrained fully."""

from dataclasses import dataclass

import optuna

from edgenes.space.hypernetwork import Candidate, Hypernetwork
from tune_jobs.study.context import StudyContext
from tune_jobs.study.optuna_study import trial_seed
from tune_jobs.study.trials import feasible, finalists


@dataclass(frozen=True)
class Finalist:
    """A trial that may win: its number, seed and value."""

    number: int
    seed: int
    value: float

    def candidates(self, context: StudyContext) -> list[Candidate]:
        """The candidates that the trial was scored by."""
        return context.candidates(Hypernetwork.load(context.hypernetwork(self.number)), self.seed)


def finalist_entries(study: optuna.Study, count: int, seed: int) -> list[Finalist]:
    """Up to `count` finalists among the trials that are complete now, best first; one only where none is feasible.

    `seed` is the study's.
    """
    chosen = finalists(study, count)
    if chosen and not feasible(chosen[0]):
        chosen = chosen[:1]
    return [Finalist(trial.number, trial_seed(seed, trial.number), trial.values[0]) for trial in chosen]
