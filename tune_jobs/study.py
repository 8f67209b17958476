"""The Optuna study of EdgeNES: what it may choose, what identifies it, and what it has found."""

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
)
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgenes.config import HypernetworkConfig, check_choice
from edgenes.errors import ConfigError, StudyError
from edgenes.regularizer import ESTIMATORS
from edgenes.seeds import stable_seed
from edgenes.untrusted import shown
from tune_jobs.sole_writer import SoleWriterStorage
from tune_jobs.storage import plain_reason, storage_from

__all__ = [
    "DEFAULT_PARAMS",
    "DIRECTIONS",
    "PRUNERS",
    "SAMPLERS",
    "best_trial",
    "common_failure",
    "feasible",
    "finalists",
    "make_pruner",
    "make_sampler",
    "open_study",
    "search_space",
    "storage_from",
    "study_identity",
    "study_seed",
    "trial_seed",
    "trials_frame",
    "with_derived",
]

CONSTRAINT = "control_error"
CONTROL_LIMIT = 0.25
"""Largest mean |lambda - shared edges| of a hypernetwork that counts as controlled, and may win."""
DIRECTIONS = {"value": "maximize", "control": "minimize"}
# No Gaussian process: Optuna's learns nothing from PRUNED and FAILed trials, and proposes them over again.
SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive-halving")

DEFAULT_PARAMS: Mapping[str, Any] = {
    "c_end": HypernetworkConfig.c_end,
    "c_ratio": HypernetworkConfig.c_start / HypernetworkConfig.c_end,
    "t_start": HypernetworkConfig.t_start,
    "t_ratio": HypernetworkConfig.t_end / HypernetworkConfig.t_start,
    "pivots": HypernetworkConfig.pivots,
    "epsilon": HypernetworkConfig.epsilon,
    "estimator": HypernetworkConfig.estimator,
}

_RECORDED = ("control_error", "standard_error", "feasible", "pool_size", "cache_hits", "seconds", "attempts")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes such a cell: a reason may come from a stranger
_OUTCOME = ("reason", "pruned_step", "pruned_value")


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


def trial_seed(seed: int, number: int) -> int:
    """The seed of trial `number` in a study of seed `seed`: its training and its candidates are drawn from it."""
    return stable_seed(seed, number, "trial")


def make_sampler(name: str, seed: int, startup: int = 10) -> BaseSampler:
    """A sampler of SAMPLERS for one suggestion, its first `startup` trials random where the method needs them.

    Raises ConfigError on an unknown name.
    """
    check_choice("sampler", name, SAMPLERS)
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


def make_pruner(name: str, *, startup: int = 5, candidates: int = 8) -> BasePruner:
    """A pruner of PRUNERS; `candidates` is the number of intermediate values a full trial reports.

    Raises ConfigError on an unknown name.
    """
    check_choice("pruner", name, PRUNERS)
    if name == "median":
        return MedianPruner(n_startup_trials=startup)
    if name == "percentile":
        return PercentilePruner(25.0, n_startup_trials=startup)
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=candidates)
    if name == "successive-halving":
        return SuccessiveHalvingPruner(min_resource=1)
    return NopPruner()


