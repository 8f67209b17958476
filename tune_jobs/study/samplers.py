"""Optuna's samplers and pruners by name, and a filter around any sampler that leaves out what keeps failing."""

import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.study.space import misfit

NEIGHBOURS = 3
"""A proposal is dropped if so many of its nearest finished trials all failed."""
DRAWS = 10
"""Proposals of a trial; the last one stands, whatever its neighbours did."""
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def distance(one: Mapping[str, Any], other: Mapping[str, Any], space: Mapping[str, Any]) -> float:
    """Euclidean distance in the unit cube of the space, logarithmic where it is; unequal categories are 1 apart."""
    total = 0.0
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            total += float(one[name] != other[name])
            continue
        scale = math.log if distribution.log else float
        width = scale(distribution.high) - scale(distribution.low)
        total += ((scale(one[name]) - scale(other[name])) / width) ** 2 if width else 0.0
    return math.sqrt(total)


def keeps_failing(
    params: Mapping[str, Any], finished: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> bool:
    """Whether the NEIGHBOURS finished trials nearest to `params` all failed."""
    known = [trial for trial in finished if space.keys() <= trial.params.keys()]
    nearest = sorted(known, key=lambda trial: (distance(params, trial.params, space), trial.number))[:NEIGHBOURS]
    return len(nearest) == NEIGHBOURS and all(trial.state == TrialState.FAIL for trial in nearest)


class _Fitting(Study):
    """A study as a sampler sees it: trials that another program added, with values of another space, teach nothing."""

    def __init__(self, study: Study, space: Mapping[str, BaseDistribution]):
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._whole, self._space = study, space

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._fit(self._whole.get_trials(deepcopy, states))

    def _get_trials(self, *options: Any, **named: Any) -> list[FrozenTrial]:  # what Optuna's own samplers call
        return self._fit(self._whole._get_trials(*options, **named))

    def _fit(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if misfit(trial, self._space) is None]


class AvoidFailures(BaseSampler):
    """Draws a trial from `make(seed)`, again with further seeds while its neighbours all failed.

    The whole `space` is drawn at once, so that a restarted driver repeats a draw from its seed alone. Where it is
    empty, this is the sampler that `make` gives, for whatever parameters.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seeds: Callable[[int], int], space: Mapping[str, BaseDistribution]
    ):
        self._make, self._seeds, self._space = make, seeds, dict(space)
        self._inner = make(seeds(0))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space or self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._space:
            study = _Fitting(study, self._space)
        finished = study.get_trials(deepcopy=False, states=_FINISHED)
        params = self._draw(study, trial, search_space)
        for draw in range(1, DRAWS):
            if not keeps_failing(params, finished, search_space):
                break
            self._inner = self._make(self._seeds(draw))
            params = self._draw(study, trial, search_space)
        return params

    def _draw(self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        inferred = self._inner.infer_relative_search_space(study, trial)
        jointly = {name: distribution for name, distribution in inferred.items() if name in search_space}
        params = dict(self._inner.sample_relative(study, trial, jointly))
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        return params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)


def make_sampler(name: str, seed: int, startup: int = 10) -> BaseSampler:
    """A sampler of SAMPLERS for one suggestion, its first `startup` trials random where the method needs them."""
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # The sequence's own seed stays: it is one sequence, whose next index Optuna keeps in the storage.
        return QMCSampler(
            scramble=True,
            seed=0,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )


def make_pruner(name: str, candidates: int = 8) -> BasePruner:
    """A pruner of PRUNERS; `candidates` is the number of intermediate values a full trial reports."""
    if name == "median":
        return MedianPruner()
    if name == "percentile":
        return PercentilePruner(25.0)
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=candidates)
    if name == "successive-halving":
        return SuccessiveHalvingPruner(min_resource=1)
    return NopPruner()
