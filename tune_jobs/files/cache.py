"""What was computed on this machine, for any of the user's studies: files under the digest of all that decides them."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgenes.checkpoint import write_atomically
from edgenes.errors import CheckpointError, ConfigError, WriteError

log = logging.getLogger(__name__)
VARIABLE = "EDGENES_CACHE"
"""Environment variable that names the cache's folder where no option does, or is OFF."""
OFF = "off"
LIMIT = 10 * 10**9
"""Bytes that the cache may hold; beyond them, what was used longest ago goes."""
_PAUSE = 600.0  # seconds between two looks at its size by one process
_OWN = re.compile(r"\.?(candidate|hypernetwork|search)-[0-9a-f]{16}\.(pt|lock|damaged|pt-[a-z0-9_]{8})")
_looked: dict[Path, float] = {}


def cache_setting(asked: str | None) -> str | None:
    """The setting for driver and workers: an absolute folder, OFF, or None for the default of each node's own user.

    Raises ConfigError if a named folder cannot be written.
    """
    asked = asked or os.environ.get(VARIABLE) or None
    if asked in (None, OFF):
        return asked
    folder = Path(asked).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise ConfigError(
            f"the cache {folder} cannot be written ({error.strerror}): give --cache, or {VARIABLE}, another folder, or "
            f"{OFF}."
        ) from error
    return str(folder)


def open_cache(setting: str | None) -> "Cache | None":
    """The cache of a setting on this node, or None: OFF, or no home to put it into."""
    if setting == OFF:
        return None
    if setting is not None:
        return Cache(Path(setting))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # the rule for XDG's variables: a relative one does not count
        home = os.path.expanduser("~")
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".cache")
    return Cache(Path(base) / "edgenes")


@cache
def _warn(text: str) -> None:
    """Once a process: what cannot be cached is computed, and each candidate would say so."""
    log.warning("%s", text)


@dataclass(frozen=True)
class Cache:
    """A folder that several studies read and write at once; one that cannot be used costs time and fails no trial.

    Files are copied in and out: a study's folder then stays whole and its own, whatever becomes of either.
    """

    folder: Path

    def find(self, name: str, read: Callable[[Path], Any]) -> Any | None:
        """What `read` makes of an entry, or None without one; one for which it raises CheckpointError is renamed."""
        path = self.folder / f"{name}.pt"
        try:
            if not path.exists():
                return None
            found = read(path)
            with contextlib.suppress(OSError):  # of another user, or removed in this moment
                os.utime(path)
            return found
        except CheckpointError as error:
            log.warning("%s It is renamed to .damaged and computed again.", error)
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
        except OSError as error:
            self._useless(error)
        return None

    def copy_to(self, name: str, target: Path) -> bool:
        """Copy an entry to `target`; False if it is gone. Raises WriteError if `target` cannot be written."""
        try:
            content = (self.folder / f"{name}.pt").read_bytes()
        except OSError:
            return False
        write_atomically(target, lambda file: file.write(content))
        return True

    def put(self, name: str, source: Path) -> None:
        """Keep a copy of a file, and make room for it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = source.read_bytes()
            write_atomically(self.folder / f"{name}.pt", lambda file: file.write(content))
            if time.monotonic() - _looked.get(self.folder, float("-inf")) > _PAUSE:
                self.trim()
                _looked[self.folder] = time.monotonic()
        except (OSError, WriteError) as error:
            self._useless(error)

    def files(self) -> dict[Path, os.stat_result]:
        """The cache's own files, whatever else lies in its folder."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if _OWN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        found[Path(entry.path)] = entry.stat(follow_symlinks=False)
        return found

    def trim(self, limit: int = LIMIT) -> int:
        """Remove what was used longest ago until at most `limit` bytes are left; returns the bytes removed."""
        files = self.files()
        size, removed = sum(status.st_size for status in files.values()), 0
        for path in sorted(files, key=lambda path: files[path].st_mtime):
            if size - removed <= limit:
                break
            removed += files[path].st_size
            path.unlink(missing_ok=True)
        return removed

    def _useless(self, error: Exception) -> None:
        cause = error.__cause__ if isinstance(error, WriteError) else error  # one reason, and not one a file
        reason = getattr(cause, "strerror", None) or cause
        _warn(f"The cache {self.folder} cannot be used ({reason}): what is not there is computed.")
