"""Reading an `.npz`, without pickles; a file of another kind is named as what it is, by its first bytes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgenes.errors import DataError
from edgenes.parsing import printable, reason

_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (h5py reads it)",
    b"\x93NUMPY": "a single array as numpy.save writes it",
    b"MATLAB 5.0": "a MATLAB file (scipy.io.loadmat reads it)",
    b"PAR1": "a Parquet file (pandas reads it)",
    b"ARROW1": "an Arrow file (pandas reads it)",
    b"SQLite format 3": "an SQLite database",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"\x89PNG": "a single picture",
    b"\xff\xd8\xff": "a single picture",
    b"GIF8": "a single picture",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
}
_PICKLES = (".pkl", ".pickle", ".p")


def read_npz(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), other: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The `required` arrays of the file, and those of the `optional` ones that are there; or else all of the `other`.

    Raises DataError for a file that is no `.npz`, is cut short, lacks an array, or holds Python objects in one.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            present = archive.files
            if other and required[0] not in present and set(other) <= set(present):
                required = other
            missing = [name for name in required if name not in present]
            if missing:
                held = printable(", ".join(present))[:500] or "no arrays"
                others = f" and, if wanted, {', '.join(optional)}" if optional else ""
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it holds {held}. Expected {', '.join(required)}{others}."
                )
            wanted = [*required, *(name for name in optional if name in present)]
            return {name: _array(archive, path, name) for name in wanted}
    except DataError:
        raise
    # zipfile, zlib and numpy's parser of headers each have their own; the file is unusable in any case
    except Exception as error:
        kind = _kind_of(path)
        raise DataError(
            f"{path} is {kind}. Expected an .npz: read it in Python, and write its arrays with "
            "numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)."
            if kind
            else f"{path} cannot be read as an .npz ({reason(error)}). Expected a whole file "
            "as numpy.savez writes it; if it was copied or downloaded, do so again."
        ) from error


def _array(archive: np.lib.npyio.NpzFile, path: Path, name: str) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{name} in {path} holds Python objects, which could run code when loaded. "
            "Save it as a plain array, of dtype uint8, int64 or str."
        ) from error


def _kind_of(path: Path) -> str:
    """In words, what the file is: CSV, HDF5, a pickle, ...; no word for one that is not known, or a zip file."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with open(path, "rb") as file:
        begin = file.read(4096)
    for beginning, kind in _BEGINNINGS.items():
        if begin.startswith(beginning):
            return kind
    if path.suffix.lower() in _PICKLES or (begin[:1] == b"\x80" and begin[1:2] in b"\x02\x03\x04\x05"):
        return "a pickle, which could run code when it is loaded"
    if begin[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if not begin:
        return "empty"
    try:
        text = begin[:-3].decode() if len(begin) == 4096 else begin.decode()  # a character may be cut
    except UnicodeDecodeError:
        return ""
    if "\0" in text:
        return ""
    if text.lstrip()[:1] in ("{", "["):
        return "a JSON file"
    first = text.splitlines()[0]
    return "a CSV file (pandas reads it)" if any(mark in first for mark in ",;\t") else "a text file"
