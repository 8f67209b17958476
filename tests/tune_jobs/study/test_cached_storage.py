"""The driver's view of its study is the database's, whatever was written in which order, without reading it all."""

import itertools

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tune_jobs.study.cached_storage import SoleWriterStorage, written_together
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.space import search_space

NUMBERS = itertools.count()
SPACE = {"x": FloatDistribution(0, 1)}


def plain(trials):
    return [
        (t.number, t.state, t.params, t.values, t.user_attrs, t.system_attrs, t.intermediate_values) for t in trials
    ]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database for many studies: to make one takes a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('studies') / 'shared.db'}"


def driven(url, name="s"):
    return optuna.create_study(storage=SoleWriterStorage(RDBStorage(url)), study_name=name, load_if_exists=True)


OPERATIONS = ("ask", "enqueue", "attribute", "report", "constraint", "tell", "prune", "other", "look")


@settings(max_examples=12, deadline=None)
@given(operations=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 5)), max_size=20))
def test_every_write_of_this_process_and_every_trial_of_another_is_seen(database, operations):
    name = f"study {next(NUMBERS)}"
    study = driven(database, name)
    other = optuna.load_study(study_name=name, storage=database)
    running = []
    for step, (what, which) in enumerate(operations):
        trial = running[which % len(running)] if running else None
        if what == "ask":
            running.append(study.ask(SPACE))
        elif what == "enqueue":
            study.enqueue_trial({"x": step / 100})
        elif what == "other":  # a trial that another process adds
            other.enqueue_trial({"x": step / 100})
        elif what == "look":
            study.get_trials(deepcopy=False)
        elif trial is None:
            continue
        elif what == "attribute":
            trial.set_user_attr("step", step)
        elif what == "constraint":
            trial.set_constraint(f"c{step}", float(step))
        elif what == "report":
            trial.report(step / 10, step)
        else:
            running.remove(trial)
            study.tell(trial, *([step / 7] if what == "tell" else [None, TrialState.PRUNED]))
    fresh = optuna.load_study(study_name=name, storage=database)
    assert plain(study.get_trials()) == plain(fresh.get_trials())
    for states in ((TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.PRUNED)):
        assert plain(study.get_trials(states=states)) == plain(fresh.get_trials(states=states))


def test_what_an_earlier_driver_left_is_seen(url):
    first = driven(url)
    trial = first.ask(SPACE)
    trial.report(0.5, 1)
    study = driven(url)
    assert plain(study.get_trials()) == plain(first.get_trials())
    assert study.get_trials()[0].intermediate_values == {1: 0.5}


def test_running_trials_are_not_read_again_and_again(url, monkeypatch):
    study = driven(url)
    trials = [study.ask(SPACE) for _ in range(20)]
    study.get_trials()
    read = []
    build = RDBStorage._build_frozen_trial_from_trial_model
    monkeypatch.setattr(
        RDBStorage, "_build_frozen_trial_from_trial_model", lambda *given: read.append(1) or build(*given)
    )
    trials[3].set_user_attr("a", 1)
    read.clear()
    for _ in range(5):
        assert study.get_trials(deepcopy=False)[3].user_attrs == {"a": 1}
    assert len(read) == 1


def test_studies_of_one_database_do_not_mix(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    storage = SoleWriterStorage(RDBStorage(url))
    one, two = (optuna.create_study(storage=storage, study_name=name) for name in ("one", "two"))
    for value, study in enumerate((one, two, one, two)):
        study.tell(study.ask(SPACE), float(value))
        assert len(one.get_trials()) == (value + 2) // 2
    assert [trial.value for trial in two.get_trials()] == [1.0, 3.0]


def test_a_studys_driver_opens_it_so(url):
    assert isinstance(open_study("s", url, space=search_space("exact"))._storage, SoleWriterStorage)


def life_of_a_trial(study):
    trial = study.ask(SPACE)
    trial.set_user_attr("a", 1)
    study.get_trials(deepcopy=False)
    trial.report(0.5, 1)
    trial.set_constraint("c", -1.0)
    study.tell(trial, 0.5)


def test_what_is_written_together_is_one_commit(url):
    study = driven(url)
    changes = []
    event.listen(study._storage._backend.engine, "commit", lambda connection: changes.append(files()))

    def files():  # what another connection sees just before the commit
        with RDBStorage(url).engine.connect() as connection:
            return connection.exec_driver_sql("SELECT COUNT(*) FROM trials").scalar()

    with written_together(study), written_together(study):
        life_of_a_trial(study)
        assert files() == 0 and not changes
    assert changes == [0] and files() == 1
    assert plain(study.get_trials()) == plain(driven(url).get_trials())
    assert study.get_trials()[0].constraints == {"c": -1.0}


@settings(max_examples=6, deadline=None)
@given(before=st.integers(0, 3), running=st.booleans(), looks=st.booleans())
def test_after_an_exception_none_of_it_is_there_and_the_view_is_the_databases(database, before, running, looks):
    name = f"study {next(NUMBERS)}"
    study = driven(database, name)
    for _ in range(before):
        life_of_a_trial(study)
    trial = study.ask(SPACE) if running else None
    expected = plain(study.get_trials())
    with pytest.raises(KeyboardInterrupt), written_together(study):
        if running:
            trial.set_user_attr("b", 2)
            study.tell(trial, 1.0)
        life_of_a_trial(study)
        if looks:
            study.get_trials(deepcopy=False)
        raise KeyboardInterrupt
    assert plain(driven(database, name).get_trials()) == plain(study.get_trials()) == expected
    if running:
        study.tell(trial, 2.0)
    life_of_a_trial(study)
    assert plain(driven(database, name).get_trials()) == plain(study.get_trials())
    assert [t.number for t in study.get_trials()] == list(range(before + running + 1))


def test_a_write_that_fails_and_is_passed_over_takes_the_others_with_it(url):
    study = driven(url)
    trial = study.ask(SPACE)

    def fail(connection, cursor, statement, parameters, *rest):
        if "second" in parameters:
            raise OperationalError("a write", {}, Exception("failed"))

    event.listen(study._storage._backend.engine, "before_cursor_execute", fail)
    with pytest.raises(StorageInternalError, match="rolled back"), written_together(study):
        trial.set_user_attr("first", 1)
        with pytest.raises(StorageInternalError):
            trial.set_user_attr("second", 2)
    assert study.get_trials()[0].user_attrs == driven(url).get_trials()[0].user_attrs == {}
