"""A study's folder, made and checked."""

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from edgenes.checkpoint import is_unwritable, read_json
from edgenes.errors import CheckpointError, EdgeNESError
from edgenes.parsing import printable
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import CONFIG, DRIVER, DRIVER_LOCK
from tune_jobs.files.study_files import StudyFiles, join_remote
from tune_jobs.study.storage import plain_reason
from tune_jobs.study.trials import IDENTIFIER

HOME = "folder"
"""The study's attribute with the host and folder in which it was last driven."""


def prepare_folder(folder: Path, *own: str) -> None:
    """Create the folder of a study, which is known by one of its `own` files.

    Raises StudyError if it cannot be written, or holds what is no study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = any((folder / name).exists() for name in own)
        if not known and any(not path.name.lstrip(".").startswith((DRIVER, DRIVER_LOCK)) for path in folder.iterdir()):
            raise StudyError(
                f"{folder} holds other files and no study of this kind: give --out a folder that is new or empty."
            )
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"the study's folder {folder} cannot be written ({error.strerror}): choose another one with --out."
        ) from error


def study_files(folder: Path, storage_path: str | None, identifier: str) -> StudyFiles:
    """The study's files: those of its folder, and of --storage-path where that is given.

    Raises ConfigError or StudyError if there can be none, or another study's are there.
    """
    if storage_path is None:
        return StudyFiles(folder)
    return StudyFiles(folder, join_remote(storage_path, folder.name, identifier))


def identify(study: optuna.Study, identifier: str | None = None) -> None:
    """Give the study an identifier, by default a new one, unless it has one."""
    if study.user_attrs.get(IDENTIFIER) is None:
        study.set_user_attr(IDENTIFIER, identifier or uuid.uuid4().hex)


def recorded_identifier(folder: Path) -> str | None:
    """The identifier that a study's folder has on record; None before its first start."""
    with suppress(CheckpointError):  # a damaged file is written again
        stored = read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
        found = stored.get("study") if isinstance(stored, dict) else None
        return found if isinstance(found, str) else None
    return None


def home_of(folder: Path) -> str:
    """How a study names a folder, on whatever machine."""
    return f"{socket.gethostname()}:{folder}"


def check_owner(study: optuna.Study, folder: Path, storage: str, inside: bool) -> str | None:
    """The identifier on record in the folder; `inside`: the study lies in the folder.

    Raises StudyError, with both places, if the study is another folder's: a shared storage may hold that of a folder
    of the same name.
    """
    recorded, known = recorded_identifier(folder), study.user_attrs.get(IDENTIFIER)
    home = study.user_attrs.get(HOME)
    if recorded is not None and known is not None:
        ours = recorded == known
    elif home is not None:
        ours = inside or home == home_of(folder)
    else:
        ours = inside or all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))
    if not ours:
        where = "another folder" if home is None else printable(str(home))
        raise StudyError(
            f"the study {study.study_name!r} in {storage} is that of {where}, and not of {home_of(folder)}: give its "
            "folder with --out, or a folder of another name for a study of its own."
        )
    return recorded


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk, or a database that stays locked, under this driver is a StudyError, not a traceback."""
    try:
        yield
    except EdgeNESError:
        raise
    except Exception as error:
        cause: BaseException | None = error  # Ray and Optuna wrap what they met
        while cause is not None and not (is_unwritable(cause) or isinstance(cause, OperationalError)):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise StudyError(
            f"the study in {folder} could not be written: {plain_reason(cause, '')}. All that was finished is stored; "
            "free some space, or make the folder writable, and run the same command again."
        ) from error
