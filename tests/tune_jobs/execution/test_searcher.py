"""The adapter between Ray Tune and the study, driven here by a few lines that call it in Tune's order."""

import functools
import itertools
import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import MedianPruner
from optuna.trial import TrialState, create_trial
from ray import cloudpickle, tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils.util import flatten_dict

from edgenes.errors import CheckpointError
from tune_jobs.errors import StudyError
from tune_jobs.execution.recording import RecordCallback, StudyPruning
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.files.layout import curve_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_sampler
from tune_jobs.study.space import DEFAULT_PARAMS, search_space
from tune_jobs.study.trials import common_failure, finalists, finished_trials, trials_frame

SPACE = search_space("both")
STEPS = 4
BUDGET = 6
RAY_IDS = itertools.count()  # as Ray's, they never come again


IMPOSSIBLE = [
    ({"c": 1.0}, "'c'"),
    ({"c_end": 50.0}, "50.0"),
    ({"c_end": 0}, "got 0"),
    ({"c_end": math.nan}, "nan"),
    ({"c_end": "1.0"}, "'1.0'"),
    ({"c_end": True}, "True"),
    ({"c_end": 10**400}, "c_end"),
    ({"pivots": 4}, "2, 3, 5, 9"),
    ({"epsilon": False}, "False"),
    ({"estimator": "exakt"}, "'exakt'"),
]
"""What a person may enqueue, and a word of the reason."""


class Killed(BaseException):
    """The driver's process is gone."""


def complete(params, **more):
    """The last report of a trial: a value that depends on every parameter."""
    value = sum(math.sin(x) for x in params.values() if not isinstance(x, str))
    attributes = {"standard_error": 0.01, "control_curve": [[0, 0.0], [4, 3.9]], "shape": {"of": {"pool": 8}}}
    return {"status": "complete", "value": value, "control_error": 0.1, "attributes": attributes, **more}


def trainable(config, folder):
    """Yield (report, state for a checkpoint or None); resumes from the checkpoint it is given."""
    done = 0
    if config["checkpoint"]:
        done = json.loads((folder / config["checkpoint"] / "state.json").read_text())["step"]
    for step in range(done + 1, STEPS + 1):
        seen = {"stage": "hypernetwork", "step": step, "metrics": {"loss": config["seed"] / step}}
        yield seen, {"step": step} if step % 2 == 0 else None
    yield complete(config["params"], step=STEPS), None


class Driver:
    """Runs trials one at a time, calling scheduler, searcher and callback as Tune's controller does."""

    def __init__(self, storage, folder, *, sampler="tpe", budget=BUDGET, objectives=("value",), **options):
        options = {"max_failures": 100, **options}
        self.folder = folder
        self.study = open_study("s", storage, space=SPACE, seed=7, objectives=objectives)
        self.searcher = StudySearcher(
            self.study,
            SPACE,
            budget=budget,
            make_sampler=functools.partial(make_sampler, sampler, startup=2),
            files=StudyFiles(folder),
            **options,
        )
        self.scheduler = StudyPruning(self.searcher)
        self.callback = RecordCallback(self.searcher)

    def suggest(self):
        trial = SimpleNamespace(trial_id=f"ray{next(RAY_IDS)}")
        config = self.searcher.suggest(trial.trial_id)
        return trial, config

    def report(self, trial, result, state=None):
        """Pass one report on; returns whether the scheduler stops the trial."""
        flat = flatten_dict(result | {"pid": 1, "config": {"trial": 0}})
        decision = self.scheduler.on_trial_result(None, trial, flat)
        self.callback.on_trial_result(iteration=0, trials=[], trial=trial, result=result)
        if state is not None:
            self.callback.on_checkpoint(iteration=0, trials=[], trial=trial, checkpoint=self.save(trial, result, state))
        return decision == TrialScheduler.STOP

    def save(self, trial, result, state):
        place = self.folder / "ray" / trial.trial_id / f"checkpoint_{result['step']:06d}"
        place.mkdir(parents=True)
        (place / "state.json").write_text(json.dumps(state))
        return tune.Checkpoint.from_directory(str(place))

    def finish(self, trial, result=None, error=False):
        if result is not None:
            self.report(trial, result)
        self.searcher.on_trial_complete(trial.trial_id, result, error=error)

    def run(self, kill=None, victim=3):
        """Run to the end of the budget, or until the kill point `kill` of trial number `victim`."""
        configs = []
        while True:
            if kill == "asking" and len(self.study.trials) == victim:
                die_in(self.study._storage, "set_trial_param", after=3)
            trial, config = self.suggest()
            if config == Searcher.FINISHED:
                return configs
            configs.append(config)
            mine = config["trial"] == victim
            if mine and kill == "suggested":
                raise Killed
            for report, state in trainable(config, self.folder):
                self.report(trial, report, state)
                if mine and kill == "running" and report["step"] == 3:
                    raise Killed
            if mine and kill == "reported":
                raise Killed
            if mine and kill == "telling":
                die_in(self.study._storage, "set_trial_state_values")
            self.finish(trial)
            if mine and kill == "told":
                raise Killed


