"""A data set in four disjoint parts.

W trains weights and H the architecture; V never gives a gradient, it ranks trials and chooses ensembles; T is
read once, at the very end.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np

from edgenes.errors import DataError

STD_FLOOR = 1 / 255
"""One grey level: a constant channel is divided by this instead of by zero."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part: `images` uint8 (N, C, H, W), C-contiguous, and `labels` int64 (N,).

    Example:
        >>> import numpy as np
        >>> from edgenes import Part
        >>> len(Part(np.zeros((5, 1, 8, 8), np.uint8), np.zeros(5, np.int64)))
        5
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        if (
            self.images.dtype != np.uint8
            or self.images.ndim != 4
            or not self.images.flags.c_contiguous
            or 0 in self.images.shape
        ):
            raise DataError(
                "images of a part should be C-contiguous uint8 (N, C, H, W), none of them 0, got "
                f"{self.images.dtype} {self.images.shape}, strides {self.images.strides}."
            )
        if self.labels.dtype != np.int64 or self.labels.shape != (len(self.images),):
            raise DataError(
                f"labels of a part of {len(self.images)} images should be int64 ({len(self.images)},), got "
                f"{self.labels.dtype} {self.labels.shape}."
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Four disjoint parts of one data set; `load_data` and `build_dataset` make them.

    `mean` and `std` are per channel, of W and H together, in units of x / 255. `digest` identifies pixels,
    labels, split and `flip` in caches; it is the same with and without the test part.

    Example:
        >>> from edgenes import load_data
        >>> data = load_data("digits")
        >>> data.classes, data.channels, data.image_size, len(data.validation)
        (10, 1, 8, 287)
    """

    name: str
    class_names: tuple[str, ...]
    training: Part
    """W and H together, one after the other: what retraining from scratch uses."""
    split: int
    """Images of W, the first of `training`; the others are H."""
    validation: Part
    """V: never a gradient; ranks trials, chooses ensembles."""
    test: Part | None
    """T: read once, at the very end; None after `without_test`."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    """Whether a horizontal flip keeps the label."""
    digest: str

    def __post_init__(self) -> None:
        if not 0 < self.split < len(self.training):
            raise DataError(f"W and H should hold an image each, got {self.split} of {len(self.training)} for W.")
        parts = [part for part in (self.training, self.validation, self.test) if part is not None]
        shapes = sorted({part.images.shape[1:] for part in parts})
        if len(shapes) != 1 or shapes[0][1] != shapes[0][2]:
            raise DataError(f"all parts should hold square images of one shape (C, H, H), got {shapes}.")
        for part in parts:
            if part.labels.min() < 0 or part.labels.max() >= self.classes:
                raise DataError(
                    f"labels should be 0..{self.classes - 1}, got {part.labels.min()}..{part.labels.max()}."
                )

    def __getstate__(self) -> dict[str, object]:
        # Leaves the cached W and H out: they are views, and would double what travels to every worker.
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.weights.images.shape[1]

    @property
    def image_size(self) -> int:
        """Rows of an image, which are as many as its columns."""
        return self.weights.images.shape[2]

    @cached_property
    def weights(self) -> Part:
        """W: the weight steps of the search. It shares the memory of `training`."""
        return Part(self.training.images[: self.split], self.training.labels[: self.split])

    @cached_property
    def architecture(self) -> Part:
        """H: the architecture steps. It shares the memory of `training`."""
        return Part(self.training.images[self.split :], self.training.labels[self.split :])

    def survey(self) -> "Dataset":
        """W to train on and H in the place of V, neither V nor T in it: for short retrainings that guide a search."""
        name = hashlib.sha256(f"survey of {self.digest}".encode()).hexdigest()[:16]
        weights, half = self.weights, max(1, self.split // 2)
        return replace(self, training=weights, split=half, validation=self.architecture, test=None, digest=name)

    def without_test(self) -> "Dataset":
        """The same data set with no T in it, which therefore cannot leak."""
        return replace(self, test=None)


def build_dataset(
    name: str,
    class_names: Sequence[str],
    weights: Part,
    architecture: Part,
    validation: Part,
    test: Part | None = None,
    *,
    flip: bool = False,
) -> Dataset:
    """A Dataset of these parts, with its mean, std and digest. Raises DataError if they do not fit."""
    pair = (weights, architecture)
    shapes = sorted({part.images.shape[1:] for part in pair})
    if len(shapes) > 1:
        raise DataError(f"all parts should hold square images of one shape (C, H, H), got {shapes}.")
    # One block of memory, so that neither a worker's W and H nor its `training` is a copy of the other.
    training = Part(*(np.concatenate([getattr(part, name) for part in pair]) for name in ("images", "labels")))
    counts = _pixel_counts(training.images)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    variance = (counts * np.square(levels - mean[:, None])).sum(axis=1) / counts.sum(axis=1)
    std = np.maximum(np.sqrt(variance), STD_FLOOR)
    digest = hashlib.sha256(f"flip={flip}".encode())
    for part in (weights, architecture, validation, test):
        if part is None:
            continue
        digest.update(f";{part.images.shape};".encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels).data)
    return Dataset(
        name=name,
        class_names=tuple(class_names),
        training=training,
        split=len(weights),
        validation=validation,
        test=test,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        flip=flip,
        digest=digest.hexdigest()[:16],
    )


def _pixel_counts(images: np.ndarray) -> np.ndarray:
    """How often each grey level occurs in each channel, (C, 256): mean and variance without a float copy."""
    import torch

    channels = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
    return np.stack([torch.bincount(torch.tensor(pixels), minlength=256).numpy() for pixels in channels])
