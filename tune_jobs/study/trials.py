"""The trials of a study, as tables and choices."""

import math
import re

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.study.space import CONSTRAINT, with_derived

_RECORDED = ("control_error", "standard_error", "feasible", "pool_size", "cache_hits", "seconds", "attempts")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes such a cell: a reason may come from a stranger
_OUTCOME = ("reason", "pruned_step", "pruned_value")


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
