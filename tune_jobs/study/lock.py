"""One driver a study: a lock beside it, that outlives neither its process nor its host."""

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tune_jobs.config.passwords import redact
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import DRIVER
from tune_jobs.study.storage import storage_file

_log = logging.getLogger(__name__)
LOCK = f"{DRIVER}.lock"
"""The lock in a study's folder, which every driver leaves there."""
STALE = 60.0  # seconds without a heartbeat after which another host's driver is taken for dead
_RECORD = {"host": (str,), "pid": (int,), "started": (str,), "heartbeat": (int, float), "token": (str,)}
_BEATS = 4  # heartbeats in that time, so that one or two late ones do no harm


class Presence:
    """A JSON file that says which process drives a study, and a thread that touches it while that lives."""

    def __init__(self, file: Path, *, host: str | None = None, stale: float = STALE):
        self.file = file
        self.host = host or socket.gethostname()
        self.lost = False
        self._token = uuid.uuid4().hex
        self._interval = stale / _BEATS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="study-heartbeat", daemon=True)

    def begin(self) -> None:
        """Write the file, replacing what another driver left, and start to touch it."""
        record = {
            "host": self.host,
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "heartbeat": self._interval,
            "token": self._token,
        }
        fresh = self.file.with_name(f"{self.file.name}.{self._token}")
        fresh.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(fresh, self.file)
        self._thread.start()

    def end(self) -> None:
        """Stop the heartbeat, and remove the file if it is still this driver's."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(OSError):  # a folder that turned read-only keeps it; the next driver replaces it
            if self.holds():
                self.file.unlink(missing_ok=True)

    def holds(self) -> bool:
        """Whether the file still names this driver."""
        return read_driver(self.file).get("token") == self._token

    def check(self) -> None:
        """Raise StudyError if another driver has taken the study over, as when this host slept too long."""
        if self.lost or not self.holds():
            now = read_driver(self.file)
            raise StudyError(
                f"This process no longer drives the study: {self.file} "
                + (f"now names {_who(now)}." if now else "was removed.")
                + " It was stopped or suspended for too long. Start it again once the other one has ended."
            )

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                if not self.holds():
                    self.lost = True
                    _log.error("The study was taken over: %s names another driver.", self.file)
                    return
                os.utime(self.file)  # the file system's clock, not this host's
            except OSError as error:
                _log.warning("The heartbeat file %s could not be touched: %s", self.file, error)


@contextlib.contextmanager
def study_lock(place: str | Path, *, stale: float = STALE, host: str | None = None) -> Iterator[Presence]:
    """Hold the study in the folder `place`, or beside the file of `sqlite:///PATH` or `journal:PATH`.

    Yields a `Presence`, whose `check` tells whether the study is still held. The lock of a dead process of this
    host is taken over at once; a driver on another host, whose lock this one may not see on a shared file
    system, is respected until its heartbeat has been missing for `stale` seconds.
    Raises StudyError, naming the other driver, if there is one.
    """
    base = _base(place)
    file = base.with_name(f"{base.name}.json")
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        # The lock file is never deleted: a second driver could lock a new one of the same name.
        lock = FileLock(base.with_name(f"{base.name}.lock"), timeout=0, fallback_to_soft=False)
        lock.acquire()
    except Timeout:
        raise StudyError(_refusal(place, read_driver(file))) from None
    except (OSError, NotImplementedError) as error:
        raise StudyError(
            f"The study's lock {base}.lock cannot be taken: {error}. Put the study in a folder that can be "
            f"written, on a file system that knows file locks."
        ) from None
    try:
        presence = Presence(file, host=host, stale=stale)
        other = read_driver(file)
        if other and other.get("host") != presence.host and _alive(file, other, stale):
            raise StudyError(_refusal(place, other))
        try:
            presence.begin()
        except OSError as error:
            raise StudyError(
                f"{file}, which says who drives the study, cannot be written: {error.strerror}. Free some space, make "
                "the folder writable, or remove what stands in its place."
            ) from error
        try:
            yield presence
        finally:
            presence.end()
    finally:
        lock.release()


def read_driver(file: Path) -> dict[str, Any]:
    """What the presence file says: host, pid, started, heartbeat (seconds between touches), token; {} without one.

    What is of another type is left out: the file comes with the folder, perhaps from a stranger.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None  # a pipe is waited for
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {name: record[name] for name, types in _RECORD.items() if type(record.get(name)) in types}


def _base(place: str | Path) -> Path:
    file = storage_file(place)
    if file is not None:
        return file.with_name(f"{file.name}.driver")
    if "://" in str(place):
        raise StudyError(
            f"A lock needs a folder or a file, and {redact(str(place))} is a server. Give the study's folder."
        )
    if Path(place).is_file():
        raise StudyError(f"{place} is a file. Give the study's folder, or sqlite:///{place}.")
    return Path(place) / DRIVER


def _alive(file: Path, record: dict[str, Any], stale: float) -> bool:
    """Whether another host's driver touched `file` less than `stale` seconds ago, or does so while we look."""
    try:
        last = _touched(file)
        if 0 <= _now(file.parent) - last < stale * 1e9:
            return True
        # The clock that stamps the files may have jumped since: only a file that stays untouched is stale.
        until = time.monotonic() + 2 * min(record.get("heartbeat", stale), stale)
        while time.monotonic() < until:
            time.sleep(min(1.0, stale / 20))
            if _touched(file) != last:
                return True
    except FileNotFoundError:
        return False  # it ended in this very moment
    return False


def _touched(file: Path) -> int:
    """When `file` was last touched, in nanoseconds."""
    with open(file, "rb") as stream:  # opening makes a network file system ask its server again
        return os.fstat(stream.fileno()).st_mtime_ns


def _now(folder: Path) -> int:
    """The time by the clock of the file system, in nanoseconds."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:
        return os.stat(probe.name).st_mtime_ns


def _who(record: dict[str, Any]) -> str:
    return f"process {record.get('pid')} on {record.get('host')}, started {record.get('started')}"


def _refusal(place: str | Path, record: dict[str, Any]) -> str:
    who = _who(record) if record else "a process that is just starting or ending"
    return (
        f"The study in {redact(str(place))} is already driven by {who}. Wait until it has ended, or end it; "
        f"after a crash of another host its lock expires by itself."
    )
