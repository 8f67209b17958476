"""The hyperparameters that a study samples, and the hypernetwork's configuration that follows from them."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial

from edgenes.config import HypernetworkConfig
from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.space.choices import ESTIMATORS

CONSTRAINT = "control_error"
RATIOS = {"c_ratio": ("c_start", "c_end"), "t_ratio": ("t_end", "t_start")}
"""Parameters that are one field of the configuration divided by another: first = ratio x second."""
_FIXED = {"seed", "device", "space", "epochs", "lam", "either_input", "max_parameter_free", "stop_parameter_free"}


def default_params(names: Iterable[str]) -> dict[str, Any]:
    """The method's defaults of these parameters: a study's first trial."""
    base = HypernetworkConfig()
    return {
        name: getattr(base, RATIOS[name][0]) / getattr(base, RATIOS[name][1]) if name in RATIOS else getattr(base, name)
        for name in names
    }


def search_space(estimator: str) -> dict[str, BaseDistribution]:
    """The parameters of a study; with `estimator` "both" the penalty's estimator is one of them.

    A further parameter is a line here: its name is that of a field of HypernetworkConfig.
    Ratios instead of the second end of each schedule keep the space static, so that TPE models it jointly.
    """
    space: dict[str, BaseDistribution] = {
        "c_end": FloatDistribution(0.003, 10.0, log=True),
        "c_ratio": FloatDistribution(0.01, 1.0, log=True),
        "t_start": FloatDistribution(0.2, 10.0, log=True),
        "t_ratio": FloatDistribution(0.01, 1.0, log=True),
        "pivots": CategoricalDistribution((2, 3, 5, 9)),
        "epsilon": CategoricalDistribution((0.0, 0.2, 0.5)),
    }
    if estimator == "both":
        space["estimator"] = CategoricalDistribution(ESTIMATORS)
    return space


def check_parameters(names: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter that no hypernetwork would use: it would be sampled and ignored."""
    known = {each.name for each in fields(HypernetworkConfig)} - _FIXED | RATIOS.keys()
    for name in names:
        if name not in known:
            raise ConfigError(
                f"the parameter {name!r} of the search space is no field of HypernetworkConfig, so that no trial would "
                f"use it: name it after one of {', '.join(sorted(known))}, or take it out of the space."
            )


def misfit(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> str | None:
    """Why the values that a person gave a trial cannot be used in this space; None if they can."""
    enqueued = trial.system_attrs.get("fixed_params", {})
    given = {**trial.params, **enqueued}
    wrong = [problem for name in space if name in given and (problem := _problem(name, given[name], space[name]))]
    if unknown := [shown(name) for name in given if name not in space]:
        wrong.append(f"there is no parameter {', '.join(unknown)}, only {', '.join(space)}")
    return f"its values cannot be used: {'; '.join(wrong)}" if wrong else None


def _problem(name: str, value: Any, distribution: Any) -> str | None:
    """What is wrong with one value, in words: text and bool are no numbers here, though Optuna takes them."""
    if isinstance(distribution, CategoricalDistribution):
        right = not isinstance(value, bool) and value in distribution.choices
        expected = f"one of {', '.join(map(str, distribution.choices))}"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number and distribution.low <= value <= distribution.high
        expected = f"a number from {distribution.low:g} to {distribution.high:g}"
    return None if right else f"{name} should be {expected}, got {shown(value)}"


def with_derived(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` and the schedule ends that follow from them: c_start = c_end c_ratio, t_end = t_start t_ratio."""
    derived = dict(params)
    for ratio, (first, second) in RATIOS.items():
        if {ratio, second} <= params.keys():
            derived[first] = params[second] * params[ratio]
    return derived


def hypernetwork_config(base: HypernetworkConfig, params: Mapping[str, Any], seed: int) -> HypernetworkConfig:
    """The configuration of a trial: `base` with every parameter that Optuna sampled."""
    used = {name: value for name, value in with_derived(params).items() if name not in RATIOS}
    return replace(base, seed=seed, **used)


DEFAULT_PARAMS: Mapping[str, Any] = default_params(search_space("both"))
