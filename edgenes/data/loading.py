"""Loading a data set and splitting it into its four parts."""

import difflib
from pathlib import Path

import numpy as np

from edgenes.data.dataset import Dataset, Part, build_dataset
from edgenes.data.folder import read_folder
from edgenes.data.source import Source
from edgenes.data.sources import SOURCES, read_file
from edgenes.data.split import split_indices
from edgenes.errors import DataError

LARGEST = 4096
"""Pixels a side to which images are resized at most: a slip of the keyboard could ask for terabytes."""
SPLIT = (0.4, 0.4, 0.2)
"""Shares of W, H and V in the training split: a fifth for V, the rest in halves."""


def load_data(
    name_or_path: str | Path,
    root: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    seed: int = 0,
    flip: bool | None = None,
    images: int | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Load a data set and split its training images, stratified and shuffled: V a fifth, W and H two fifths.

    `name_or_path` is one of

    - `digits`, embedded in scikit-learn. It has no official test split; a fixed, stratified fifth of it, the
      same for every `seed`, is T;
    - `cifar10`, `cifar100`, `fashionmnist`, in torchvision's layout under `root` (~/.cache/edgenes if None),
      fetched only with `download`;
    - a name of your own, see `register_source`;
    - the path of an `.npz` with x_train, y_train, x_test, y_test (images uint8 (N, H, W) or (N, H, W, C),
      labels 0..K-1) and, if wanted, class_names;
    - the path of a folder with pictures in train/CLASS/ and test/CLASS/, or in CLASS/ alone, of which a fixed,
      stratified fifth is T; with `skip_broken` those that cannot be read are left out.

    Pixels and labels of other types are converted where they have one meaning. What is converted, skipped or looks
    wrong is logged as a warning.

    `image_size` resizes to squares of that many pixels. `seed` decides the split. `flip` says whether a
    horizontal flip keeps the label; None means yes for torchvision's data, no for all others, and for your own what
    their `Source` says. Of more than `images` training images only so many are used, drawn class by class, the same
    for every `seed`. Raises DataError.

    Example:
        >>> from edgenes import load_data
        >>> data = load_data("digits", images=100)
        >>> len(data.weights), len(data.architecture), len(data.validation), len(data.test)
        (40, 40, 20, 359)
    """
    if image_size is not None and not 1 <= image_size <= LARGEST:
        raise DataError(f"image_size should be 1 to {LARGEST} pixels, got {image_size}.")
    if seed < 0:
        raise DataError(f"the seed of the split should be at least 0, got {seed}.")
    source = _read(name_or_path, root, download, image_size, skip_broken).checked(image_size)
    pixels, labels = source.train_images, source.train_labels
    if images is not None and images < len(labels):
        if images < 1:
            raise DataError(f"images should be at least 1, got {images}.")
        share = images / len(labels)
        used, _ = split_indices(labels, (share, 1 - share), seed=0)
        pixels, labels = pixels[used], labels[used]
    split = split_indices(labels, SPLIT, seed) if len(labels) else []
    if not split or not all(map(len, split)):
        raise DataError(
            f"{len(labels)} training images, drawn class by class, are too few for W, H and V: ask for more images."
        )
    weights, architecture, validation = (Part(_channels_first(pixels[part]), labels[part]) for part in split)
    test = Part(_channels_first(source.test_images), source.test_labels)
    flip = source.flip if flip is None else flip
    names = source.class_names or ()
    return build_dataset(source.name, names, weights, architecture, validation, test, flip=flip)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) as (N, C, H, W), in memory too.

    `np.ascontiguousarray` would keep the strides of a single channel, which PyTorch takes for channels-last: its
    kernels differ in the last bits, and a copy that was sent to a worker has other strides.
    """
    return images.transpose(0, 3, 1, 2).copy(order="C")


def _read(
    name_or_path: str | Path, root: str | Path | None, download: bool, image_size: int | None, skip_broken: bool
) -> Source:
    name = str(name_or_path)
    if name in SOURCES:
        return SOURCES[name](root, download)
    path = Path(name).expanduser()
    if path.is_dir():
        return read_folder(path, image_size, skip_broken)
    if path.exists():
        return read_file(path)
    if path.suffix == ".npz" or len(path.parts) > 1:
        raise DataError(f"{path} does not exist. Expected an .npz file or a folder of pictures.")
    near = difflib.get_close_matches(name.lower(), SOURCES, n=1)
    raise DataError(
        f"unknown data set {name!r}{f', did you mean {near[0]!r}?' if near else '.'} "
        f"Known: {', '.join(SOURCES)}; or give the path of an .npz file (x_train, y_train, x_test, y_test), "
        "or of a folder with pictures in train/CLASS/ and test/CLASS/, or in CLASS/ alone."
    )
