"""What a file is that is no `.npz`, by its first bytes."""

import os
from pathlib import Path

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


def kind_of(path: Path) -> str:
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
