"""A lease on a study, by which one process drives it."""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgenes.checkpoint import write_json
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import DRIVER, DRIVER_LOCK

_log = logging.getLogger(__name__)
STALE = 60.0
"""Seconds without a heartbeat after which a holder is taken for dead."""
_BEATS = 4  # heartbeats in that time, so that one or two late ones do no harm
_RECORD = {"host": (str,), "pid": (int,), "started": (str,), "heartbeat": (int, float), "token": (str,)}


class Lease:
    """A JSON file that names the process that holds it, and a thread that touches it while that process lives."""

    def __init__(self, file: Path, stale: float = STALE):
        self.host = socket.gethostname()
        self._file, self._stale = file, stale
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def holder(self) -> dict[str, Any]:
        """The record of the process that holds the file; {} without one."""
        return read_driver(self._file)

    def holds(self) -> bool:
        """Whether this process holds the file."""
        return self.holder().get("token") == self._token

    def taken(self) -> bool:
        """Whether a living process holds the file: it is watched until it changes, for `stale` seconds at most.

        Only changes count, since the clocks of hosts differ and jump.
        """
        last, until = self._state(), time.monotonic() + self._stale
        while last is not None and time.monotonic() < until:
            time.sleep(min(1.0, self._stale / 20))
            now = self._state()
            if now != last:
                return now is not None
        return False

    def take(self) -> None:
        """Take the file, whoever holds it, and start its heartbeat."""
        record = {
            "host": self.host,
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "heartbeat": self._stale / _BEATS,
            "token": self._token,
        }
        write_json(self._file, record)
        self._thread.start()

    def check(self) -> None:
        """Raise StudyError if another process has taken the file, as when this host slept too long."""
        if not self.holds():
            now = self.holder()
            raise StudyError(
                f"This process no longer drives the study: {self._file} "
                + (f"now names {_who(now)}." if now else "was removed.")
                + " It was stopped or suspended for too long. Start it again once the other one has ended."
            )

    def end(self) -> None:
        """Stop the heartbeat, and remove the file if it is still this process's."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a folder that turned read-only keeps it; the next one replaces it
            if self.holds():
                self._file.unlink()

    def _state(self) -> tuple[dict[str, Any], int] | None:
        # Reading first makes a network file system ask its server again.
        with contextlib.suppress(FileNotFoundError):
            return self.holder(), self._file.stat().st_mtime_ns
        return None

    def _beat(self) -> None:
        while not self._stop.wait(self._stale / _BEATS):
            try:
                if not self.holds():
                    _log.error("%s was taken over by another process.", self._file)
                    return
                os.utime(self._file)  # needs no space on a full disk
            except OSError as error:
                _log.warning("The heartbeat of %s failed: %s", self._file, error)


@contextlib.contextmanager
def study_lock(folder: Path, stale: float = STALE) -> Iterator[Lease]:
    """Hold the study in `folder`; the `check` of what is yielded raises StudyError once it is held no more.

    The lease of a dead process of this host is taken over at once. A driver on another host, whose file lock this one
    may not see on a network file system, is respected until its heartbeat has been missing for `stale` seconds.
    Raises StudyError, naming the other driver, if there is one.
    """
    lease = Lease(Path(folder) / DRIVER, stale)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # The lock file is never deleted: a second driver could lock a new one of the same name.
        lock = FileLock(Path(folder) / DRIVER_LOCK, timeout=0, fallback_to_soft=False)
        lock.acquire()
    except Timeout:
        raise StudyError(_refusal(folder, lease.holder())) from None
    except (OSError, NotImplementedError) as error:
        raise StudyError(
            f"The study's lock {Path(folder) / DRIVER_LOCK} cannot be taken: {error}. Put the study in a folder that "
            "can be written, on a file system that has file locks."
        ) from None
    try:
        other = lease.holder()
        if other and other.get("host") != lease.host and lease.taken():
            raise StudyError(_refusal(folder, other))
        lease.take()
        try:
            yield lease
        finally:
            lease.end()
    finally:
        lock.release()


def read_driver(file: Path) -> dict[str, Any]:
    """What a lease's file says: host, pid, started, heartbeat (seconds between touches), token; {} without one.

    What is of another type is left out: the file comes with the folder, perhaps from a stranger.
    """
    try:
        record = json.loads(file.read_bytes()) if file.is_file() else {}  # a pipe would be waited for
    except (ValueError, RecursionError, FileNotFoundError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {name: record[name] for name, types in _RECORD.items() if type(record.get(name)) in types}


def _who(record: dict[str, Any]) -> str:
    return f"process {record.get('pid')} on {record.get('host')}, started {record.get('started')}"


def _refusal(folder: Path, record: dict[str, Any]) -> str:
    who = _who(record) if record else "a process that is just starting or ending"
    return (
        f"The study in {folder} is already driven by {who}. Wait until it has ended, or end it; after a crash of "
        "another host its lease expires by itself."
    )