def open_study(
    name: str,
    storage: str | Path | BaseStorage,
    *,
    space: Mapping[str, BaseDistribution],
    objectives: Sequence[str] = ("value",),
    pruner: str = "none",
    seed: int = 0,
    startup: int = 5,
    candidates: int = 8,
    identity: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Create or reopen the study `name`; a new one starts with METHOD's defaults enqueued as its first trial.

    `objectives` is ("value",) or ("value", "control"). `identity` holds what else must not change between two
    runs (data, budgets of a trial), as JSON-able values; seed, objectives and space belong to it anyway.
    Raises ConfigError on unknown names or a pruner with two objectives, StudyError if the stored study is
    another one, or cannot be written.
    """
    objectives = tuple(objectives)
    if objectives not in (("value",), ("value", "control")):
        raise ConfigError(f"objectives must be value, or value and control, got {', '.join(objectives)}.")
    if len(objectives) > 1 and pruner != "none":
        raise ConfigError(
            f"Optuna prunes by one objective only: use pruner none with value and control, got {pruner!r}."
        )
    asked = {"seed": seed, "objectives": list(objectives), **(identity or {})}
    asked |= {f"space of {key}": distribution_to_json(value) for key, value in space.items()}
    asked = json.loads(json.dumps(asked))
    opened = storage if isinstance(storage, BaseStorage) else storage_from(storage)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=SoleWriterStorage(opened) if isinstance(opened, RDBStorage) else opened,
            directions=[DIRECTIONS[objective] for objective in objectives],
            pruner=make_pruner(pruner, startup=startup, candidates=candidates),
            load_if_exists=True,
        )
        _check_identity(study, asked)
        if "identity" not in study.user_attrs:
            study.set_user_attr("identity", asked)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial({key: DEFAULT_PARAMS[key] for key in space if key in DEFAULT_PARAMS})
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        reason = plain_reason(error, getattr(opened, "url", ""))
        raise StudyError(
            f"The study {name!r} cannot be read and written: {reason}. Check that its storage is writable, has "
            f"space left and is not locked by another program, then start again."
        ) from None
    return study


def _check_identity(study: optuna.Study, asked: Mapping[str, Any]) -> None:
    stored = study_identity(study)
    directions = [direction.name.lower() for direction in study.directions]
    if directions != [DIRECTIONS[objective] for objective in asked["objectives"]]:
        raise StudyError(
            f"The study {study.study_name!r} was begun to {' and '.join(directions)}, which does not fit the "
            f"objectives {', '.join(asked['objectives'])}. Give its objectives, or another folder with --out."
        )
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"The study {study.study_name!r} holds trials but no record of its settings, so another "
                f"program made it. Choose another folder with --out."
            )
        return  # created a moment ago, perhaps by a process that died before it could say more
    check_settings(stored, asked, f"The study {study.study_name!r}")


def check_settings(stored: Mapping[str, Any], asked: Mapping[str, Any], what: str) -> None:
    """Raise StudyError, naming each difference, if `what` was begun with other settings than are asked for now."""
    differences = [
        f"{key}: stored {stored.get(key)!r}, asked {asked.get(key)!r}"
        for key in sorted({*stored, *asked})
        if stored.get(key) != asked.get(key)
    ]
    if differences:
        raise StudyError(
            f"{what} was begun with other settings, and its results would not be comparable. "
            f"{'; '.join(differences)}. Give the stored settings again, or another folder with --out."
        )


def study_identity(study: optuna.Study) -> dict[str, Any] | None:
    """What `open_study` recorded of the study's settings, or None. Raises StudyError if that is something else."""
    identity = study.user_attrs.get("identity")
    if identity is not None and (not isinstance(identity, dict) or type(identity.get("seed")) is not int):
        raise StudyError(f"The study {study.study_name!r} has no settings on record, but {shown(identity)}.")
    return identity


def study_seed(study: optuna.Study) -> int:
    """The seed that the study was opened with. Raises StudyError if `open_study` did not make it."""
    identity = study_identity(study)
    if identity is None:
        raise StudyError(f"The study {study.study_name!r} has no seed. Open it with open_study.")
    return identity["seed"]


def feasible(trial: FrozenTrial) -> bool:
    """Whether the trial's control error is known and within CONTROL_LIMIT."""
    return trial.constraints.get(CONSTRAINT, math.inf) <= 0


def finalists(study: optuna.Study, n: int) -> list[FrozenTrial]:
    """The `n` best complete trials that are feasible, best value first; if none is, those of least control error.

    Ties go to the lower number.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    allowed = [trial for trial in complete if feasible(trial)]
    if allowed:
        return sorted(allowed, key=lambda trial: (-trial.values[0], trial.number))[:n]
    return sorted(complete, key=lambda trial: (trial.constraints.get(CONSTRAINT, math.inf), trial.number))[:n]


def best_trial(study: optuna.Study) -> tuple[FrozenTrial, bool] | None:
    """The first of `finalists` and whether it is feasible; None as long as no trial is complete."""
    first = finalists(study, 1)
    return (first[0], feasible(first[0])) if first else None


def common_failure(study: optuna.Study) -> str | None:
    """The reason that all failed trials share, numbers in it aside; None if there is no such reason."""
    reasons = [str(trial.user_attrs.get("reason", "")) for trial in study.get_trials(states=(TrialState.FAIL,))]
    kinds = {re.sub(r"\d+", "#", reason) for reason in reasons}
    return reasons[-1] if len(kinds) == 1 and reasons[-1] else None


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial: number, state, value, parameters, derived ends, and what its user attributes record.

    `value` is that of complete trials alone; the last intermediate value of a pruned one is `pruned_value`.
    What is missing is NaN; `feasible` is False where the control error is unknown.
    """
    trials = study.get_trials(deepcopy=False)
    names = dict.fromkeys(name for trial in trials for name in with_derived(trial.params))
    columns = dict.fromkeys(("number", "state", "value", *names, *_RECORDED, *_OUTCOME))
    rows = []
    for trial in trials:
        scalars = {
            key: value
            for key, value in trial.user_attrs.items()
            if value is not None and not isinstance(value, list | dict)
        }
        words = {key: value for key, value in scalars.items() if isinstance(value, str)}
        scalars |= {key: f"'{word}" for key, word in words.items() if word.startswith(_FORMULA)}
        complete = trial.state == TrialState.COMPLETE
        row = scalars | with_derived(trial.params)
        row |= {"number": trial.number, "state": trial.state.name, "feasible": feasible(trial)}
        row["value"] = trial.values[0] if complete else math.nan
        if trial.state == TrialState.PRUNED and trial.values:
            row["pruned_value"] = trial.values[0]
        columns |= dict.fromkeys(row)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(columns))
