"""The trials of a study, as tables and choices."""

import math
import re
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.study.space import CONSTRAINT, with_derived

IDENTIFIER = "files"
"""The study's attribute with the identifier that its folder has too."""
ORIGIN = "origin"
"""A trial's attribute: the study that ran it, and as which number."""

_RECORDED = ("control_error", "standard_error", "feasible", "pool_size", "cache_hits", "seconds", "attempts")
_OUTCOME = ("reason", "pruned_step", "pruned_value")


def origin(identifier: str | None, number: int) -> str:
    """The origin of a trial that the study with this identifier runs."""
    return f"{identifier}/{number}"


def is_own(trial: FrozenTrial, identifier: str | None) -> bool:
    """Whether a driver of the study ran the trial; others came by `add_trial`, and have no files."""
    return trial.user_attrs.get(ORIGIN) == origin(identifier, trial.number)


def own_trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials in one of these states, by default any, that drivers of the study ran."""
    identifier = study.user_attrs.get(IDENTIFIER)
    return [trial for trial in study.get_trials(deepcopy=False, states=states or None) if is_own(trial, identifier)]


def added_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials that other programs added: they teach the sampler, and count as none of the study's."""
    own = {trial.number for trial in own_trials(study)}
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial for trial in study.get_trials(deepcopy=False, states=states) if trial.number not in own]


def finished_trials(study: optuna.Study) -> int:
    """How many trials count towards --trials."""
    return len(own_trials(study, TrialState.COMPLETE, TrialState.PRUNED))


def failed_trials(study: optuna.Study) -> int:
    """How many trials failed while they ran: one whose values cannot be was never begun."""
    return len(own_trials(study, TrialState.FAIL))


def feasible(trial: FrozenTrial) -> bool:
    """Whether the trial's control error is known and within CONTROL_LIMIT."""
    return trial.constraints.get(CONSTRAINT, math.inf) <= 0


def finalists(study: optuna.Study, n: int) -> list[FrozenTrial]:
    """The `n` best complete trials that are feasible, best value first; if none is, the one of least control error.

    Ties go to the lower number. Trials that came by `add_trial` are none: they have no hypernetwork.
    """
    complete = own_trials(study, TrialState.COMPLETE)
    allowed = [trial for trial in complete if feasible(trial)]
    if allowed:
        return sorted(allowed, key=lambda trial: (-trial.values[0], trial.number))[:n]
    return sorted(complete, key=lambda trial: (trial.constraints.get(CONSTRAINT, math.inf), trial.number))[:1]


def best_trial(study: optuna.Study) -> tuple[FrozenTrial, bool] | None:
    """The first of `finalists` and whether it is feasible; None as long as no trial is complete."""
    first = finalists(study, 1)
    return (first[0], feasible(first[0])) if first else None


def choice(study: optuna.Study, chosen: int) -> dict[str, Any]:
    """The two trials that may be called the best: that of the sweep's best value, and the finalist that was chosen."""
    best, _ = best_trial(study)
    named = {"best_of_sweep": best, "chosen": study.get_trials(deepcopy=False)[chosen]}
    return {
        name: {"number": trial.number, "params": trial.params, "value": trial.values[0]}
        for name, trial in named.items()
    }


def common_failure(study: optuna.Study) -> str | None:
    """The reason that all failed trials share, numbers in it aside; None if there is no such reason."""
    reasons = [str(trial.user_attrs.get("reason", "")) for trial in own_trials(study, TrialState.FAIL)]
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
        complete = trial.state == TrialState.COMPLETE
        row = scalars | with_derived(trial.params)
        row |= {"number": trial.number, "state": trial.state.name, "feasible": feasible(trial)}
        row["value"] = trial.values[0] if complete else math.nan
        if trial.state == TrialState.PRUNED and trial.values:
            row["pruned_value"] = trial.values[0]
        columns |= dict.fromkeys(row)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(columns))
