"""Where images come from: scikit-learn's digits, torchvision, `.npz` files, folders of pictures.

Each reader returns a `Source`, the data as they were published; `Source.checked` makes them uniform. Files and folders
are found by their path, all others by their name in `SOURCES`.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgenes.data.images import read_pictures, resize
from edgenes.data.npz import read_npz
from edgenes.data.split import split_indices
from edgenes.errors import DataError
from edgenes.registry import Registry

DEFAULT_ROOT = Path("~/.cache/edgenes")
MIN_TRAIN_IMAGES = 5
"""Images a class needs in the training split, for one at least to fall into each of its three parts."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before any split of ours.

    As read: images (N, H, W) or (N, H, W, C), labels (N,), unchecked. After `checked`: uint8 (N, S, S, C)
    and int64, each class named and present in both halves. `flip` says whether a horizontal flip keeps the label.
    """

    name: str
    class_names: tuple[str, ...] | None
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    flip: bool = False

    def checked(self, image_size: int | None = None) -> "Source":
        """The same data in uniform arrays, resized to squares of `image_size` pixels where one is given.

        Raises DataError for arrays of another type or shape, images that are not square or of differing size
        (without `image_size`), labels other than 0..K-1, a class with too few images, or a single class.
        """
        train, test = _images(self.train_images, "x_train"), _images(self.test_images, "x_test")
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
        train_labels = _labels(self.train_labels, "y_train", len(train))
        test_labels = _labels(self.test_labels, "y_test", len(test))
        names = self.class_names
        if names is None:
            # More classes than images cannot be right, and their names could fill the memory.
            classes = min(int(train_labels.max()), len(train_labels)) + 1
            names = tuple(str(label) for label in range(classes))
        _check_classes(names, train_labels, test_labels)
        return Source(self.name, names, train, train_labels, test, test_labels, self.flip)


def _size(images: np.ndarray) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"


def _images(array: np.ndarray, what: str) -> np.ndarray:
    """uint8 (N, H, W, C), a channel axis added to grey images."""
    if array.dtype != np.uint8:
        cure = "multiply them by 255 if they are in 0..1, round and cast" if array.dtype.kind == "f" else "cast"
        raise DataError(f"{what} should be uint8, 0..255, got {array.dtype}: {cure} with .astype('uint8').")
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


def _labels(array: np.ndarray, what: str, images: int) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise DataError(f"{what} should hold integer labels 0..K-1, got {array.dtype}: cast them to int64.")
    if array.ndim != 1:
        raise DataError(f"{what} should have shape (N,), got {array.shape}: use .reshape(-1) if that is N.")
    if len(array) != images:
        raise DataError(f"{what} has {len(array)} labels for {images} images; give one label an image.")
    if array.min() < 0 or array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{what} holds the label {array.min() if array.min() < 0 else array.max()}; expected 0..K-1.")
    return array.astype(np.int64)


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
                f"{', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. Add images, or drop the class and "
                "renumber the labels without a gap."
            )


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
    """An `.npz` with x_train, y_train, x_test, y_test and, if wanted, class_names; see `read_npz`."""
    names = ("x_train", "y_train", "x_test", "y_test")
    held = read_npz(path, names, optional=("class_names",))
    class_names, texts = None, held.get("class_names")
    if texts is not None:
        if texts.ndim != 1 or texts.dtype.kind not in "US":
            raise DataError(
                f"class_names in {path} should be a list of strings, got {texts.dtype} of shape {texts.shape}. "
                "Save it as numpy.array(names, dtype=str), or leave it out."
            )
        class_names = tuple(str(name) for name in texts.astype(str))
    return Source(path.stem, class_names, held["x_train"], held["y_train"], held["x_test"], held["y_test"])


def read_folder(path: Path, image_size: int | None = None) -> Source:
    """Pictures in train/CLASS/ and test/CLASS/; grey if all of them are, else RGB without transparency.

    Pictures of another size than `image_size` are resized as they are read. Raises DataError if a half is
    missing, the classes of the halves differ, a picture cannot be read, or sizes differ and `image_size` is
    None.
    """
    from torchvision.datasets import ImageFolder

    layout = "Expected train/CLASS/ and test/CLASS/ with pictures (.png, .jpg, ...) inside."
    for half in ("train", "test"):
        if not (path / half).is_dir() or not any(entry.is_dir() for entry in (path / half).iterdir()):
            raise DataError(f"{path} has no folder of classes in {half}/. {layout}")
    train, test = (ImageFolder(path / half, allow_empty=True) for half in ("train", "test"))
    differing = sorted(set(train.classes) ^ set(test.classes))
    if differing:
        raise DataError(
            f"the classes in train/ and test/ of {path} differ: {', '.join(differing)} only in one of them. "
            "Give both the same folders."
        )
    samples = train.samples + test.samples
    if not samples:
        raise DataError(f"{path} holds no pictures. {layout}")
    images = read_pictures([file for file, _ in samples], image_size)
    labels = np.array([label for _, label in samples])
    cut = len(train.samples)
    name = path.resolve().name
    return Source(name, tuple(train.classes), images[:cut], labels[:cut], images[cut:], labels[cut:])


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
        ...     images = np.zeros((40, 8, 8), np.uint8)
        ...     images[::2, 3], images[1::2, :, 3] = 255, 255
        ...     labels = np.arange(40) % 2
        ...     return Source("bars", ("row", "column"), images[:30], labels[:30], images[30:], labels[30:])
        >>> register_source("bars", bars)
        >>> load_data("bars").classes
        2
    """
    SOURCES.add(name, read)
