"""When a sweep ends before all of its trials: its hours are over, or no trial has been better for a while.

Optuna's terminator also counts trials that others added and infeasible ones, and no pruned ones.
"""

import optuna
from optuna.trial import TrialState

from tune_jobs.config.sweep import SweepConfig
from tune_jobs.study.trials import best_trial, finished_trials, own_trials


def fruitless(study: optuna.Study) -> int:
    """How many trials in a row, as they ended, were not better than the best; 0 as long as none is complete."""
    best = best_trial(study)
    if best is None:
        return 0
    ended = own_trials(study, TrialState.COMPLETE, TrialState.PRUNED)
    numbers = [trial.number for trial in sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))]
    return len(numbers) - 1 - numbers.index(best[0].number)


def limit(config: SweepConfig, study: optuna.Study, seconds: float) -> str | None:
    """Why no further trial starts, in words; None where --trials alone ends the sweep.

    `seconds` is how long the sweep has run, over all drivers. Nothing ends it before one trial is complete.
    """
    if best_trial(study) is None:
        return None
    if config.hours is not None and seconds >= 3600 * config.hours:
        return f"--hours {config.hours:g} are over"
    if config.patience is not None and (row := fruitless(study)) >= config.patience:
        return f"{row} trials in a row were not better (--patience {config.patience})"
    return None


def ended_early(config: SweepConfig, study: optuna.Study, seconds: float) -> str | None:
    """Which limit has ended the sweep before --trials, in words; None while a trial runs, which may change that."""
    if study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) or finished_trials(study) >= config.trials:
        return None
    return limit(config, study, seconds)


def planned_trials(config: SweepConfig, study: optuna.Study, seconds: float) -> int:
    """With how many trials the sweep is finished: --trials, or as many as there are where a limit has ended it."""
    return config.trials if ended_early(config, study, seconds) is None else finished_trials(study)
