"""A study's folder, made and checked."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from sqlalchemy.exc import OperationalError

from edgenes.checkpoint import is_unwritable
from edgenes.errors import EdgeNESError
from tune_jobs.errors import StudyError
from tune_jobs.files.integrity import check_folder
from tune_jobs.files.layout import DRIVER, DRIVER_LOCK
from tune_jobs.files.study_files import StudyFiles, join_remote
from tune_jobs.study.storage import plain_reason


def prepare_folder(folder: Path, *own: str) -> None:
    """Create the folder of a study, which is known by one of its `own` files.

    Raises StudyError if it cannot be written, something in it leads out of it, or it holds what is no study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)  # before the probe, which a link of its name would send elsewhere
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


def study_files(folder: Path, storage_path: str | None, identifier: Callable[[], str]) -> StudyFiles:
    """The study's files: those of its folder, and of --storage-path where that is given.

    Raises ConfigError or StudyError if there can be none, or another study's are there.
    """
    if storage_path is None:
        return StudyFiles(folder)
    return StudyFiles(folder, join_remote(storage_path, folder.name, identifier()))


def identifier_of(study: optuna.Study) -> str:
    """An identifier of the study's files: another study may have the same name."""
    identifier = study.user_attrs.get("files")
    if identifier is None:
        identifier = uuid.uuid4().hex
        study.set_user_attr("files", identifier)
    return identifier


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
