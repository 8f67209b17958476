"""The Optuna study of EdgeNES: what it may choose, what identifies it, and what it has found."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgenes.parsing import shown
from edgenes.seeds import stable_seed
from tune_jobs.errors import StudyError
from tune_jobs.study.folder import identify
from tune_jobs.study.samplers import make_pruner
from tune_jobs.study.space import check_parameters, default_params
from tune_jobs.study.storage import plain_reason, storage_from

DIRECTIONS: dict[str, Any] = {"value": "maximize", **dict.fromkeys(("control", "parameters", "latency"), "minimize")}
METRICS = {
    "value": "accuracy",
    "control": "control error",
    "parameters": "parameters of the ensemble",
    "latency": "latency of the ensemble, ms",
}
"""The objectives' names in pictures and on dashboards."""


def trial_seed(seed: int, number: int) -> int:
    """The seed of trial `number` in a study of seed `seed`: its training and its candidates are drawn from it."""
    return stable_seed(seed, number, "trial")


def open_study(
    name: str,
    storage: str | Path,
    *,
    space: Mapping[str, BaseDistribution],
    objectives: Sequence[str] = ("value",),
    pruner: str = "none",
    seed: int = 0,
    candidates: int = 8,
    identity: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
    claim: Callable[[optuna.Study], None] = identify,
) -> optuna.Study:
    """Create or reopen the study `name`, `enqueue` its next trials; a new one has the method's defaults after them.

    `objectives` are names of DIRECTIONS, "value" first. `identity` holds what else must not change between two
    runs (data, budgets of a trial), as JSON-able values; seed, objectives and space belong to it anyway.
    `defaults` are the values that settings had before there was an option for them. Parameters of `enqueue` that the
    study has already are left out. `claim` is called first: it gives
    the study its identifier, or raises if the study is another folder's.
    Raises ConfigError on unknown parameters, StudyError if the stored study is another one, or cannot be written.
    """
    check_parameters(space)
    asked = {"seed": seed, "objectives": list(objectives), **(identity or {})}
    asked |= {f"space of {key}": distribution_to_json(value) for key, value in space.items()}
    asked = json.loads(json.dumps(asked))
    opened = storage_from(storage)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=opened,
            directions=[DIRECTIONS[objective] for objective in objectives],
            pruner=make_pruner(pruner, candidates),
            load_if_exists=True,
        )
        claim(study)
        _check_identity(study, asked, defaults)
        _check_kinds(study, space)
        if "identity" not in study.user_attrs:
            study.set_user_attr("identity", asked)
        new = all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))
        for params in (*enqueue, *([default_params(space)] if new else [])):
            study.enqueue_trial(dict(params), skip_if_exists=True)
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        reason = plain_reason(error, getattr(opened, "url", ""))
        raise StudyError(
            f"The study {name!r} cannot be read and written: {reason}. Check that its storage is writable, has "
            f"space left and is not locked by another program, then start again."
        ) from None
    return study


def _check_identity(study: optuna.Study, asked: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> None:
    stored = study_identity(study)
    if stored is None:
        directions = [direction.name.lower() for direction in study.directions]
        if study.get_trials(deepcopy=False) or directions != [DIRECTIONS[name] for name in asked["objectives"]]:
            raise StudyError(
                f"The study {study.study_name!r} holds trials or objectives but no record of its settings, so another "
                f"program made it. Choose another folder with --out."
            )
        return  # created a moment ago, perhaps by a process that died before it could say more
    check_settings(stored, asked, f"The study {study.study_name!r}", defaults)


def _check_kinds(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
    """Raise StudyError if the first trial with a parameter, which another program added, has it as another kind.

    Optuna compares each new trial with that one, so that none could follow.
    """
    unseen = dict(space)
    for trial in study.get_trials(deepcopy=False):
        for name in trial.distributions.keys() & unseen.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], unseen.pop(name))
            except ValueError:
                raise StudyError(
                    f"Trial {trial.number} of the study {study.study_name!r} was added by another program. It has "
                    f"{name} as {trial.distributions[name]}, the study as {space[name]}, and Optuna takes no further "
                    "trial. Begin another study with --out, and add the trial with that distribution."
                ) from None


def check_settings(
    stored: Mapping[str, Any], asked: Mapping[str, Any], what: str, defaults: Mapping[str, Any] | None = None
) -> None:
    """Raise StudyError, naming each difference, if `what` was begun with other settings.

    A setting that came after `what` was begun had its value in `defaults` then.
    """
    stored = {**{key: value for key, value in (defaults or {}).items() if key in asked}, **stored}
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


def study_objectives(study: optuna.Study) -> list[str]:
    """The names of the objectives that the study was opened with, in the order of a trial's values."""
    return (study_identity(study) or {}).get("objectives") or list(DIRECTIONS)[: len(study.directions)]


def study_seed(study: optuna.Study) -> int:
    """The seed that the study was opened with."""
    return study_identity(study)["seed"]
