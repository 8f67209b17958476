"""The efficiency benchmark: its table is a real one, and what it computes from the table is right."""

import math

import numpy as np
import pytest

from benchmarks import measured, trial_table
from benchmarks.measured import Row, read_table
from benchmarks.simulate import CATEGORY, Policy, Step, best_so_far, coordinates, nearest, regret, simulate
from benchmarks.study_efficiency import excess, regret_summary, regrets, steps_until
from benchmarks.trial_table import Options, jobs
from edgenes.errors import DataError
from tune_jobs.config.sweep import SAMPLERS
from tune_jobs.study.space import DEFAULT_PARAMS, search_space
from tune_jobs.study.spread import parameters

SPACE = search_space("exact")


def row(params, value, error=0.0, digests=("a", "b"), other=None):
    accuracies = tuple(value - 0.1 for _ in digests)
    values = (value, value if other is None else other)
    return Row(params, error, values, (accuracies, accuracies), digests, 5.0, tuple(1.0 for _ in digests))


@pytest.fixture(scope="module")
def rows():
    """Forty rows; the value falls with c_end, every third may not win, candidates c0 and c1 are those of all."""
    found = []
    for k, params in enumerate(parameters(40, SPACE, seed=0)):
        value = 0.9 - 0.02 * math.log(params["c_end"])
        digests = ("c0", "c1", f"own {k}")
        found.append(row(params, value, error=0.8 if k % 3 == 2 else 0.0, digests=digests, other=value - 0.01))
    return found


def test_a_longer_table_begins_with_the_shorter_one_and_stays_in_the_space():
    short, long = parameters(20, SPACE, seed=3), parameters(200, SPACE, seed=3)
    assert short == long[:20] and len(long) == 200
    assert short[0] == {name: DEFAULT_PARAMS[name] for name in SPACE}
    for name, distribution in SPACE.items():
        for params in long:
            assert distribution._contains(distribution.to_internal_repr(params[name]))
    assert {params["pivots"] for params in long} == set(SPACE["pivots"].choices)
    below = sum(params["c_end"] < math.sqrt(0.003 * 10) for params in long[1:])
    assert abs(below - 100) <= 5, "logarithmic: half of the points lie below the geometric mean"


def test_measurements_of_a_row_come_after_the_row():
    order = list(jobs(40))
    assert len(set(order)) == len(order) == len({job.name for job in order})
    for position, job in enumerate(order):
        if job.kind == "retraining":
            assert ("row", job.index) in [(other.kind, other.index) for other in order[:position]]


def test_distance_is_that_of_the_unit_cube():
    defaults = {name: DEFAULT_PARAMS[name] for name in SPACE}
    origin = coordinates(defaults, SPACE)
    whole = [coordinates(defaults | {"c_end": value}, SPACE) for value in (0.003, 10.0)]
    assert np.linalg.norm(whole[0] - whole[1]) == pytest.approx(1)
    assert np.linalg.norm(origin - coordinates(defaults | {"pivots": 9}, SPACE)) == pytest.approx(CATEGORY)


def test_nearest_takes_only_what_is_left():
    points, left = np.array([[0.0], [1.0], [3.0]]), np.ones(3, bool)
    found = []
    while left.any():
        found.append(nearest(np.array([0.9]), points, left))
        left[found[-1]] = False
    assert found == [1, 0, 2]
    with pytest.raises(ValueError, match="no row"):
        nearest(np.array([0.9]), points, left)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "qmc"])
def test_a_simulated_study_is_deterministic_and_runs_a_row_once(rows, sampler):
    one, two = (list(simulate(Policy(sampler, 4), rows, SPACE, seconds=120, seed=1, seen=0)) for _ in range(2))
    assert one == two
    assert one[0].row == 0, "a study begins with the defaults"
    assert len({step.row for step in one}) == len(one)
    assert one[-1].seconds >= 120 > one[-2].seconds
    other = list(simulate(Policy(sampler, 4), rows, SPACE, seconds=120, seed=2, seen=0))
    assert [step.row for step in other] != [step.row for step in one]


def test_a_candidate_of_the_store_costs_nothing(rows):
    steps = list(simulate(Policy("random"), rows, SPACE, seconds=60, seed=0, seen=0))
    assert [step.seconds for step in steps] == [8.0 + 6.0 * k for k in range(len(steps))]


