"""Where an Optuna study is stored: an SQLite file, a journal file, or any database SQLAlchemy reaches."""

import re
from pathlib import Path
from urllib.parse import unquote

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from edgenes.errors import StudyError

JOURNAL = "journal:"
SQLITE = "sqlite:///"
SQLITE_TIMEOUT = 60  # seconds: a backup or a browser of the database may hold its lock this long

_JOURNAL_START = b'{"op_code":'
_USER = re.compile(r"(?<=://)([^:/@]*):(.*)@")
_QUERY = re.compile(r"(?i)([?&][^=&]*(?:password|passwd|pwd|secret|token)[^=&]*=)([^&]*)")


def redact(url: str) -> str:
    """`url` with every password in it replaced by ***."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1:***@", url))


def storage_from(url: str | Path) -> BaseStorage:
    """Open the storage `url` names: a path or `sqlite:///PATH`, `journal:PATH`, or an SQLAlchemy URL.

    Folders on the way to a file are created. Raises StudyError, with no password in its text, if the storage
    cannot be reached, cannot be written, or is something else.
    """
    url = str(url)
    try:
        if url.startswith(JOURNAL):
            return _journal(Path(url.removeprefix(JOURNAL)).expanduser())
        return _database(url if "://" in url else f"{SQLITE}{Path(url).expanduser()}")
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError, RuntimeError, ValueError) as error:
        # `from None`: the chained traceback could show the URL that the message hides.
        raise StudyError(
            f"The study's storage {redact(url)} cannot be opened: {plain_reason(error, url)}. Give a path that "
            f"can be written, sqlite:///PATH, journal:PATH, or the SQLAlchemy URL of a database that is running."
        ) from None


def storage_file(url: str | Path) -> Path | None:
    """The file behind `sqlite:///PATH` or `journal:PATH`; None for a database server."""
    url = str(url)
    for prefix in (JOURNAL, SQLITE):
        if url.startswith(prefix):
            name = url.removeprefix(prefix).partition("?")[0]
            return Path(name.removeprefix("file:")).expanduser()  # file: begins SQLite's own kind of URI
    return None


def plain_reason(error: BaseException, url: str) -> str:
    """The first line of what went wrong, without SQL and without the passwords of `url`."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__
    for _, secret in _USER.findall(url) + _QUERY.findall(url):
        for form in {secret, unquote(secret)} - {""}:
            text = text.replace(form, "***")
    return text.splitlines()[0].rstrip(".")


def _database(url: str) -> RDBStorage:
    if not url.startswith("sqlite"):
        # A connection that the server dropped overnight is replaced, not used.
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    file = storage_file(url)
    if file is not None and str(file) not in ("", ".", ":memory:"):
        file.parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT}})


def _journal(file: Path) -> JournalStorage:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        with open(file, "rb") as stream:
            start = stream.read(len(_JOURNAL_START))
        # Optuna would append to a foreign file that has no complete line.
        if start and start != _JOURNAL_START:
            raise ValueError("the file is no Optuna journal")
        _drop_torn_line(file)
    try:
        return JournalStorage(JournalFileBackend(str(file)))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the journal is damaged ({error})") from error


def _drop_torn_line(file: Path) -> None:
    """Cut off a last record that a crash left half written: the next one would be glued to it, and be lost."""
    if not _torn(file):
        return
    lock = JournalFileSymlinkLock(str(file))
    lock.acquire()  # a living writer may be in the middle of that line
    try:
        if _torn(file):
            content = file.read_bytes()
            with open(file, "r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _torn(file: Path) -> bool:
    content = file.read_bytes()
    return bool(content) and not content.endswith(b"\n")
