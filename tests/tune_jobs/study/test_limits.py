"""When a sweep ends before its trials: hours, and trials in a row that were not better."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from edgenes.errors import ConfigError
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.study.limits import ended_early, fruitless, limit, planned_trials
from tune_jobs.study.trials import IDENTIFIER, ORIGIN, origin


def study_of(*ended):
    """A study whose trials ended in this order: a value, None if pruned, "infeasible", "added", or a state."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(IDENTIFIER, "mine")
    for k, what in enumerate(ended):
        own = {ORIGIN: origin("another" if what == "added" else "mine", k)}
        state = TrialState.PRUNED if what is None else what if isinstance(what, TrialState) else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=state,
                value={"infeasible": 0.9, "added": 1.0}.get(what, what) if state == TrialState.COMPLETE else None,
                user_attrs=own,
                system_attrs={"constraints:control_error": 0.1 if what == "infeasible" else -0.1},
            )
        )
    return study


@pytest.mark.parametrize(
    ("ended", "row"),
    [
        ((), 0),
        ((None, None), 0),
        ((0.5,), 0),
        ((0.5, 0.4, 0.5), 2),
        ((0.5, None, 0.4, 0.6, None), 1),
        ((0.5, "infeasible", "added", TrialState.FAIL), 1),
        (("infeasible", 0.1), 0),
    ],
)
def test_trials_in_a_row_that_were_not_better(ended, row):
    assert fruitless(study_of(*ended)) == row


@pytest.mark.parametrize(
    ("options", "seconds", "ends"),
    [
        ({}, 1e9, None),
        ({"hours": 2}, 7199, None),
        ({"hours": 2}, 7200, "--hours 2"),
        ({"patience": 3}, 0, None),
        ({"patience": 2}, 0, "--patience 2"),
        ({"patience": 2, "trials": 3}, 0, None),
    ],
)
def test_a_limit_ends_the_sweep_and_a_larger_one_continues_it(options, seconds, ends):
    study, config = study_of(0.5, 0.4, None), SweepConfig.of(**options)
    why = ended_early(config, study, seconds)
    assert (why is None) == (ends is None) and (ends is None or ends in why)
    assert planned_trials(config, study, seconds) == (3 if ends else config.trials)


def test_a_trial_that_runs_may_be_better_yet():
    study, config = study_of(0.5, 0.4, TrialState.RUNNING), SweepConfig.of(patience=1)
    assert limit(config, study, 0) is not None and ended_early(config, study, 0) is None


def test_nothing_ends_a_sweep_without_a_complete_trial():
    assert limit(SweepConfig.of(hours=0.1, patience=1), study_of(None, TrialState.FAIL), 1e6) is None


@pytest.mark.parametrize("wrong", [{"hours": 0}, {"hours": float("nan")}, {"patience": 0}])
def test_an_impossible_limit_is_an_error(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SweepConfig.of(**wrong)


def test_limits_do_not_make_it_another_study():
    assert SweepConfig.of(hours=8, patience=3).defining() == SweepConfig().defining()
