"""A data set as it was published, and the same in uniform arrays."""

import logging
from dataclasses import dataclass

import numpy as np

from edgenes.data.images import resize
from edgenes.data.labels import as_labels
from edgenes.data.pixels import as_bytes
from edgenes.data.resemblance import resemblances
from edgenes.errors import DataError

MIN_TRAIN_IMAGES = 5
"""Images a class needs in the training split, for one at least to fall into each of its three parts."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before any split of ours.

    As read: images (N, H, W) or (N, H, W, C), labels (N,), unchecked. After `checked`: uint8 (N, S, S, C)
    and int64, each class named and present in both halves. `flip` says whether a horizontal flip keeps the label,
    `test_files` names the test images where they are files.
    """

    name: str
    class_names: tuple[str, ...] | None
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    flip: bool = False
    test_files: tuple[str, ...] = ()

    def checked(self, image_size: int | None = None) -> "Source":
        """The same data in uniform arrays, resized to squares of `image_size` pixels where one is given.

        What was changed, and what looks wrong, is logged as a warning. Raises DataError for pixels or labels that have
        no single reading (see `as_bytes`, `as_labels`), images that are not square or of differing size (without
        `image_size`), a class with too few images, or a single class.
        """
        (train, test), notes = as_bytes({"x_train": self.train_images, "x_test": self.test_images})
        train, test = _images(train, "x_train"), _images(test, "x_test")
        if train.shape[3] != test.shape[3]:
            raise DataError(f"x_train has {train.shape[3]} channels and x_test {test.shape[3]}; give both the same.")
        if image_size is None:
            if train.shape[1:] != test.shape[1:]:
                raise DataError(
                    f"images of x_train are {_size(train)}, of x_test {_size(test)}. Give both one size, or set "
                    "image_size to bring them to one."
                )
            if train.shape[1] != train.shape[2]:
                raise DataError(
                    f"images should be square, got {_size(train)} (rows x columns). Crop them, or set "
                    "image_size to resize them."
                )
        else:
            train, test = resize(train, image_size), resize(test, image_size)
        train_labels, test_labels, names, changes = as_labels(
            self.train_labels, self.test_labels, (len(train), len(test)), self.class_names
        )
        _check_classes(names, train_labels, test_labels)
        for note in (*notes, *changes, *resemblances(train, test, self.test_files)):
            log.warning("%s: %s", self.name, note)
        return Source(self.name, names, train, train_labels, test, test_labels, self.flip, self.test_files)


def _size(images: np.ndarray) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"


def _images(array: np.ndarray, what: str) -> np.ndarray:
    """(N, H, W, C), a channel axis added to grey images."""
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(f"{what} should have shape (N, H, W) or (N, H, W, C), none of them 0, got {array.shape}.")
    if array.ndim == 3:
        return array[..., None]
    if array.shape[1] in (1, 3) and array.shape[2] == array.shape[3] > 3:
        raise DataError(
            f"{what} has its channels before its rows, shape {array.shape}; expected (N, H, W, C): "
            "use .transpose(0, 2, 3, 1)."
        )
    return array


def _check_classes(names: tuple[str, ...], train: np.ndarray, test: np.ndarray) -> None:
    if len(names) < 2:
        raise DataError(f"at least two classes are needed to tell apart, got {len(names)}: {list(names)}.")
    for what, labels in (("y_train", train), ("y_test", test)):
        if labels.max() >= len(names):
            raise DataError(
                f"{what} holds the label {labels.max()}, but there are {len(names)} classes: "
                f"expected 0..{len(names) - 1}."
            )
    for what, labels, least in (("training", train, MIN_TRAIN_IMAGES), ("test", test, 1)):
        counts = np.bincount(labels, minlength=len(names))
        few = [f"{names[label]!r} (label {label}): {counts[label]}" for label in np.flatnonzero(counts < least)]
        if few:
            raise DataError(
                f"every class needs at least {least} {what} image{'s' if least > 1 else ''}; too few have "
                f"{', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. Add images, or drop the class."
            )
