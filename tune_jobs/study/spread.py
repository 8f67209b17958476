"""Parameters of trials spread evenly over a study's search space, for what is to be measured all over it."""

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import qmc

from tune_jobs.study.space import DEFAULT_PARAMS


def point(unit: list[float], space: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The parameters at a point of the unit cube, logarithmic where the space is."""
    params: dict[str, Any] = {}
    for u, (name, distribution) in zip(unit, space.items(), strict=True):
        if isinstance(distribution, CategoricalDistribution):
            params[name] = distribution.choices[min(int(u * len(distribution.choices)), len(distribution.choices) - 1)]
        elif distribution.log:
            params[name] = distribution.low * (distribution.high / distribution.low) ** u
        else:
            params[name] = distribution.low + (distribution.high - distribution.low) * u
    return params


def parameters(rows: int, space: dict[str, BaseDistribution], seed: int) -> list[dict[str, Any]]:
    """The defaults, then a scrambled Sobol sequence: a longer table begins with the shorter one."""
    points = qmc.Sobol(len(space), seed=seed).random_base2(max(1, (rows - 1).bit_length()))
    defaults = {name: DEFAULT_PARAMS[name] for name in space}
    return [defaults, *(point(u, space) for u in points.tolist())][:rows]
