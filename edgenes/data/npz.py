"""Reading an `.npz`, without pickles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgenes.data.formats import kind_of
from edgenes.errors import DataError
from edgenes.parsing import printable, reason


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The `required` arrays of the file, and those of the `optional` ones that are there.

    Raises DataError for a file that is no `.npz`, is cut short, lacks an array, or holds Python objects in one.
    """
    with _opened(path) as archive:
        present = archive.files
        missing = [name for name in required if name not in present]
        if missing:
            held = printable(", ".join(present))[:500] or "no arrays"
            others = f" and, if wanted, {', '.join(optional)}" if optional else ""
            raise DataError(
                f"{path} lacks {', '.join(missing)}; it holds {held}. Expected {', '.join(required)}{others}."
            )
        wanted = [*required, *(name for name in optional if name in present)]
        return {name: _array(archive, path, name) for name in wanted}


def array_names(path: Path) -> list[str]:
    """Names of the arrays in the file; raises DataError for a file that is no `.npz`, with what it is instead."""
    with _opened(path) as archive:
        return list(archive.files)


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path, allow_pickle=False) as archive:
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
