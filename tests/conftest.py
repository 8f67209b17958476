"""What tests share: marks, a local Ray, servers, and one finished study, each started once and only where used."""

import gc
import os
import sqlite3
import sys
import uuid
from pathlib import Path

import pytest
import sqlalchemy
import torch
from alembic.script import ScriptDirectory
from hypothesis import settings

from tune_jobs.execution.process import leave_out_compiler

os.environ["EDGENES_CACHE"] = "off"  # no test takes from the user's own, and those that compare start cold

# Ray reads these while it is imported.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # Ray's name for: listen on the loopback only
    RAY_DEDUP_LOGS="0",
    RAY_metrics_report_interval_ms="1000",  # ten seconds else
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
)


leave_out_compiler()  # as a worker does: a process's first training would import it for seconds
gc.set_threshold(50_000, 50, 100)  # by default a seventh of the unit tests' time goes to the search for cycles
settings.register_profile("tests", deadline=None)  # no test asserts a time
settings.load_profile("tests")
os.fsync = lambda file: None  # no power fails here, and a wait for the disk is most of a small test's time


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _without_fsync(connection, record):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


_get_current_head = ScriptDirectory.get_current_head
_heads: dict[str, str | None] = {}


def _current_head(directory):
    """Optuna's newest schema, asked for whenever a database is opened: Alembic imports all of them each time."""
    if directory.dir not in _heads:
        _heads[directory.dir] = _get_current_head(directory)
    return _heads[directory.dir]


ScriptDirectory.get_current_head = _current_head


E2E_FIXTURES = {"undisturbed", "postgres_url", "s3_url"}
RAY_FIXTURES = {"ray_local"}
_unit_test: str | None = None  # the id of the test that runs now, if it may start neither Ray nor a process


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Mark by folder and fixture: `e2e` for real drivers and servers, `ray` for a Ray in this process.

    The slow ones come first. A file runs in one process, and so does all that looks at the undisturbed study.
    """
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder == "e2e" or fixtures & E2E_FIXTURES:
            item.add_marker("e2e")
        if fixtures & RAY_FIXTURES:
            item.add_marker("ray")
        group = "undisturbed" if "undisturbed" in fixtures else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: [not item.get_closest_marker(mark) for mark in ("e2e", "ray")])
    items.sort(key=lambda item: "undisturbed" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test without a mark may start no process: it would slow down `make test-unit` unseen."""
    global _unit_test
    marked = item.get_closest_marker("e2e") or item.get_closest_marker("ray")
    _unit_test = None if marked else item.nodeid
    try:
        return (yield)
    finally:
        _unit_test = None


@sys.addaudithook
def _refuse_processes(event, arguments):
    if _unit_test and event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        program = Path(os.fsdecode(arguments[0])).name if arguments else ""
        if program not in ("git", "uname"):
            raise RuntimeError(f"{_unit_test} starts {program or 'a process'}: mark it with e2e or ray")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where EVERY_SERVER=1 says that everything is installed, a test that skips for want of it has failed."""
    report = yield
    if report.skipped and os.environ.get("EVERY_SERVER") == "1" and "needs " in str(getattr(call.excinfo, "value", "")):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _weights_of_one_seed():
    """Modules made without a generator have the same weights in any order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def ray_local():
    """Ray on two CPUs of this machine, reachable from nowhere else."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # workers import what tests import
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
        )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def postgres_url():
    """URL of a PostgreSQL database, with its password."""
    from tests.support.servers import postgres

    with postgres() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url):
    """URL of an empty database for one test."""
    name = f"d{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgres_url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def s3_url():
    """URL of a bucket on an S3 server."""
    from tests.support.servers import s3

    with s3() as url:
        yield url


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """A finished smoke study on digits, run as a person runs it.

    Beside it are what it printed, in the file `output`, and the folder `cache`, which was empty when it began.
    """
    from tests.faults.harness import SMOKE, go_on

    out = tmp_path_factory.mktemp("undisturbed") / "study"
    options = (*SMOKE, "--cache", str(out.parent / "cache"))
    (out.parent / "output").write_text(go_on(out, options).output)
    return out
