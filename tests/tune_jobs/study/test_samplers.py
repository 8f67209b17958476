"""A region that keeps failing is left; elsewhere a sampler's proposals are untouched."""

import functools

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from edgenes.seeds import stable_seed
from tune_jobs.config.sweep import SAMPLERS
from tune_jobs.study.samplers import DRAWS, AvoidFailures, distance, keeps_failing, make_sampler
from tune_jobs.study.space import search_space

SPACE = {"x": FloatDistribution(0.01, 100.0, log=True), "y": CategoricalDistribution((1, 2))}


def finished(x, y, state):
    return create_trial(
        params={"x": x, "y": y}, distributions=SPACE, state=state, value=0.5 if state == TrialState.COMPLETE else None
    )


def test_the_distance_is_that_of_the_unit_cube():
    assert distance({"x": 0.01, "y": 1}, {"x": 100.0, "y": 1}, SPACE) == pytest.approx(1)
    assert distance({"x": 0.1, "y": 1}, {"x": 1.0, "y": 1}, SPACE) == pytest.approx(0.25)
    assert distance({"x": 1.0, "y": 1}, {"x": 1.0, "y": 2}, SPACE) == 1


def test_three_failed_neighbours_condemn_a_proposal_and_one_success_among_them_saves_it():
    failed = [finished(50.0 + k, 1, TrialState.FAIL) for k in range(3)]
    far = finished(0.02, 1, TrialState.COMPLETE)
    near = finished(60.0, 1, TrialState.COMPLETE)
    assert keeps_failing({"x": 55.0, "y": 1}, [*failed, far], SPACE)
    assert not keeps_failing({"x": 55.0, "y": 1}, [*failed, near], SPACE)
    assert not keeps_failing({"x": 0.03, "y": 1}, [*failed[:2], far], SPACE)
    assert not keeps_failing({"x": 55.0, "y": 1}, failed[:2], SPACE)


def run(avoid, trials=60, seed=0):
    """Failures in a search where everything with x > 1 fails, half of the space; the share of the last 40."""
    study = optuna.create_study()
    for number in range(trials):
        seeds = functools.partial(stable_seed, seed, number)
        study.sampler = (
            AvoidFailures(lambda s: RandomSampler(seed=s), seeds, SPACE) if avoid else RandomSampler(seeds(0))
        )
        trial = study.ask(SPACE)
        fails = trial.params["x"] > 1
        study.tell(trial, None if fails else 0.5, TrialState.FAIL if fails else TrialState.COMPLETE)
    return sum(trial.state == TrialState.FAIL for trial in study.trials[20:]) / (trials - 20)


def test_a_region_that_keeps_failing_does_not_eat_the_budget():
    assert run(avoid=True) < 0.15 < 0.35 < run(avoid=False)


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_without_failures_the_proposals_are_the_samplers_own(name):
    space = search_space("exact")

    def propose(wrap):
        study = optuna.create_study()
        for number in range(14):
            seeds = functools.partial(stable_seed, number)
            make = functools.partial(make_sampler, name, startup=4)
            study.sampler = AvoidFailures(make, seeds, space) if wrap else make(seeds(0))
            trial = study.ask(space)
            study.tell(trial, trial.params["c_end"])
        return [trial.params for trial in study.trials]

    assert propose(wrap=True) == propose(wrap=False)


def test_where_everything_fails_it_still_proposes():
    study = optuna.create_study()
    for k in range(5):
        study.add_trial(finished(1.0 + k, 1, TrialState.FAIL))
    drawn = []

    def make(seed):
        drawn.append(seed)
        return RandomSampler(seed=seed)

    study.sampler = AvoidFailures(make, functools.partial(stable_seed, 0), SPACE)
    assert set(study.ask(SPACE).params) == set(SPACE)
    assert len(set(drawn)) == DRAWS


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("value", "distribution"),
    [
        (-1.0, FloatDistribution(-2.0, 1.0)),
        ("a", CategoricalDistribution(("a", "b"))),
        (2e300, FloatDistribution(0, 1e308)),
    ],
)
def test_added_trials_with_values_of_another_space_teach_nothing(name, value, distribution):
    study, make = optuna.create_study(), functools.partial(make_sampler, name, startup=1)
    for number in range(6):
        study.sampler = AvoidFailures(make, functools.partial(stable_seed, number), SPACE)
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["x"])
        other = {"params": {"x": value, "y": 1}, "distributions": SPACE | {"x": distribution}}
        study.add_trial(create_trial(value=0.1, **other))
    assert [set(trial.params) for trial in study.trials] == [set(SPACE)] * 12
