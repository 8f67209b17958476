"""The next trials of a study: what a person enqueued, then what a sampler of the trial's own seed proposes."""

from collections.abc import Callable, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from edgenes.seeds import stable_seed
from tune_jobs.study.optuna_study import study_seed
from tune_jobs.study.samplers import AvoidFailures


class Asker:
    """Asks the study for trials; `make_sampler(seed)` builds the sampler of one suggestion.

    A restarted driver draws a trial as it would have been drawn before, from the study's seed and the trial's number.
    """

    def __init__(
        self, study: optuna.Study, space: Mapping[str, BaseDistribution], make_sampler: Callable[[int], BaseSampler]
    ):
        self._study, self._space, self._make_sampler = study, dict(space), make_sampler
        self._seed = study_seed(study)

    def next(self) -> optuna.Trial:
        """A trial that is enqueued, or a new one; its parameters are not drawn yet."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        self._seed_sampler(min(waiting, default=len(trials)))
        return self._study.ask()

    def again(self, orphan: FrozenTrial) -> optuna.Trial:
        """A trial that a dead driver left RUNNING."""
        self._seed_sampler(orphan.number)
        # A private name of Optuna: there is no public way back to a running trial.
        return optuna.Trial(self._study, orphan._trial_id)

    def draw(self, trial: optuna.Trial) -> FrozenTrial:
        """Draw the parameters that the trial has not; returns it as it is stored, a person's 3.0 as the category 3."""
        for name, distribution in self._space.items():
            if name not in trial.params:
                trial._suggest(name, distribution)  # a private name too: `ask` alone has a public way
        return self.stored(trial)

    def stored(self, trial: optuna.Trial) -> FrozenTrial:
        """The trial as the study has it."""
        return self._study.get_trials(deepcopy=False)[trial.number]

    def _seed_sampler(self, number: int) -> None:
        def seed(draw: int) -> int:
            return stable_seed(self._seed, number, "sampler", *([draw] if draw else []))

        self._study.sampler = AvoidFailures(self._make_sampler, seed, self._space)
