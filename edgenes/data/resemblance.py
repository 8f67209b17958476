"""Pictures that are equal, or nearly: what a person wants to know before training."""

import hashlib
from collections.abc import Sequence

import numpy as np

SAMPLE = 1000
"""Pictures from which their differences are estimated, about."""
SIDE = 64
"""Rows and columns of them, about."""
LEAST_DIFFERENCE = 1.0
"""Mean standard deviation of a pixel across pictures, in grey levels, below which these are nearly alike."""
_SHOWN = 5


def resemblances(train: np.ndarray, test: np.ndarray, test_names: Sequence[str] = ()) -> list[str]:
    """Lines about test pictures that are in the training half, and about training pictures that are nearly all alike.

    `train` and `test` are uint8 (N, H, W, C); `test_names` are the files of the test pictures.
    """
    known, tested = _digests(train), _digests(test)
    distinct = set(known)
    notes = []
    if shared := [index for index, digest in enumerate(tested) if digest in distinct]:
        names = [test_names[index] if test_names else str(index) for index in shared[:_SHOWN]]
        more = ", ..." if len(shared) > _SHOWN else ""
        notes.append(
            f"{len(shared)} of {len(test)} test images are training images too, for which the results are too good: "
            f"{', '.join(names)}{more}."
        )
    step = max(1, len(train) // SAMPLE), max(1, train.shape[1] // SIDE), max(1, train.shape[2] // SIDE)
    difference = train[:: step[0], :: step[1], :: step[2]].std(0, dtype=np.float32).mean()
    if difference < LEAST_DIFFERENCE:
        notes.append(
            f"the training images are nearly all alike: from image to image a pixel differs by {difference:.2g} of 255 "
            f"levels, and all are in {train.min()}..{train.max()}. Look at some of them."
        )
    elif len(distinct) * 2 <= len(train):
        notes.append(f"only {len(distinct)} of {len(train)} training images are distinct. Look at some of them.")
    return notes


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
