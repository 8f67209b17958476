"""Files that are whole or not there: one dict a checkpoint, written atomically, read without running code."""

import errno
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from edgenes.errors import CheckpointError, ConfigError, FormatError, WriteError
from edgenes.parsing import reason, shown

FORMAT = 1


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write content whole or not at all."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN is refused since JSON has no word for it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """The content of a file; one that is missing or no regular file is a CheckpointError that names it."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} is missing.")
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, as `read_bytes`."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} cannot be read as text: {reason(error)}.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; one that is missing or damaged is a CheckpointError that names it."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {reason(error)}.") from error


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Save one dict of tensors and plain values under `kind`, atomically (`torch.save` format).

    Raises WriteError when it cannot be written.
    """
    content = io.BytesIO()  # torch reports a full disk as "unexpected pos" of its zip writer, a file as what it is
    torch.save({"format": FORMAT, "kind": kind, **state}, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path, kind: str, device: str | torch.device = "cpu", mapped: bool = False) -> dict[str, Any]:
    """Load a dict written by `save_checkpoint`: plain values and tensors. No code from the file runs.

    With `mapped` the tensors are maps of the file, and take memory only while they are read.
    Raises CheckpointError if the file is missing, truncated, has a changed byte (the checksums of its zip entries
    are verified), holds anything else, is of another kind, or of a later format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: give the folder that holds it, as a finished study prints it.")
    try:
        with zipfile.ZipFile(path) as archive:
            if changed := archive.testzip():
                raise ValueError(f"{changed} has changed")
        content = torch.load(path, map_location=device, weights_only=True, mmap=mapped)  # noqa: TID251
    # zipfile, pickle and torch each have their own; the file is unusable in any case
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: {reason(error)}.") from error
    found, written = (content.get(key) if isinstance(content, dict) else None for key in ("kind", "format"))
    if type(found) is not str or found != kind:
        what = shown(found) if isinstance(content, dict) else repr(type(content).__name__)
        raise CheckpointError(f"{path} holds {what}, expected a checkpoint of kind {kind!r}.")
    if type(written) is not int or written != FORMAT:
        raise FormatError(
            f"{path} has format {shown(written)}, this version reads format {FORMAT}; "
            "use the version of EdgeNES Studio that wrote it."
        )
    return {key: value for key, value in content.items() if key not in ("format", "kind")}


def check_weights(module: nn.Module, weights: Any) -> None:
    """Raise ConfigError unless `weights` is a state dict of the module: its names, shapes and types, finite numbers.

    Only the module's shapes are looked at, so it may be on the meta device and take no memory.
    """
    own = module.state_dict()
    if not isinstance(weights, dict) or weights.keys() != own.keys():
        odd = sorted(map(shown, weights.keys() ^ own.keys())) if isinstance(weights, dict) else [shown(weights)]
        raise ConfigError(f"its weights are not those of the network it describes: {', '.join(odd[:3])}.")
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor) or (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            found = f"{value.dtype} {shown(tuple(value.shape))}" if isinstance(value, torch.Tensor) else shown(value)
            raise ConfigError(f"{name} is {found}, expected {own[name].dtype} {tuple(own[name].shape)}.")
        if not value.isfinite().all():
            raise ConfigError(f"{name} holds numbers that are not finite.")
