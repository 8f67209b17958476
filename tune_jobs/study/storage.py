"""Where an Optuna study is stored: an SQLite file, a journal file, or any database SQLAlchemy reaches."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from edgenes.errors import ConfigError
from edgenes.parsing import printable, reason
from tune_jobs.config.passwords import IN_FILE, VARIABLE, redact, refuse_passwords, secrets
from tune_jobs.errors import StudyError
from tune_jobs.files.integrity import check_database, drop_torn_line, is_torn
from tune_jobs.files.layout import DATABASE

IN_VARIABLE = f"env:{VARIABLE}"
JOURNAL = "journal:"
SQLITE = "sqlite:///"
SQLITE_TIMEOUT = 60  # seconds: a backup or a browser of the database may hold its lock this long
_JOURNAL_START = b'{"op_code":'
_LONGEST_REASON = 1000


def storage_reference(given: str | None, folder: Path) -> str | None:
    """The storage as `given`, else IN_VARIABLE where EDGENES_STORAGE is set and `folder` holds no study; else None.

    A reference says where the URL stands and not what it is, so it may be stored and sent. Raises ConfigError for a
    URL with a password.
    """
    refuse_passwords([given or ""])
    if given or not os.environ.get(VARIABLE) or (folder / DATABASE).exists():
        return given
    return IN_VARIABLE


def resolve(reference: str | Path) -> str:
    """The URL that a reference stands for; raises ConfigError if there is none, or others can read its file."""
    reference = str(reference)
    if reference == IN_VARIABLE:
        url = os.environ.get(VARIABLE, "")
        if not url or url == IN_VARIABLE:
            raise ConfigError(f"the environment variable {VARIABLE} names no storage: set it to the storage's URL.")
        return resolve(url)
    return _first_line(Path(reference.removeprefix(IN_FILE))) if reference.startswith(IN_FILE) else reference


def _first_line(file: Path) -> str:
    file = file.expanduser()
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{file} is no file: --storage {IN_FILE}FILE needs one whose first line is the URL.")
        if mode & 0o077:
            raise ConfigError(
                f"others can read {file} (mode {mode & 0o777:o}), in which the URL of the storage stands: chmod 600 it."
            )
        url = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"the URL of the storage cannot be read from {file}: {what}.") from None
    if not url or url.startswith((IN_FILE, "env:")):
        raise ConfigError(f"the first line of {file} should be the URL of the storage.")
    return url


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started meanwhile do not inherit EDGENES_STORAGE."""
    url = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if url is not None:
            os.environ[VARIABLE] = url


def storage_from(url: str | Path) -> BaseStorage:
    """Open the storage `url` names: a path or `sqlite:///PATH`, `journal:PATH`, an SQLAlchemy URL, or a reference.

    Folders on the way to a file are created. Raises StudyError, with no password in its text, if the storage
    cannot be reached, cannot be written, or is something else; ConfigError for a reference to nothing.
    """
    url = resolve(url)
    try:
        if url.startswith(JOURNAL):
            return _journal(Path(url.removeprefix(JOURNAL)).expanduser())
        return _database(url if "://" in url else sqlite_url(Path(url).expanduser()))
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError, RuntimeError, ValueError) as error:
        # `from None`: the chained traceback could show the URL that the message hides.
        raise cannot_open(url, error) from None


def cannot_open(url: str, error: BaseException) -> StudyError:
    """What to raise where the storage of that URL cannot be opened, with no password in it."""
    return StudyError(
        f"The study's storage {redact(url)} cannot be opened: {plain_reason(error, url)}. Give a path that "
        f"can be written, sqlite:///PATH, journal:PATH, or the SQLAlchemy URL of a database that is running."
    )


def storage_file(url: str | Path) -> Path | None:
    """The file behind `sqlite:///PATH` or `journal:PATH`; None for a database server."""
    url = resolve(url)
    if url.startswith(JOURNAL):
        return Path(url.removeprefix(JOURNAL)).expanduser()
    if url.startswith(SQLITE):
        name = unquote(url.removeprefix(SQLITE).partition("?")[0])
        return Path(name.removeprefix("file:")).expanduser()  # file: begins SQLite's own kind of URI
    return None


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite file, whatever its name and its folders' names: a URL ends at a ?, and % begins a code."""
    return SQLITE + str(file).replace("%", "%25").replace("?", "%3F")


def plain_reason(error: BaseException, url: str) -> str:
    """The first line of what went wrong, without SQL and without the passwords of `url`."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__
    for secret in secrets(resolve(url)):
        for form in {secret, unquote(secret)}:
            text = text.replace(form, "***")
    return printable(text.splitlines()[0][:_LONGEST_REASON].rstrip("."))


def _database(url: str) -> RDBStorage:
    literal = url.replace("{", "{{").replace("}", "}}")  # Optuna fills in what stands in braces
    if not url.startswith("sqlite"):
        try:
            parsed = make_url(url)
        except (SQLAlchemyError, ValueError):
            parsed = None
        # What follows a raw @ would be taken for the host, whose name errors and name servers repeat.
        if parsed is None or "@" in f"{parsed.host}{parsed.database}":
            raise ValueError("it is no URL; write special characters of its password as %40 (@), %3A (:), %2F (/)")
        # A connection that the server dropped overnight is replaced, not used.
        return RDBStorage(literal, engine_kwargs={"pool_pre_ping": True})
    file = storage_file(url)
    if file is not None and str(file) not in ("", ".", ":memory:"):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            check_database(file)
    return RDBStorage(literal, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT}})


def _journal(file: Path) -> JournalStorage:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        if not file.is_file():
            raise ValueError("it is no file")
        with open(file, "rb") as stream:
            start = stream.read(len(_JOURNAL_START))
        # Optuna would append to a foreign file that has no complete line.
        if start and start != _JOURNAL_START:
            raise ValueError("the file is no Optuna journal")
        if is_torn(file):
            lock = JournalFileSymlinkLock(str(file))
            lock.acquire()  # a living writer may be in the middle of its last line
            try:
                drop_torn_line(file)
            finally:
                lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(file)))
    # Optuna trusts the records: whatever is wrong with one meets the first line that uses it
    except Exception as error:
        raise ValueError(f"the journal is damaged ({reason(error)})") from error
