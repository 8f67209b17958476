"""Reading an `.npz` from a stranger: no pickles, and no memory taken for what the file does not hold."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from edgenes.data.formats import kind_of
from edgenes.errors import DataError
from edgenes.parsing import open_zip, printable, reason, shown

DEFLATE_LIMIT = 1032
"""No deflate stream expands further than this, whatever its zip directory declares."""
EXPANSION_LIMIT = 100
"""How many times the file's own bytes its arrays may take: pictures never compress so well, bombs do."""
FREE_BYTES = 2**26
"""Bytes that they may take in any case."""
HEADER_LIMIT = 1000
"""Characters of an array's header, which Python's own parser reads; a plain array's has 118."""


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The `required` arrays of the file, and those of the `optional` ones that are there.

    Raises DataError for a file that is no `.npz`, is cut short, lacks an array, holds Python objects in one,
    declares an array larger than the file can hold, or expands to more than pictures do.
    """
    with _opened(path) as archive:
        present = _names(archive)
        missing = [name for name in required if name not in present]
        if missing:
            held = printable(", ".join(present))[:500] or "no arrays"
            others = f" and, if wanted, {', '.join(optional)}" if optional else ""
            raise DataError(
                f"{path} lacks {', '.join(missing)}; it holds {held}. Expected {', '.join(required)}{others}."
            )
        wanted = [*required, *(name for name in optional if name in present)]
        allowed = max(FREE_BYTES, EXPANSION_LIMIT * path.stat().st_size)
        total = sum(_declared(archive, path, name) for name in wanted)
        if total > allowed:
            raise DataError(
                f"the arrays of {path} would take {total} bytes, more than {EXPANSION_LIMIT} times the file's own: "
                "these are no pictures. Write them with numpy.savez, without compression, if they are meant."
            )
        return {name: _array(archive, name) for name in wanted}


def array_names(path: Path) -> list[str]:
    """Names of the arrays in the file; raises DataError for a file that is no `.npz`, with what it is instead."""
    with _opened(path) as archive:
        return _names(archive)


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_zip(path) as archive:
            yield archive
    except DataError:
        raise
    # zipfile, zlib and numpy's parser of headers each have their own; the file is unusable in any case
    except Exception as error:
        kind = kind_of(path)
        raise DataError(
            f"{path} is {kind}. Expected an .npz: read it in Python, and write its arrays with "
            "numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)."
            if kind
            else f"{path} cannot be read as an .npz ({reason(error)}). Expected a whole file "
            "as numpy.savez writes it; if it was copied or downloaded, do so again."
        ) from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        array = npy.read_array(file, allow_pickle=False, max_header_size=HEADER_LIMIT)
        if file.read(1):  # which also makes zipfile compare the checksum
            raise ValueError(f"{name} is longer than its header declares")
    if array.dtype.kind in "US":
        "".join(array.astype(str).ravel().tolist()).encode()  # numbers that are no characters raise here
    return array


def _declared(archive: zipfile.ZipFile, path: Path, name: str) -> int:
    """Bytes of the array by its header, after a comparison with what the archive's member can hold."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile expands the others unasked
        raise DataError(f"{name} in {path} is compressed in a way that numpy.savez_compressed does not know.")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version != (1, 0):  # the others are for arrays with fields, and have headers of up to 4 GiB
            raise DataError(f"{name} in {path} has .npy version {version}; save a plain array, without fields.")
        shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=HEADER_LIMIT)
        header = file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{name} in {path} holds Python objects, which could run code when loaded. "
            "Save it as a plain array, of dtype uint8, int64 or str."
        )
    # The sizes in a zip directory are claims too; the file's own length bounds them.
    stored = min(member.compress_size, path.stat().st_size)
    expansion = 1 if member.compress_type == zipfile.ZIP_STORED else DEFLATE_LIMIT
    available = min(member.file_size, stored * expansion) - header
    declared = math.prod(shape) * max(1, dtype.itemsize)  # empty strings take no bytes, and for ever to go through
    if min(shape, default=1) < 0 or declared > available:
        raise DataError(
            f"{name} in {path} declares shape {shown(shape)} of {dtype}, but the file has at most {available} bytes "
            "for it: it is damaged or forged. Write it again with numpy.savez."
        )
    return declared
