"""The study: storages, identity, samplers, pruners, and what is read back from it."""

import traceback

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from edgenes.config import HypernetworkConfig
from edgenes.seeds import stable_seed
from tune_jobs.config.passwords import redact
from tune_jobs.config.sweep import PRUNERS
from tune_jobs.errors import StudyError
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_pruner, make_sampler
from tune_jobs.study.space import DEFAULT_PARAMS, search_space, with_derived
from tune_jobs.study.storage import storage_file, storage_from
from tune_jobs.study.trials import ORIGIN, best_trial, common_failure, finalists, origin, trials_frame

SPACE = search_space("exact")


@pytest.fixture(params=["sqlite", "journal"])
def url(request, tmp_path):
    return {"sqlite": f"sqlite:///{tmp_path}/a/study.db", "journal": f"journal:{tmp_path}/a/study.log"}[request.param]


def add(study, state=TrialState.COMPLETE, values=None, error=None, attributes=None, params=None):
    constraints = {} if error is None else {"constraints:control_error": error - 0.25}
    params = DEFAULT_PARAMS | (params or {})
    study.add_trial(
        create_trial(
            state=state,
            values=values,
            params={name: params[name] for name in SPACE},
            distributions=SPACE,
            user_attrs={ORIGIN: origin(None, len(study.trials))} | (attributes or {}),
            system_attrs=constraints,
            intermediate_values={1: 0.4} if state == TrialState.PRUNED else {},
        )
    )


def empty(objectives=("value",)):
    directions = ["maximize", "minimize"][: len(objectives)]
    return optuna.create_study(directions=directions)


def test_a_parameter_of_another_kind_is_refused_with_its_trial(url):
    study = open_study("s", url, space=SPACE)
    other = {"pivots": IntDistribution(2, 9)}
    study.add_trial(create_trial(value=0.5, params={"pivots": 3}, distributions=other))
    with pytest.raises(StudyError, match=r"Trial 1 .*pivots"):
        open_study("s", url, space=SPACE)


class TestStorage:
    def test_a_plain_path_is_an_sqlite_file_in_a_folder_that_is_made(self, tmp_path):
        path = tmp_path / "new folder" / "study.db"
        open_study("s", path, space=SPACE)
        assert path.read_bytes().startswith(b"SQLite format 3")

    def test_sqlite_waits_a_minute_for_a_lock(self, tmp_path):
        storage = storage_from(tmp_path / "study.db")
        with storage.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000

    @pytest.mark.parametrize("scheme", ["", "journal:"])
    def test_a_file_that_is_something_else_is_refused_and_left_alone(self, tmp_path, scheme):
        path = tmp_path / "notes.txt"
        path.write_text("my notes, long enough to be no empty file" * 50)
        before = path.read_bytes()
        with pytest.raises(StudyError, match=r"notes\.txt cannot be opened"):
            open_study("s", f"{scheme}{path}", space=SPACE)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("scheme", ["", "journal:"])
    @pytest.mark.parametrize("place", ["a file/study.db", "."])
    def test_a_place_where_no_file_can_be_is_refused(self, tmp_path, scheme, place):
        (tmp_path / "a file").write_text("")
        with pytest.raises(StudyError, match="cannot be opened"):
            storage_from(f"{scheme}{tmp_path / place}")

    def test_a_storage_that_can_only_be_read_is_refused_at_once(self, tmp_path):
        open_study("s", tmp_path / "study.db", space=SPACE)
        with pytest.raises(StudyError, match="readonly"):
            open_study("s", f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true", space=SPACE)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://me:hunter2@db.invalid/studies",
            "nosuchbase://me:hunter2@db.invalid/studies",
            "sqlite:////proc/no/study.db?password=hunter2",
            "mysql+nosuchdriver://me:hunter2@db.invalid:notaport/studies",
        ],
    )
    def test_an_unreachable_storage_is_a_study_error_without_its_password(self, url):
        with pytest.raises(StudyError) as caught:
            storage_from(url)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    @given(st.text(st.characters(categories=["L", "N"], include_characters="@:/%"), min_size=1))
    def test_a_password_in_a_url_is_never_shown(self, password):
        shown = redact(f"postgresql://me:{password}@host:5432/db?sslpassword=k3y&x=1")
        assert shown == "postgresql://me:***@host:5432/db?sslpassword=***&x=1"
        assert redact("journal:/a:b@c/x.log") == "journal:/a:b@c/x.log"

    def test_the_file_behind_a_url(self, tmp_path):
        assert storage_file(f"sqlite:///{tmp_path}/s.db?timeout=3") == tmp_path / "s.db"
        assert storage_file(f"sqlite:///file:{tmp_path}/s.db?uri=true") == tmp_path / "s.db"
        assert storage_file(f"journal:{tmp_path}/s.log?x") == tmp_path / "s.log?x"
        assert storage_file(f"sqlite:///{tmp_path}/a%20b.db") == tmp_path / "a b.db", "as SQLAlchemy reads it"
        assert storage_file("postgresql://host/db") is None

    def test_a_journal_line_that_a_crash_tore_is_lost_and_nothing_after_it(self, tmp_path):
        path = tmp_path / "study.log"
        study = open_study("s", f"journal:{path}", space=SPACE)
        study.tell(study.ask(SPACE), 0.1)
        with open(path, "ab") as stream:
            stream.write(b'{"op_code":8,"worker_id":"x"')
        again = open_study("s", f"journal:{path}", space=SPACE)
        again.tell(again.ask(SPACE), 0.2)
        reread = open_study("s", f"journal:{path}", space=SPACE)
        assert [trial.value for trial in reread.trials] == [0.1, 0.2]