def die_in(storage, method, after=0):
    """Kill the process at the call number `after` of a storage's method."""
    calls = iter(range(10_000))
    real = getattr(storage, method)

    def dying(*args, **kwargs):
        if next(calls) == after:
            raise Killed
        return real(*args, **kwargs)

    setattr(storage, method, dying)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The parameters of a study whose driver nobody killed."""
    folder = tmp_path_factory.mktemp("expected")
    driver = Driver(f"journal:{folder}/study.log", folder)
    driver.run()
    return [trial.params for trial in driver.study.trials]


KILLS = ("asking", "suggested", "running", "reported", "telling", "told")


def restart_after(kill, storage, folder, expected):
    """Kill a driver, start another one, and compare the study with the undisturbed one."""
    with pytest.raises(Killed):
        Driver(storage, folder).run(kill)
    again = Driver(storage, folder)
    configs = again.run()
    trials = again.study.trials
    assert states(again.study) == ["COMPLETE"] * BUDGET
    assert [trial.params for trial in trials] == expected
    assert len({json.dumps(trial.params) for trial in trials}) == BUDGET
    assert [trial.user_attrs["attempts"] for trial in trials] == [
        2 if number == 3 and kill not in ("asking", "told") else 1 for number in range(BUDGET)
    ]
    for number in range(BUDGET):
        assert [line["step"] for line in read_curve(curve_path(folder, number))] == [1, 2, 3, 4]
    resumed = [config for config in configs if config["trial"] == 3]
    assert len(resumed) == (0 if kill == "told" else 1)
    if kill in ("running", "reported", "telling"):
        assert resumed[0]["checkpoint"].endswith("2" if kill == "running" else "4")
        assert resumed[0]["attempt"] == 2


def log(folder):
    """The storage of tests to which all storages are alike: the quickest."""
    return f"journal:{folder}/s.log"


def database(folder):
    """The default storage."""
    return f"sqlite:///{folder}/study.db"


def states(study):
    return [trial.state.name for trial in study.trials]


# A killed driver closes no connection, and Python 3.13 says so when it collects one, in this test or in a later one.
STRICT = pytest.mark.filterwarnings(
    "error",
    "ignore:<psycopg.Connection.*was deleted while still open:ResourceWarning",
    "ignore:unclosed database:ResourceWarning",
)


@STRICT
class TestKilledDriver:
    @pytest.mark.parametrize("kill", KILLS)
    def test_a_restarted_study_is_the_undisturbed_one(self, tmp_path, expected, kill):
        restart_after(kill, log(tmp_path), tmp_path, expected)

    @pytest.mark.parametrize("kill", ["asking", "telling"])  # the two that die within a call of the storage
    def test_a_database_keeps_it_as_well(self, tmp_path, expected, kill):
        restart_after(kill, database(tmp_path), tmp_path, expected)

    @pytest.mark.parametrize("kill", ["asking", "telling"])
    def test_a_server_keeps_it_as_well(self, postgres_database, tmp_path, expected, kill):
        restart_after(kill, postgres_database, tmp_path, expected)

    def test_killed_at_every_trial_it_still_ends(self, tmp_path):
        for victim in range(BUDGET):
            with pytest.raises(Killed):
                Driver(log(tmp_path), tmp_path).run("running", victim)
        again = Driver(log(tmp_path), tmp_path)
        again.run()
        assert states(again.study) == ["COMPLETE"] * BUDGET

    def test_several_orphans_are_handed_out_first_in_their_order(self, tmp_path):
        first = Driver(log(tmp_path), tmp_path)
        seeds = [first.suggest()[1]["seed"] for _ in range(3)]
        again = Driver(log(tmp_path), tmp_path)
        configs = [again.suggest()[1] for _ in range(4)]
        assert [config["trial"] for config in configs] == [0, 1, 2, 3]
        assert [config["attempt"] for config in configs] == [2, 2, 2, 1]
        assert [config["seed"] for config in configs[:3]] == seeds
        assert len(set(seeds)) == 3

    def test_an_orphan_that_loses_its_process_again_and_again_fails(self, tmp_path):
        for _ in range(10):
            assert Driver(log(tmp_path), tmp_path).suggest()[1]["trial"] == 0
        driver = Driver(log(tmp_path), tmp_path)
        assert driver.suggest()[1]["trial"] == 1
        assert driver.study.trials[0].state == TrialState.FAIL
        assert "lost its process 10 times" in common_failure(driver.study)

    def test_an_orphan_that_gets_further_each_time_is_given_all_the_time_it_needs(self, tmp_path):
        for step in range(1, 7):
            driver = Driver(log(tmp_path), tmp_path)
            trial, config = driver.suggest()
            assert (config["trial"], config["attempt"]) == (0, step)
            driver.report(trial, {"stage": "hypernetwork", "step": step}, {"step": step})

    def test_a_smaller_budget_still_ends_what_was_begun(self, tmp_path):
        with pytest.raises(Killed):
            Driver(log(tmp_path), tmp_path).run("running", 3)
        again = Driver(log(tmp_path), tmp_path, budget=2)
        again.run()
        assert states(again.study) == ["COMPLETE"] * 4


class TestStateMachine:
    def test_it_waits_while_running_trials_may_fill_the_budget_and_replaces_what_fails(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path, budget=2)
        (one, config), (two, _) = driver.suggest(), driver.suggest()
        assert driver.suggest()[1] is None
        driver.finish(one, {"status": "failed", "reason": "out of memory"})
        three, _ = driver.suggest()
        assert driver.suggest()[1] is None
        driver.finish(two, {"status": "pruned", "reason": "pool too small", "control_error": 0.5})
        assert driver.suggest()[1] is None
        driver.finish(three, complete(config["params"]))
        assert driver.suggest()[1] == Searcher.FINISHED
        assert states(driver.study) == ["FAIL", "PRUNED", "COMPLETE"]

    def test_a_sweep_in_which_everything_fails_is_given_up(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path, max_failures=3)
        for epoch in range(3):
            trial, _ = driver.suggest()
            driver.finish(trial, {"status": "failed", "reason": f"loss is NaN in epoch {epoch}"})
        assert driver.suggest()[1] == Searcher.FINISHED
        assert common_failure(driver.study) == "loss is NaN in epoch 2"

    def test_the_defaults_come_first_then_what_a_person_enqueued(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        driver.study.enqueue_trial({"c_end": 0.5})
        configs = [driver.suggest()[1] for _ in range(3)]
        assert [config["trial"] for config in configs] == [0, 1, 2]
        params = configs[0]["params"]
        assert {name: params[name] for name in SPACE} == dict(DEFAULT_PARAMS)
        assert params["c_start"] == pytest.approx(0.1) and params["t_end"] == pytest.approx(0.2)
        assert driver.study.trials[0].user_attrs["c_start"] == params["c_start"]
        assert configs[1]["params"]["c_end"] == 0.5 and configs[2]["params"]["c_end"] != 0.5

    def test_trials_whose_values_cannot_be_fail_with_the_reason_and_count_as_none(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path, budget=2, max_failures=1)
        for params, _ in IMPOSSIBLE:
            driver.study.enqueue_trial(params)
        driver.run()
        assert states(driver.study) == ["COMPLETE", *["FAIL"] * len(IMPOSSIBLE), "COMPLETE"]
        for trial, (_, word) in zip(driver.study.trials[1:], IMPOSSIBLE, strict=False):
            assert word in trial.user_attrs["reason"]

    def test_one_that_a_dead_driver_left_running_fails_as_well(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        driver.study.enqueue_trial({"pivots": 4})
        for _ in range(2):
            driver.study.ask()
        again = Driver(log(tmp_path), tmp_path, budget=2)
        again.run()
        assert states(again.study) == ["COMPLETE", "FAIL", "COMPLETE"]

    def test_a_number_that_equals_a_category_is_that_category(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        driver.study.enqueue_trial({"pivots": 3.0, "c_end": 1})
        params = [driver.suggest()[1] for _ in range(2)][1]["params"]
        assert type(params["pivots"]) is int and type(params["c_end"]) is float

    def test_trials_of_others_teach_the_sampler_and_are_no_results(self, tmp_path):
        (tmp_path / "other").mkdir()
        other = Driver(log(tmp_path / "other"), tmp_path / "other", budget=3)
        other.run()
        driver = Driver(log(tmp_path), tmp_path, budget=2)
        driver.study.add_trials(other.study.trials)
        driver.study.add_trial(create_trial(params=dict(DEFAULT_PARAMS), distributions=SPACE, value=99.0))
        driver.run()
        assert finished_trials(driver.study) == 2
        assert {trial.number for trial in finalists(driver.study, 9)} == {0, 5}
        driver.study.add_trial(driver.study.trials[5])
        assert {trial.number for trial in finalists(driver.study, 9)} == {0, 5}, "a copy has no files"

    def test_a_trial_that_a_person_asks_for_meanwhile_is_not_waited_for(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path, budget=1)
        trial, config = driver.suggest()
        driver.study.ask()
        driver.finish(trial, complete(config["params"]))
        assert driver.suggest()[1] == Searcher.FINISHED

    def test_after_a_limit_what_runs_ends_first_and_may_lift_it(self, tmp_path):
        reached = True
        driver = Driver(log(tmp_path), tmp_path, ended=lambda: reached)
        reached = False
        (one, config), (two, _) = driver.suggest(), driver.suggest()
        reached = True
        driver.finish(one, complete(config["params"]))
        assert driver.suggest()[1] is None
        again = Driver(log(tmp_path), tmp_path, ended=lambda: True)
        assert again.suggest()[1]["trial"] == 1, "what a dead driver left ends too"
        driver.finish(two, complete(config["params"]))
        assert driver.suggest()[1] == Searcher.FINISHED
        reached = False
        assert driver.suggest()[1]["trial"] == 2

    def test_a_lost_lock_stops_it(self, tmp_path):
        def check():
            raise StudyError("taken over")

        with pytest.raises(StudyError, match="taken over"):
            Driver(log(tmp_path), tmp_path, check=check).suggest()


class TestTelling:
    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            ({"status": "complete", "value": math.nan, "control_error": 0.1}, "value is nan"),
            ({"status": "complete", "value": 0.5}, "control_error is None"),
            ({"status": "failed", "reason": "boom", "traceback": "x" * 9000}, "boom"),
            ({"status": "failed"}, "no reason"),
            ({}, "no status"),
        ],
    )
    def test_what_is_no_result_is_a_failure_with_a_reason(self, tmp_path, result, reason):
        driver = Driver(log(tmp_path), tmp_path)
        trial, _ = driver.suggest()
        driver.finish(trial, result)
        told = driver.study.trials[0]
        assert told.state == TrialState.FAIL and reason in told.user_attrs["reason"]

    @pytest.mark.parametrize("status", ["complete", "pruned"])
    def test_the_constraint_is_known_for_complete_and_pruned_trials(self, tmp_path, status):
        driver = Driver(log(tmp_path), tmp_path)
        trial, config = driver.suggest()
        driver.finish(trial, complete(config["params"]) | {"status": status, "control_error": 0.75})
        [told] = driver.study.trials
        assert told.constraints["control_error"] == 0.5
        assert told.system_attrs["constraints"] == [0.5], "which optuna-dashboard 0.21 reads"

    def test_two_objectives(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path, objectives=("value", "control"))
        trial, config = driver.suggest()
        driver.report(trial, {"step": 1, "intermediate": 0.3, "intermediate_step": 1})
        driver.finish(trial, complete(config["params"]) | {"value": 0.5})
        assert driver.study.trials[0].values == [0.5, 0.1]
        trial, config = driver.suggest()
        driver.finish(trial, {"status": "pruned", "reason": "pool too small", "control_error": 0.4})
        driver.run()
        assert states(driver.study) == ["COMPLETE", "PRUNED"] + ["COMPLETE"] * (BUDGET - 2)

    @pytest.mark.parametrize("last", ["parameters", "latency"])
    def test_what_an_ensemble_takes_is_an_objective(self, tmp_path, last):
        driver = Driver(log(tmp_path), tmp_path, objectives=("value", "control", last), budget=1)
        trial, config = driver.suggest()
        driver.finish(trial, complete(config["params"]) | {"value": 0.5, "attributes": {last: 2e5}})
        assert driver.study.trials[0].values == [0.5, 0.1, 2e5]
        assert [direction.name for direction in driver.study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]

    def test_a_dead_worker_is_a_failure_unless_its_result_had_arrived(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        (one, _), (two, config) = driver.suggest(), driver.suggest()
        driver.report(one, {"step": 1, "control_error": 0.2})
        driver.finish(one, error=True)
        driver.report(two, complete(config["params"], step=1))
        driver.finish(two, error=True)
        assert states(driver.study) == ["FAIL", "COMPLETE"]
        assert "worker died" in driver.study.trials[0].user_attrs["reason"]

    def test_a_storage_that_fails_once_while_telling_loses_nothing(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        trial, config = driver.suggest()
        die_in(driver.study._storage, "set_trial_state_values")
        with pytest.raises(Killed):
            driver.finish(trial, complete(config["params"]))
        driver.finish(trial, error=True)  # what Tune does after an exception
        assert states(driver.study) == ["COMPLETE"]
        driver.finish(trial, error=True)
        assert states(driver.study) == ["COMPLETE"]


class TestPruning:
    def driver(self, folder):
        driver = Driver(log(folder), folder)
        driver.study.pruner = MedianPruner(n_startup_trials=0)
        return driver

    def candidates(self, driver, level, control_error=0.1):
        """A trial that reports five candidates of accuracy `level`; returns at which it was stopped."""
        trial, config = driver.suggest()
        for k in range(1, 6):
            report = {"stage": "candidates", "step": k, "control_error": control_error}
            if driver.report(trial, report | {"intermediate": level + 0.01 * k, "intermediate_step": k}):
                driver.finish(trial)
                return k
        driver.finish(trial, complete(config["params"], value=level, step=5))
        return None

    def test_the_studys_pruner_stops_a_trial_and_it_is_recorded_as_pruned(self, tmp_path):
        driver = self.driver(tmp_path)
        assert self.candidates(driver, 0.6) is None
        assert self.candidates(driver, 0.3, control_error=0.35) == 1
        pruned = driver.study.trials[1]
        assert pruned.state == TrialState.PRUNED and pruned.value == pytest.approx(0.31)
        assert pruned.user_attrs["pruned_step"] == 1 and "pruner" in pruned.user_attrs["reason"]
        assert pruned.constraints["control_error"] == pytest.approx(0.1)
        frame = trials_frame(driver.study)
        assert frame["pruned_value"].tolist()[1] == pytest.approx(0.31)

    @STRICT
    def test_a_resumed_trial_repeats_intermediate_values_without_harm(self, tmp_path):
        driver = self.driver(tmp_path)
        trial, _ = driver.suggest()
        for k in (1, 2):
            driver.report(trial, {"step": k, "intermediate": 0.5, "intermediate_step": k})
        again = self.driver(tmp_path)
        assert self.candidates(again, 0.4) is None
        values = again.study.trials[0].intermediate_values
        assert list(values) == [1, 2, 3, 4, 5] and values[2] == 0.5

    def test_a_finished_trial_and_a_nan_are_not_pruned(self, tmp_path):
        driver = self.driver(tmp_path)
        self.candidates(driver, 0.9)
        trial, config = driver.suggest()
        nan = {"step": 1, "intermediate": math.nan, "intermediate_step": 1}
        assert not driver.report(trial, nan)
        last = complete(config["params"], value=0.1, step=2, intermediate=0.1, intermediate_step=2)
        assert not driver.report(trial, last)
        driver.finish(trial)
        assert states(driver.study) == ["COMPLETE", "COMPLETE"]


class TestCheckpoints:
    def killed(self, storage, folder):
        with pytest.raises(Killed):
            Driver(storage, folder).run("running", 0)

    def test_a_study_folder_can_be_moved(self, tmp_path, tmp_path_factory):
        storage = log(tmp_path)
        self.killed(storage, tmp_path)
        moved = tmp_path_factory.mktemp("moved") / "study"
        shutil.move(tmp_path, moved)
        _, config = Driver(storage.replace(str(tmp_path), str(moved)), moved).suggest()
        assert (moved / config["checkpoint"]).is_dir() and config["checkpoint"].endswith("000002")

    @pytest.mark.parametrize("noted", ["{outside}", "../outside", "link"])
    def test_a_checkpoint_noted_outside_the_folder_is_not_read(self, tmp_path, noted, caplog):
        folder, outside = tmp_path / "study", tmp_path / "outside"
        self.killed(log(folder), folder)
        outside.mkdir()
        (folder / "link").symlink_to(outside)
        study = Driver(log(folder), folder).study
        study._storage.set_trial_user_attr(study.trials[0]._trial_id, "checkpoint", noted.format(outside=outside))
        assert Driver(log(folder), folder).suggest()[1]["checkpoint"] is None
        assert "starts over" in caplog.text

    def test_two_checkpoints_of_a_trial_are_kept_over_all_drivers(self, tmp_path):
        def note(run, number, step):
            driver = Driver(log(tmp_path), tmp_path)
            trial, _ = driver.suggest()
            for k in range(number):
                place = tmp_path / "ray" / run / "trial-0-x" / f"checkpoint_{k:06d}"
                place.mkdir(parents=True)
                driver.report(trial, {"step": step + k})
                driver.searcher.note_checkpoint(trial.trial_id, tune.Checkpoint.from_directory(str(place)))
            return sorted(str(path.relative_to(tmp_path / "ray")) for path in tmp_path.glob("ray/*/*/*"))

        other = tmp_path / "ray" / "sweep-1" / "trial-01-y" / "checkpoint_000000"
        other.mkdir(parents=True)
        others = [str(other.relative_to(tmp_path / "ray"))]
        own = "{}/trial-0-x/checkpoint_00000{}".format
        assert note("sweep-1", 2, 1) == sorted([own("sweep-1", 0), own("sweep-1", 1), *others])
        assert own("sweep-1", 1) in note("sweep-2", 1, 3), "until the second, for the case that the first is damaged"
        assert note("sweep-3", 2, 4) == sorted([own("sweep-3", 0), own("sweep-3", 1), *others])

    def test_without_its_checkpoint_a_trial_starts_over(self, tmp_path):
        self.killed(log(tmp_path), tmp_path)
        shutil.rmtree(tmp_path / "ray")
        again = Driver(log(tmp_path), tmp_path)
        configs = again.run()
        assert configs[0]["checkpoint"] is None and configs[0]["attempt"] == 2
        assert [line["step"] for line in read_curve(curve_path(tmp_path, 0))] == [1, 2, 3, 4]

    def test_a_retry_by_tune_counts_as_an_attempt(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        trial, config = driver.suggest()
        driver.report(trial, {"step": 1})
        driver.callback.on_trial_recover(iteration=0, trials=[], trial=trial)
        driver.report(trial, {"step": 1})
        driver.finish(trial, complete(config["params"], step=2))
        assert driver.study.trials[0].user_attrs["attempts"] == 2
        assert [line["attempt"] for line in read_curve(curve_path(tmp_path, 0))] == [2, 2]


class TestCurves:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10), st.binary(max_size=5)), max_size=5))
    def test_attempts_that_resume_and_die_anywhere_leave_one_gapless_curve(self, tmp_path_factory, attempts):
        path = tmp_path_factory.mktemp("curve") / "0000.jsonl"
        reached = 0
        for number, (start, length, torn) in enumerate([*attempts, (0, 1, b"")]):
            start = min(start, reached)  # a checkpoint is never ahead of the file
            writer = CurveWriter()
            for step in range(start + 1, start + length + 1):
                writer.append(path, {"step": step, "attempt": number, "loss": step / 3})
            reached = start + length
            with open(path, "ab") as stream:
                stream.write(torn.replace(b"\n", b"{"))
            curve = read_curve(path)
            assert [line["step"] for line in curve] == list(range(1, reached + 1))
            assert all(line["attempt"] == number for line in curve[start:])

    def test_two_reports_of_one_step_are_one_record_without_what_is_not_a_metric(self, tmp_path):
        driver = Driver(log(tmp_path), tmp_path)
        trial, config = driver.suggest()
        driver.report(trial, {"step": 1, "metrics": {"loss": np.float32(0.5)}, "pid": 3, "config": {}, "done": False})
        driver.finish(trial, complete(config["params"], step=1, value=0.5))
        expected = {"step": 1, "loss": 0.5, "attempt": 1, "status": "complete", "value": 0.5, "control_error": 0.1}
        assert read_curve(curve_path(tmp_path, 0)) == [expected]

    def test_no_file_is_no_curve_and_a_damaged_one_is_an_error(self, tmp_path):
        path = tmp_path / "0000.jsonl"
        assert read_curve(path) == []
        for line in ("{", "[]", "{}", '{"step": "x"}'):
            path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
            with pytest.raises(CheckpointError, match="Line 2"):
                read_curve(path)


def test_what_ray_pickles_holds_no_connection_and_no_password_and_is_not_restored(tmp_path):
    driver = Driver(f"sqlite:///{tmp_path}/s.db?password=hunter2", tmp_path)
    driver.suggest()
    for part in (driver.searcher, driver.scheduler, driver.callback):
        pickled = cloudpickle.dumps(part)
        assert b"hunter2" not in pickled and b"sqlite" not in pickled
        with pytest.raises(StudyError, match="not restored"):
            cloudpickle.loads(pickled)
