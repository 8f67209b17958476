"""Labels of any form as 0..K-1 with the classes' names."""

from collections.abc import Sequence

import numpy as np

from edgenes.errors import DataError

_SHOWN = 10
"""Labels that a note lists at most."""


def as_labels(
    train: np.ndarray, test: np.ndarray, images: tuple[int, int], names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], list[str]]:
    """The labels of both halves as int64 (N,) in 0..K-1, the classes' names, and lines that say what was changed.

    Taken are integers, booleans, floats with whole values, rows with a single 1 (one-hot), and texts, each (N,) or
    (N, 1). Texts and integers other than 0..K-1 become 0..K-1 in their order and name the classes; with `names`,
    texts are among them, and integers are 0..K-1 or 1..K. Raises DataError for all others.
    """
    notes: list[str] = []
    halves = [
        _column(array, what, count, notes)
        for array, what, count in zip((train, test), ("y_train", "y_test"), images, strict=True)
    ]
    texts = [half.dtype.kind in "US" for half in halves]
    if texts[0] != texts[1]:
        raise DataError(f"y_train is {halves[0].dtype} and y_test {halves[1].dtype}: give both the same labels.")
    if texts[0]:
        halves = [half.astype(str) for half in halves]
    else:
        halves = [_whole(half, what, notes) for half, what in zip(halves, ("y_train", "y_test"), strict=True)]
    values = np.unique(np.concatenate(halves))
    if names is None:
        names = tuple(map(str, values.tolist()))
        if texts[0] or not np.array_equal(values, np.arange(len(values))):
            halves = [np.searchsorted(values, half) for half in halves]
            more = ", ..." if len(names) > _SHOWN else ""
            notes.append(
                f"labels {', '.join(names[:_SHOWN])}{more} are numbered 0..{len(names) - 1} and name the classes."
            )
    elif texts[0]:
        if unknown := sorted(set(values.tolist()) - set(names)):
            raise DataError(f"the label {unknown[0]!r} is not among class_names: {', '.join(names[:_SHOWN])}.")
        order = {name: number for number, name in enumerate(names)}
        halves = [np.array([order[text] for text in half.tolist()], np.int64) for half in halves]
    elif np.array_equal(values, np.arange(1, len(names) + 1)):
        halves = [half - 1 for half in halves]
        notes.append(f"labels 1..{len(names)} are numbered 0..{len(names) - 1}, in the order of class_names.")
    return halves[0].astype(np.int64), halves[1].astype(np.int64), tuple(names), list(dict.fromkeys(notes))


def _column(array: np.ndarray, what: str, images: int, notes: list[str]) -> np.ndarray:
    """Labels (N,): a column is flattened, rows with a single 1 become its place."""
    if array.dtype.kind not in "biufUS":
        raise DataError(f"{what} should hold integer labels 0..K-1 or texts, got {array.dtype}.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind not in "US":
        ones, other = (array == 1).sum(1), ((array != 0) & (array != 1)).any(1)
        if (wrong := np.flatnonzero((ones != 1) | other)).size:
            held = "other numbers than 0 and 1" if other[wrong[0]] else f"{ones[wrong[0]]} ones"
            raise DataError(
                f"{what} has shape {array.shape}, and row {wrong[0]} holds {held}; expected one class an image: "
                "use .argmax(1) for probabilities; images with several labels cannot be used."
            )
        notes.append(f"one-hot labels of {array.shape[1]} columns are taken by argmax.")
        array = array.argmax(1)
    if array.ndim != 1:
        raise DataError(f"{what} should have shape (N,), got {array.shape}: use .reshape(-1) if that is N.")
    if len(array) != images:
        raise DataError(f"{what} has {len(array)} labels for {images} images; give one label an image.")
    return array


def _whole(array: np.ndarray, what: str, notes: list[str]) -> np.ndarray:
    """Numbers as int64, none below 0."""
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.rint(array)) & (np.abs(array) < 2**53)))
        if wrong.size:
            raise DataError(f"{what} holds {array[wrong[0]]} at {wrong[0]}; expected whole numbers, 0..K-1.")
    if array.size and (array.min() < 0 or array.max() > np.iinfo(np.int64).max):
        wrong_label = array.min() if array.min() < 0 else array.max()
        raise DataError(f"{what} holds the label {wrong_label}; expected 0..K-1. Leave images without a label out.")
    if array.dtype.kind in "bf":
        notes.append(f"labels of {array.dtype} are taken as integers.")
    return array.astype(np.int64)
