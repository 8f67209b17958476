"""The finalists of a study: the trials whose candidates are retrained fully."""

from dataclasses import dataclass

import optuna

from edgenes.space.hypernetwork import Candidate, Hypernetwork
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.study.context import TrialSettings, trial_candidates
from tune_jobs.study.optuna_study import trial_seed
from tune_jobs.study.trials import feasible, finalists


@dataclass(frozen=True)
class Finalist:
    """A trial that may win: its number, seed and value."""

    number: int
    seed: int
    value: float

    def candidates(self, settings: TrialSettings) -> list[Candidate]:
        """The candidates that the trial was valued on."""
        return trial_candidates(settings.config, Hypernetwork.load(settings.hypernetwork(self.number)), self.seed)


def finalist_entries(study: optuna.Study, config: SweepConfig) -> list[Finalist]:
    """The finalists among the trials that are complete now, best first; one only where none is feasible."""
    chosen = finalists(study, config.finalists)
    if chosen and not feasible(chosen[0]):
        chosen = chosen[:1]
    return [Finalist(trial.number, trial_seed(config.seed, trial.number), trial.values[0]) for trial in chosen]
