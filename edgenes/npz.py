"""Reading an `.npz` from a stranger: no pickles, and no memory taken for what the file does not hold."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from edgenes.errors import DataError

DEFLATE_LIMIT = 1032
"""No deflate stream expands further than this, whatever its zip directory declares."""


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The `required` arrays of the file, and those of the `optional` ones that are there.

    Raises DataError for a file that is no `.npz`, is cut short, lacks an array, holds Python objects in one,
    or declares an array larger than the file can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            missing = [name for name in required if name not in present]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it holds {', '.join(present) or 'no arrays'}. "
                    f"Expected {', '.join(required)} and, if wanted, {', '.join(optional)}."
                )
            wanted = [*required, *(name for name in optional if name in present)]
            for name in wanted:
                _check_header(archive, path, name)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in wanted}
    except DataError:
        raise
    # RuntimeError is how zipfile refuses an encrypted or exotic archive.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} cannot be read as an .npz ({str(error) or type(error).__name__}). Expected a whole file "
            "as numpy.savez writes it; if it was copied or downloaded, do so again."
        ) from error


def _check_header(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """Compare what the array's header declares with what the archive's member can hold."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise DataError(f"{name} in {path} has .npy version {version}; save a plain array, without fields.")
        shape, _, dtype = read(file)
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
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize > available:
        raise DataError(
            f"{name} in {path} declares shape {shape} of {dtype}, but the file has at most {available} bytes "
            "for it: it is damaged or forged. Write it again with numpy.savez."
        )