def test_an_infeasible_trial_that_is_pruned_costs_its_hypernetwork(rows):
    steps = list(simulate(Policy("random", prune_infeasible=True), rows, SPACE, seconds=100, seed=0, seen=0))
    before = [0.0, *(step.seconds for step in steps)]
    dropped = [step for step in steps if not rows[step.row].feasible]
    assert dropped and not any(step.complete for step in dropped)
    for spent, step in zip(before, steps, strict=False):
        assert step.complete == rows[step.row].feasible
        assert step.complete or step.seconds - spent == 5.0


def test_the_study_of_the_simulation_learns(rows):
    """On a table whose value falls with c_end, TPE runs smaller ones than random does."""

    def means(policy):
        runs = [list(simulate(policy, rows, SPACE, seconds=120, seed=seed, seen=0))[5:] for seed in range(5)]
        return np.mean([math.log(rows[step.row].params["c_end"]) for run in runs for step in run])

    assert means(Policy("tpe", 5)) < means(Policy("random")) - 0.1


def test_the_choice_is_the_best_feasible_complete_trial_that_has_ended():
    params = {name: DEFAULT_PARAMS[name] for name in SPACE}
    rows = [row(params, 0.8), row(params, 0.99, error=0.4), row(params, 0.9), row(params, 0.95)]
    steps = [Step(1, 5, True), Step(0, 10, True), Step(3, 20, False), Step(2, 30, True)]
    assert best_so_far(Policy("random"), steps, rows, [4, 9, 10, 29, 30], 0) == [None, None, 0, 0, 2]


def test_regret_is_by_the_seed_that_was_not_seen():
    params = {name: DEFAULT_PARAMS[name] for name in SPACE}
    rows = [row(params, 0.8, other=0.7), row(params, 0.9, other=0.6), row(params, 0.99, error=0.4, other=0.99)]
    assert regret(0, rows, 0) == pytest.approx(-0.1)
    assert regret(1, rows, 0) == 0
    assert regret(1, rows, 1) == pytest.approx(-0.1)
    assert math.isnan(regret(None, rows, 0))


def test_regrets_are_paired_with_random_of_the_same_seed(rows):
    frame = regrets(rows, [30.0, 60.0], range(2), processes=1)
    summary = regret_summary(frame)
    random = summary[summary.policy == "random"]
    assert (random.difference == 0).all() and len(summary) == 2 * frame.policy.nunique()
    tpe = frame[(frame.policy == "tpe, 5 start-up") & (frame.seconds == 60)]
    of_random = frame[(frame.policy == "random") & (frame.seconds == 60)]
    told = summary[(summary.policy == "tpe, 5 start-up") & (summary.seconds == 60)].difference.item()
    assert told == pytest.approx(tpe.regret.mean() - of_random.regret.mean())


def test_excess_is_the_share_of_variance_that_repetitions_lack():
    rng = np.random.default_rng(0)
    noise, values = rng.normal(0, 1, 20_000), rng.normal(0, math.sqrt(5), 20_000)
    assert excess(values, noise) == pytest.approx(0.8, abs=0.01)


def test_steps_until_control():
    assert steps_until((1.0, 0.4, 0.2, 0.6), 0.25, 8) == 24
    assert steps_until((0.25,), 0.25, 8) == 8
    assert steps_until((1.0, 0.26), 0.25, 8) == math.inf


def test_a_real_row_is_measured_once_and_read_back(tmp_path):
    options = Options(out=tmp_path / "table", rows=1, smoke_test=True)
    trial_table.main(options)
    written = (options.out / "row-0000.json").stat().st_mtime_ns
    trial_table.main(options)
    assert (options.out / "row-0000.json").stat().st_mtime_ns == written
    measured.main(measured.Options(table=options.out, out=tmp_path / "files"))
    (one,) = read_table(tmp_path / "files")
    assert one.params == {name: DEFAULT_PARAMS[name] for name in SPACE}
    assert len(one.digests) == len(one.candidates) == len(one.accuracies[0]) == 3
    assert all(seconds > 0 for seconds in (one.hypernetwork, *one.candidates))
    assert all(0 < value <= 1 for value in one.values)
    with pytest.raises(DataError, match="another configuration"):
        trial_table.main(Options(out=options.out, rows=1))


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"benchmarks\.trial_table"):
        read_table(tmp_path)
