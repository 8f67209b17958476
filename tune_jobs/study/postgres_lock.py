"""One driver a study in a PostgreSQL database, where drivers with folders of their own would not see each other."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from edgenes.seeds import stable_seed
from tune_jobs.errors import StudyError
from tune_jobs.study.storage import cannot_open

_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_HOLDER = text(
    "SELECT application_name, backend_start FROM pg_stat_activity JOIN pg_locks USING (pid) "
    "WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32) | objid::bigint = :key"
)
_NOTICE_DEAD_HOSTS = text(
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)


@contextlib.contextmanager
def database_lock(url: str, study: str) -> Iterator[Callable[[], None]]:
    """Hold `study` in the database `url` with an advisory lock, which the server frees when this process is gone.

    Yields a function that raises StudyError if the lock was lost: with a broken connection, after which another driver
    took it. Other storages hold nothing. Raises StudyError, naming the other driver, if there is one.
    """
    if not url.startswith("postgresql"):
        yield lambda: None
        return
    # Application names have at most 63 bytes, so the process comes before a long host name.
    name = f"edgenes {os.getpid()} on {socket.gethostname()}"
    query = {"application_name": name[:63]}
    try:
        engine = create_engine(make_url(url).update_query_dict(query), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise cannot_open(url, error) from None
    lock = _Lock(engine, url, study)
    try:
        lock.take()
        yield lock.check
    finally:
        lock.end()


class _Lock:
    """An advisory lock, which lives as long as its connection."""

    def __init__(self, engine: Engine, url: str, study: str):
        self._engine, self._url, self._study = engine, url, study
        self._connection: Connection | None = None
        # The upper half sets it apart from other programs' locks, which mostly count from 0.
        self._key = {"key": (stable_seed("edgenes") << 32) | stable_seed("study", study)}

    def take(self) -> None:
        try:
            self._connection = self._engine.connect()
            self._connection.execute(_NOTICE_DEAD_HOSTS)
            if self._connection.execute(_TAKE, self._key).scalar():
                return
            holder = self._connection.execute(_HOLDER, self._key).first()
        except SQLAlchemyError as error:
            raise cannot_open(self._url, error) from None
        who = f"{holder[0] or 'a process'}, connected since {holder[1]}" if holder else "a process that is just ending"
        raise StudyError(
            f"The study {self._study!r} in the database is already driven by {who}. Wait until it has ended, or end it."
        )

    def check(self) -> None:
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:  # the server was restarted, or the network broke: the lock went with the connection
            self.end()
            self.take()

    def end(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
