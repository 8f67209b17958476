"""Files that are whole or not there: one dict a checkpoint, written atomically, read without running code."""

import errno
import io
import json
import os
import pickletools
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import nn

from edgenes.errors import CheckpointError, ConfigError, FormatError, WriteError
from edgenes.parsing import JSON_BYTES, open_zip, parse_json, reason, shown

FORMAT = 1
CHECKPOINT_BYTES = 8 * 2**30
"""Largest checkpoint that is read."""
_LOCAL_HEADER = 30  # bytes before an entry's name in a zip file, the last four of which tell how long that is
_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|"
    r"torch (Bool|Byte|Char|Short|Int|Long|Half|BFloat16|Float|Double)Storage"
)


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


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN is refused since JSON has no word for it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """The content of a file; one that is missing, no regular file, or longer is a CheckpointError that names it."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} is missing.")
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file.")
    try:
        if path.stat().st_size > limit:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes; no study writes more than {limit}.")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """The content of a text file in UTF-8, as `read_bytes`."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} cannot be read as text: {reason(error)}.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; one that is missing, damaged or huge is a CheckpointError that names it."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {reason(error)}.") from error


def file_in(path: Path, name: str) -> Path:
    """The file `name` of a folder, or `path` itself where it is no folder."""
    return path / name if path.is_dir() else path


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Save one dict of tensors and plain values under `kind`, atomically (`torch.save` format).

    Raises WriteError when it cannot be written.
    """
    content = io.BytesIO()  # torch reports a full disk as "unexpected pos" of its zip writer, a file as what it is
    torch.save({"format": FORMAT, "kind": kind, **state}, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path, kind: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Load a dict written by `save_checkpoint`: plain values and dense tensors, from a file that is not trusted.

    No code from the file runs (`weights_only=True`), and what is loaded takes no more memory than the file has bytes.
    Raises CheckpointError if the file is missing, truncated, has a changed byte (the checksums of its zip entries
    are verified), holds anything else, is of another kind, or of a later format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: give the folder that holds it, as a finished study prints it.")
    try:
        content = torch.load(_verified(path), map_location=device, weights_only=True)  # noqa: TID251
        content = _Measure(path.stat().st_size).plain(content)
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


def mapped(path: Path, table: torch.Tensor) -> np.ndarray:
    """`table`, loaded from this checkpoint, as a read-only map of the file: it takes memory only while it is read.

    The file's zip entries are not compressed; the one that holds the very bytes of `table` is taken, so that the map
    is what was checked. Should none do, it is the loaded table.
    """
    loaded = np.ascontiguousarray(table.numpy())
    with (
        suppress(OSError, RuntimeError, zipfile.BadZipFile),
        open(path, "rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        for entry in archive.infolist():
            if entry.file_size != loaded.nbytes or not loaded.nbytes:
                continue
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER)
            start = entry.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", header[-4:]))  # its name, its extra
            # Not numpy's map, which keeps a file descriptor for each: a study may have more files than those.
            whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
            if start % loaded.itemsize:
                continue
            empty: Any = torch.empty(0, dtype=table.dtype)  # the types of torch know no `set_` without strides
            found = empty.set_(whole, start // loaded.itemsize, loaded.shape).numpy()
            if np.array_equal(found.view(np.uint8), loaded.view(np.uint8)):
                found.flags.writeable = False
                return found
    return loaded


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


def _verified(path: Path) -> IO[bytes]:
    """The entries of the zip file in a new one, so that torch sees what was checked and nothing else.

    Raises ValueError for what `torch.save` never writes and torch would follow: compressed or overlapping entries,
    which grow, two of one name, and names of other classes and functions, some of which take memory on demand.
    """
    size = path.stat().st_size
    if size > CHECKPOINT_BYTES:
        raise ValueError(f"it has {size} bytes, and at most {CHECKPOINT_BYTES} are read")
    copy = io.BytesIO()
    with open_zip(path) as archive, zipfile.ZipFile(copy, "w") as verified:
        entries = archive.infolist()
        if any(entry.compress_type or entry.compress_size != entry.file_size for entry in entries):
            raise ValueError("its entries are compressed")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries are together larger than the file")
        if len({entry.filename.lower() for entry in entries}) < len(entries):  # torch does not tell cases apart
            raise ValueError("two of its entries have the same name")
        for entry in entries:
            content = archive.read(entry)  # which compares the checksum
            if entry.filename.lower().endswith(".pkl"):
                _check_names(content)
            verified.writestr(zipfile.ZipInfo(entry.filename), content)
    copy.seek(0)
    return copy


def _check_names(pickled: bytes) -> None:
    for operation, name, _ in pickletools.genops(pickled):
        if "GLOBAL" in operation.name and not _NAMES.fullmatch(str(name)):
            raise ValueError(f"it asks for {shown(name)}, which no checkpoint of a study does")


class _Measure:
    """Copies nested values and counts them: no honest file holds fewer bytes than values, characters, or numbers.

    A pickle may repeat one list a billion times in a few bytes, and a tensor with a stride of 0 one number.
    """

    def __init__(self, size: int):
        self.values = self.bytes = size

    def plain(self, value: Any) -> Any:
        """`value` in dicts, lists and tuples of its own; ValueError if it is larger than its file, or not plain."""
        self.values -= 1
        if isinstance(value, dict):
            value = {self.plain(key): self.plain(item) for key, item in dict.items(value)}
        elif type(value) in (list, tuple):
            value = type(value)(map(self.plain, value))
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
            self.bytes -= value.nbytes
        elif type(value) is str:
            self.values -= len(value.encode())
        elif value is not None and type(value) not in (bool, int, float):
            raise ValueError(f"it holds a {type(value).__name__}")
        if min(self.values, self.bytes) < 0:
            raise ValueError("it declares more than its bytes can hold")
        return value
