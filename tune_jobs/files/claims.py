"""A lease on a name in the study's files."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator

from edgenes.errors import WriteError
from tune_jobs.files.study_files import Remote

STALE = 60.0
"""Seconds without a sign of life after which another process's claim is void."""
_BEATS = 4  # signs of life in that time
_SETTLE = 0.3  # seconds in which a rival's claim of the same moment becomes visible


@contextlib.contextmanager
def claimed(remote: Remote, name: str, stale: float = STALE) -> Iterator[None]:
    """Hold `name` in the cluster while the body runs, waiting for whoever holds it now.

    The file `name` says who holds it. It is written again and again meanwhile: a holder that no longer does so is dead,
    and its claim void after `stale` seconds. Two who claim in the same moment may both hold it, where a write takes
    longer than the pause before it is read again: what is claimed must bear to be done twice.
    """
    token = uuid.uuid4().hex.encode()
    while True:
        _wait_until_free(remote, name, stale)
        remote.write(name, token)
        time.sleep(min(_SETTLE, stale / 4))
        if remote.read(name) == token:
            break
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(stale / _BEATS):
            with contextlib.suppress(WriteError):  # the next one may get through
                remote.write(name, token)

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        remote.remove(name)


def _wait_until_free(remote: Remote, name: str, stale: float) -> None:
    """Return once nobody holds `name`, or its holder has written nothing for `stale` seconds of this clock."""
    last, since = remote.modified(name), time.monotonic()
    while last is not None and time.monotonic() - since < stale:
        time.sleep(min(1.0, stale / 20))
        now = remote.modified(name)
        if now != last:
            last, since = now, time.monotonic()
