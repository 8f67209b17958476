"""The lock of a study in a real PostgreSQL, between real processes."""

import os
import signal
import time

import pytest
import sqlalchemy

from tests.support.servers import PASSWORD
from tests.tune_jobs.files.test_lease import end, start
from tune_jobs.errors import StudyError
from tune_jobs.study.postgres_lock import database_lock

HOLD = """
import os, sys
from tune_jobs.study.postgres_lock import database_lock
with database_lock(os.environ["URL"], "study"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(postgres_database, monkeypatch):
    """Another process that holds the study, and the URL of the database."""
    monkeypatch.setenv("URL", postgres_database)
    process, said = start(HOLD)
    assert said == "held"
    yield process, postgres_database
    end(process)


def disconnect(url):
    """End every other connection to the database, as a restart of the server does."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_terminate_backend(pid) {others}"))
        while connection.execute(sqlalchemy.text(f"SELECT count(*) {others}")).scalar():
            time.sleep(0.05)
    engine.dispose()


def test_a_second_driver_is_told_of_the_first_and_takes_over_when_that_is_killed(holder):
    process, url = holder
    told = f"already driven by edgenes {process.pid} on {os.uname().nodename}"
    with pytest.raises(StudyError, match=told) as refusal, database_lock(url, "study"):
        pass
    assert PASSWORD not in str(refusal.value)
    with database_lock(url, "another study"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while True:
        try:
            with database_lock(url, "study") as check:
                check()
            return
        except StudyError:  # the server notices in a moment
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_after_a_broken_connection_the_lock_is_taken_again(postgres_database):
    with database_lock(postgres_database, "study") as check:
        disconnect(postgres_database)
        check()
        with pytest.raises(StudyError, match="already driven"), database_lock(postgres_database, "study"):
            pass


def test_a_lock_that_another_driver_took_meanwhile_is_lost(postgres_database):
    with database_lock(postgres_database, "study") as check:
        disconnect(postgres_database)
        with database_lock(postgres_database, "study"), pytest.raises(StudyError, match=f"edgenes {os.getpid()} on"):
            check()
        check()


def test_a_server_that_is_not_there_is_an_error_without_the_password():
    url = f"postgresql+psycopg://study:{PASSWORD}@127.0.0.1:1/x"
    with pytest.raises(StudyError, match=r"storage .* cannot be opened") as refusal, database_lock(url, "study"):
        pass
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize("url", ["sqlite:///{}/study.db", "journal:{}/study.log"])
def test_a_file_has_its_lock_beside_it(tmp_path, url):
    url = url.format(tmp_path)
    with database_lock(url, "study") as check, database_lock(url, "study"):
        check()
    assert not list(tmp_path.iterdir())