class TestSpace:
    @given(st.integers(0, 2**31 - 1))
    def test_whatever_is_drawn_is_a_valid_configuration_that_anneals_the_right_way(self, seed):
        study = empty()
        study.sampler = make_sampler("random", seed)
        params = with_derived(study.ask(search_space("both")).params)
        names = ("c_start", "c_end", "t_start", "t_end", "pivots", "epsilon", "estimator")
        config = HypernetworkConfig(**{name: params[name] for name in names})
        assert config.c_start <= config.c_end * (1 + 1e-12)
        assert config.t_end <= config.t_start * (1 + 1e-12)


def test_a_seed_is_the_same_on_every_machine_today_and_tomorrow():
    assert stable_seed(0, 1) == 507656083


class TestPruners:
    @pytest.mark.parametrize("name", [name for name in PRUNERS if name != "none"])
    def test_each_pruner_stops_the_worst_trial_of_many_and_none_never_does(self, name):
        def stopped_at(pruner):
            study = optuna.create_study(direction="maximize", pruner=pruner, study_name="fixed")
            for good in range(12):
                trial = study.ask(SPACE)
                for step in range(1, 9):
                    trial.report(0.5 + 0.01 * good, step)
                    trial.should_prune()
                study.tell(trial, 0.5 + 0.01 * good)
            trial = study.ask(SPACE)
            for step in range(1, 9):
                trial.report(0.1, step)
                if trial.should_prune():
                    return step
            return None

        assert stopped_at(make_pruner(name)) is not None
        assert stopped_at(make_pruner("none")) is None


