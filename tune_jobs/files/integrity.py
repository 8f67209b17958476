"""Files that a crash, a full disk or a copy has left: damaged, torn, unfinished."""

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote


def check_database(file: Path) -> None:
    """Raise ValueError if the SQLite file is damaged."""
    url = f"file:{quote(str(file.absolute()))}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=60)) as connection:
            [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    if found != "ok":
        raise ValueError(f"the database is damaged ({' '.join(found.split())})")


def is_torn(file: Path) -> bool:
    """Whether a file's last line has no end, as a crash or a full disk leaves it."""
    if not file.exists() or file.stat().st_size == 0:
        return False
    with open(file, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() != b"\n"


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
