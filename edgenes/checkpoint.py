"""Files that are whole or not there: one dict a checkpoint, written atomically, read without running code."""

import errno
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from edgenes.errors import CheckpointError, WriteError

FORMAT = 1


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write through a temporary file beside `path`, so that a reader sees the old content or the new, whole.

    Raises WriteError when the disk is full or the folder cannot be written; `path` is then untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}. What was there before is untouched; "
            "free some space or make the folder writable, and run the same command again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_unwritable(error: BaseException) -> bool:
    """Whether `error` says that something could not be written: a full disk, a read-only folder, a broken device."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return isinstance(error, WriteError) or (isinstance(error, OSError) and error.errno in codes)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN is refused since JSON has no word for it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a CheckpointError that names it."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Save one dict of tensors and plain values under `kind`, atomically (`torch.save` format).

    Raises WriteError when it cannot be written.
    """
    content = io.BytesIO()  # torch reports a full disk as "unexpected pos" of its zip writer, a file as what it is
    torch.save({"format": FORMAT, "kind": kind, **state}, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path, kind: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Load a dict written by `save_checkpoint`; never runs code from the file (`weights_only=True`).

    Raises CheckpointError if the file is missing, truncated, has a changed byte (the checksums of its
    zip entries are verified), is of another kind, or of a later format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of its entry {damaged!r} does not match.")
        content = torch.load(path, map_location=device, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, pickle and torch each have their own; the file is unusable in any case
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # zipfile's EOFError says nothing
        raise CheckpointError(f"{path} is damaged or no checkpoint: {reason}") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} holds {found!r}, expected a checkpoint of kind {kind!r}.")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {content['format']}, this version reads format {FORMAT}; "
            "use the version of EdgeNES Studio that wrote it."
        )
    return {key: value for key, value in content.items() if key not in ("format", "kind")}
