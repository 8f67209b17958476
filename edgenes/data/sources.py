"""Where images come from: scikit-learn's digits, torchvision, `.npz` files, and sources of your own.

Each reader returns a `Source`, the data as they were published; `Source.checked` makes them uniform. Files and folders
are found by their path, all others by their name in `SOURCES`.
"""

import importlib.util
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from edgenes.data.npz import read_npz
from edgenes.data.source import Source
from edgenes.data.split import split_indices
from edgenes.errors import DataError
from edgenes.registry import Registry

DEFAULT_ROOT = Path("~/.cache/edgenes")
NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Arrays of an `.npz`."""
MEDMNIST = tuple(f"{half}_{what}" for half in ("train", "val", "test") for what in ("images", "labels"))
log = logging.getLogger(__name__)


def read_digits(root: str | Path | None = None, download: bool = False) -> Source:
    """scikit-learn's 1,797 embedded digits, 8x8, their 0..16 stretched to 0..255; a fixed fifth is the test half."""
    # Its file, without `import sklearn`: that takes a second, which every study on digits would begin with.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits are a file of scikit-learn, which is not installed.")
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    train, test = split_indices(labels, (0.8, 0.2), seed=0)
    return Source("digits", None, images[train], labels[train], images[test], labels[test])


def read_torchvision(kind_name: str, root: str | Path | None, download: bool) -> Source:
    """CIFAR-10, CIFAR-100 or Fashion-MNIST from `root`, in torchvision's own layout on disk.

    Raises DataError if the files are absent or damaged, or cannot be downloaded.
    """
    from torchvision import datasets

    kind, name = getattr(datasets, kind_name), kind_name.lower()
    root = Path(DEFAULT_ROOT if root is None else root).expanduser()
    if name == "fashionmnist":
        folder = place = root / kind.__name__ / "raw"
        archives = [f"{mirror}{file}" for mirror in kind.mirrors for file, _ in kind.resources]
    else:
        folder, place, archives = root / kind.base_folder, root, [kind.url]
    try:
        train, test = (kind(root, train=half, download=download) for half in (True, False))
    # Whether Fashion-MNIST's files are whole, torchvision learns from whatever fails while it reads them.
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, AssertionError) as error:
        if download:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{name} could not be downloaded into {root}, or not be read there ({cause}). Without a "
                f"network, fetch by hand {', '.join(archives)}, put it into {place}, and run again with "
                f"download=True: what is there already is unpacked, not fetched. If a damaged {folder} is there, "
                "delete it first."
            ) from error
        raise DataError(
            f"{name} is not in {folder}, or is incomplete or damaged there (then delete it). Set download=True to "
            f"fetch it, or root if another folder holds {folder.relative_to(root)}."
        ) from error
    x_train, y_train, x_test, y_test = (np.asarray(x) for half in (train, test) for x in (half.data, half.targets))
    return Source(name, tuple(train.classes), x_train, y_train, x_test, y_test, flip=True)


def read_file(path: Path) -> Source:
    """An `.npz` with x_train, y_train, x_test, y_test and, if wanted, class_names; see `read_npz`.

    MedMNIST's names of arrays are known too: its train and val images are the training images.
    """
    held = read_npz(path, NAMES, optional=("class_names",), other=MEDMNIST)
    if MEDMNIST[0] in held:
        return _medmnist(path, held)
    class_names, texts = None, held.get("class_names")
    if texts is not None:
        if texts.ndim != 1 or texts.dtype.kind not in "US":
            raise DataError(
                f"class_names in {path} should be a list of strings, got {texts.dtype} of shape {texts.shape}. "
                "Save it as numpy.array(names, dtype=str), or leave it out."
            )
        class_names = tuple(str(name) for name in texts.astype(str))
    return Source(path.stem, class_names, held["x_train"], held["y_train"], held["x_test"], held["y_test"])


def _medmnist(path: Path, held: dict[str, np.ndarray]) -> Source:
    if held["train_images"].shape[1:] != held["val_images"].shape[1:]:
        raise DataError(f"train_images and val_images in {path} differ in shape: give both the same.")
    log.warning("%s: train_images and val_images of MedMNIST are the training images.", path.stem)
    images, labels = (
        np.concatenate([held[f"{half}_{what}"] for half in ("train", "val")]) for what in ("images", "labels")
    )
    return Source(path.stem, None, images, labels, held["test_images"], held["test_labels"])


Read = Callable[[str | Path | None, bool], Source]
SOURCES: Registry[Read] = Registry("data set")
SOURCES.add("digits", read_digits, built_in=True)
for _name in ("CIFAR10", "CIFAR100", "FashionMNIST"):
    SOURCES.add(_name.lower(), partial(read_torchvision, _name), built_in=True)


def register_source(name: str, read: Read) -> None:
    """Add a data set of your own, for `load_data(name)`: `read(root, download)` gives its `Source`.

    Whatever process loads the data set has to register it first. Raises ConfigError for the name of a data set of the
    package.

    Example:
        >>> import numpy as np
        >>> from edgenes import Source, load_data, register_source
        >>> def bars(root, download):
        ...     images = np.random.default_rng(0).integers(0, 99, (40, 8, 8), dtype=np.uint8)
        ...     images[::2, 3], images[1::2, :, 3] = 255, 255
        ...     labels = np.arange(40) % 2
        ...     return Source("bars", ("row", "column"), images[:30], labels[:30], images[30:], labels[30:])
        >>> register_source("bars", bars)
        >>> load_data("bars").classes
        2
    """
    SOURCES.add(name, read)
