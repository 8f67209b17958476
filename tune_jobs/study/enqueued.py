"""Trials that a person wants to run first, in the names that tables and reports show."""

import difflib
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from tune_jobs.study.space import RATIOS, misfit

_ROUNDING = 1e-9


def enqueued(given: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The parameters of the space that `given` stands for: an end of a schedule becomes its ratio to the other end.

    Raises ConfigError, with the parameter, its range and what was given, where they cannot be.
    """
    ends = {first: ratio for ratio, (first, _) in RATIOS.items() if ratio in space}
    for name in given:
        if name not in space and name not in ends:
            near = difflib.get_close_matches(name, (*ends, *space), 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"--enqueue: there is no parameter {shown(name)}, only {', '.join(sorted((*ends, *space)))}.{hint}"
            )
    params = {name: value for name, value in given.items() if name in space}
    # No trial of the study: only what tells whether the values fit.
    problem = misfit(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params}), space)
    if problem is not None:
        raise ConfigError(f"--enqueue: {problem}.")
    return params | {ratio: _ratio(ratio, given, space[ratio]) for end, ratio in ends.items() if end in given}


def _ratio(ratio: str, given: Mapping[str, Any], distribution: Any) -> float:
    first, second = RATIOS[ratio]
    if ratio in given:
        raise ConfigError(f"--enqueue: {first} is {ratio} times {second}: give {first} or {ratio}, not both.")
    if second not in given:
        raise ConfigError(f"--enqueue: the range of {first} depends on {second}: give {second} too.")
    value, other = given[first], given[second]
    low, high = distribution.low * other, distribution.high * other
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING):
        raise ConfigError(
            f"--enqueue: {first} should be a number from {low:g} to {high:g} where {second} is {other:g}, "
            f"got {shown(value)}."
        )
    return min(max(value / other, distribution.low), distribution.high)