class TestIdentity:
    def test_the_defaults_come_first_and_only_once(self, url):
        for _ in range(3):
            study = open_study("s", url, space=search_space("both"))
        assert len(study.trials) == 1
        trial = study.ask(search_space("both"))
        assert trial.params == dict(DEFAULT_PARAMS)
        study.tell(trial, state=TrialState.FAIL)
        assert len(open_study("s", url, space=search_space("both")).trials) == 1

    def test_a_study_reopens_with_its_settings_and_with_no_others(self, url):
        asked = {"space": SPACE, "seed": 3, "identity": {"data": "abc", "epochs": (1, 2)}}
        open_study("s", url, **asked)
        open_study("s", url, **asked)
        for change, told in [
            ({"seed": 4}, "seed: stored 3, asked 4"),
            ({"identity": {"data": "xyz", "epochs": (1, 2)}}, "data: stored 'abc', asked 'xyz'"),
            ({"identity": {"data": "abc"}}, "epochs"),
            ({"space": search_space("both")}, "space of estimator"),
            ({"objectives": ("value", "control")}, "objectives: stored"),
        ]:
            with pytest.raises(StudyError, match=told):
                open_study("s", url, **(asked | change))
        open_study("another", url, **(asked | {"seed": 4}))

    def test_a_study_of_another_program_is_not_joined(self, url):
        other = optuna.create_study(study_name="s", storage=storage_from(url), direction="maximize")
        other.tell(other.ask(), 1.0)
        with pytest.raises(StudyError, match="another program"):
            open_study("s", url, space=SPACE)

    def test_a_driver_that_died_while_creating_the_study_is_made_up_for(self, url):
        optuna.create_study(study_name="s", storage=storage_from(url), direction="maximize")
        assert len(open_study("s", url, space=SPACE).trials) == 1


class TestResults:
    def test_the_best_trial_is_the_best_feasible_one_and_ties_go_to_the_lower_number(self):
        study = empty()
        assert best_trial(study) is None
        add(study, values=[0.9], error=0.26)
        add(study, values=[0.5], error=0.25)
        add(study, values=[0.7], error=0.0)
        add(study, values=[0.7], error=0.0)
        add(study, values=[0.99])  # its control error is not known
        add(study, TrialState.PRUNED, error=0.0)
        trial, is_feasible = best_trial(study)
        assert (trial.number, is_feasible) == (2, True)
        assert [trial.number for trial in finalists(study, 9)] == [2, 3, 1]

    def test_if_nothing_is_feasible_the_least_control_error_wins(self):
        study = empty()
        add(study, values=[0.9], error=1.2)
        add(study, values=[0.5], error=0.4)
        add(study, values=[0.8], error=0.4)
        trial, is_feasible = best_trial(study)
        assert (trial.number, is_feasible) == (1, False)
        assert [trial.number for trial in finalists(study, 2)] == [1]

    def test_two_objectives_have_a_best_trial_too(self):
        study = empty(("value", "control"))
        add(study, values=[0.6, 0.1], error=0.1)
        add(study, values=[0.8, 0.2], error=0.2)
        add(study, values=[0.9, 0.3], error=0.3)
        assert best_trial(study)[0].number == 1

    def test_a_failure_is_common_if_only_its_numbers_differ(self):
        study = empty()
        assert common_failure(study) is None
        add(study, TrialState.FAIL, attributes={"reason": "loss is NaN at epoch 3"})
        add(study, TrialState.FAIL, attributes={"reason": "loss is NaN at epoch 12"})
        add(study, values=[0.5])
        assert common_failure(study) == "loss is NaN at epoch 12"
        add(study, TrialState.FAIL, attributes={"reason": "out of memory"})
        assert common_failure(study) is None

    def test_the_frame_has_a_row_a_trial_and_nan_for_what_is_missing(self):
        study = empty()
        attributes = {"control_error": 0.1, "standard_error": 0.01, "pool_size": 8, "control_curve": [1, 2]}
        add(study, values=[0.6], error=0.1, attributes=attributes, params={"c_end": 2.0})
        add(study, TrialState.PRUNED, values=[0.4], error=0.4, attributes={"reason": "too few", "pruned_step": 1})
        study.ask(SPACE)
        frame = trials_frame(study)
        assert list(frame["number"]) == [0, 1, 2]
        assert list(frame["state"]) == ["COMPLETE", "PRUNED", "RUNNING"]
        assert frame["value"].notna().tolist() == [True, False, False]
        assert frame.loc[0, "c_start"] == pytest.approx(0.2)
        assert frame["t_end"].notna().all()
        assert frame["feasible"].tolist() == [True, False, False]
        assert frame.loc[1, "pruned_value"] == 0.4 and frame.loc[1, "reason"] == "too few"
        assert frame["pool_size"].isna().tolist() == [False, True, True]
        assert {"attempts", "seconds", "cache_hits", "standard_error", "pruned_step"} <= set(frame)
        assert "control_curve" not in frame
