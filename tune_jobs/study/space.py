"""The hyperparameters that a study samples."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from edgenes.config import HypernetworkConfig
from edgenes.space.penalty import ESTIMATORS
from edgenes.validation import check_choice

CONSTRAINT = "control_error"
DEFAULT_PARAMS: Mapping[str, Any] = {
    "c_end": HypernetworkConfig.c_end,
    "c_ratio": HypernetworkConfig.c_start / HypernetworkConfig.c_end,
    "t_start": HypernetworkConfig.t_start,
    "t_ratio": HypernetworkConfig.t_end / HypernetworkConfig.t_start,
    "pivots": HypernetworkConfig.pivots,
    "epsilon": HypernetworkConfig.epsilon,
    "estimator": HypernetworkConfig.estimator,
}


def search_space(estimator: str) -> dict[str, BaseDistribution]:
    """The parameters of a study; with `estimator` "both" the penalty's estimator is one of them.

    Ratios instead of the second end of each schedule keep the space static, so that TPE models it jointly.
    Raises ConfigError on an unknown estimator.
    """
    check_choice("estimator", estimator, (*ESTIMATORS, "both"))
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


def with_derived(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` and the schedule ends that follow from them: c_start = c_end c_ratio, t_end = t_start t_ratio."""
    derived = dict(params)
    if {"c_end", "c_ratio"} <= params.keys():
        derived["c_start"] = params["c_end"] * params["c_ratio"]
    if {"t_start", "t_ratio"} <= params.keys():
        derived["t_end"] = params["t_start"] * params["t_ratio"]
    return derived
