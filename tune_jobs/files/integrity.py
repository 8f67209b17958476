"""What a study from a stranger must not hold: ways out of its folder, and databases that do more than store."""

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from edgenes.parsing import shown
from tune_jobs.errors import StudyError

STUDY_BYTES = 2**30
"""Largest Optuna study in a file that is opened: all its trials are held in memory."""
_VALUE_BYTES = 2**26
_OPTUNA_TABLE = re.compile(r"studies|study_\w+|trials|trial_\w+|version_info|alembic_version", re.IGNORECASE)
_COMPUTES = re.compile(r"\b(AS|DEFAULT|VIRTUAL|WHERE|CHECK)\b(?! \(version_info_id=1\))", re.IGNORECASE)
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def check_folder(folder: Path) -> None:
    """Raise StudyError if a study's folder holds links that lead out of it, or anything but files and folders.

    What is written into the folder then stays there, and nothing in it is waited for, as a pipe would be.
    """
    root = Path(folder).resolve()
    for place, folders, files in os.walk(root, onerror=_unreadable):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                if not _inside(path, root):
                    raise StudyError(_refusal(path, "a link that leads out of the study's folder"))
            elif path.exists() and not path.is_file() and not path.is_dir():
                raise StudyError(_refusal(path, "neither a file nor a folder"))


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a running study removes what it no longer needs
        raise StudyError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _inside(link: Path, root: Path) -> bool:
    try:
        target = link.resolve()
    except (OSError, RuntimeError):  # a link to itself, up to Python 3.12
        return False
    return target.is_relative_to(root) and not target.is_symlink()  # which a link to itself still is


def _refusal(path: Path, what: str) -> str:
    return (
        f"{path} is {what}, which no study makes. Look at where the study comes from; to open it all the same, "
        "remove it, or put a copy in its place."
    )


def check_database(file: Path) -> None:
    """Raise ValueError unless the SQLite file does nothing but hold Optuna's tables.

    SQLite follows what a file says: a rollback journal may name another file, which is deleted, views and triggers
    take the place of tables, and pages that are used twice make a few kilobytes a billion rows.
    """
    journal = file.with_name(f"{file.name}-journal")
    if _ends_with(journal, _JOURNAL_MAGIC):
        raise ValueError(f"its journal {journal} names another file, which SQLite would delete")
    if file.stat().st_size > STUDY_BYTES:
        raise ValueError(f"it has {file.stat().st_size} bytes, and at most {STUDY_BYTES} are read")
    try:
        with contextlib.closing(_connection(file)) as connection:
            for kind, table, sql in connection.execute("SELECT type, tbl_name, sql FROM sqlite_master"):
                ours = _OPTUNA_TABLE.fullmatch(str(table))
                if ours and (kind not in ("table", "index") or _COMPUTES.search(sql or "")):
                    raise ValueError(f"its {kind} {shown(table)} is none of Optuna's, which only store")
            [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    if found != "ok":
        raise ValueError(f"the database is damaged ({' '.join(found.split())})")


def _connection(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=rw", uri=True, timeout=60)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
    return connection


def _ends_with(file: Path, end: bytes) -> bool:
    try:
        with open(file, "rb") as stream:
            stream.seek(-len(end), os.SEEK_END)
            return stream.read() == end
    except OSError:  # not there, or shorter
        return False


def is_torn(file: Path) -> bool:
    """Whether a file's last line has no end, as a crash or a full disk leaves it."""
    return file.exists() and file.stat().st_size > 0 and not _ends_with(file, b"\n")


def drop_torn_line(file: Path) -> None:
    """Cut off a last line without an end: the next one would be glued to it."""
    if is_torn(file):
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)


_TEMPORARY = re.compile(r"\.(clock|.+\.(json|pt|csv|html|unfinished))-[a-z0-9_]{8}|\.writable|.+\.pt\.new")
_DAMAGED = re.compile(r".+\.damaged(-\d+)?")


def is_temporary(name: str) -> bool:
    """Whether `name` is that of a file being written, which its process would have renamed or removed."""
    return _TEMPORARY.fullmatch(Path(name).name) is not None


def is_damaged(name: str) -> bool:
    """Whether `name` is that of a file renamed as damaged."""
    return _DAMAGED.fullmatch(name) is not None
