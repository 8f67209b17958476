"""Pictures in folders of classes, as they lie on real disks."""

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from edgenes.data.images import picture_endings, read_pictures
from edgenes.data.source import Source
from edgenes.data.split import split_indices
from edgenes.errors import DataError

SYSTEM = frozenset(
    [
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot", "$recycle.bin"),
        *("lost+found", "system volume information", "__macosx", "__pycache__", "icon\r"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    ]
)
"""Names, in lower case, that operating systems, network drives and programs leave beside pictures."""
LAYOUT = "Expected train/CLASS/ and test/CLASS/, or CLASS/ alone, with pictures (.png, .jpg, ...) inside."
PARTS = frozenset(["train", "test", "training", "testing", "val", "valid", "validation"])
"""Names, in lower case, of folders that are parts of a data set and no classes."""
log = logging.getLogger(__name__)


def read_folder(path: Path, image_size: int | None = None, skip_broken: bool = False) -> Source:
    """Pictures in train/CLASS/ and test/CLASS/, at any depth, of every format that Pillow decodes.

    Of a folder with CLASS/ alone a fifth of each class, drawn once for every seed, is the test half.

    See `read_pictures` for what becomes of them. Hidden names, and those of systems (`SYSTEM`), are skipped. What is
    skipped or changed is logged as a warning, each kind in one line. Raises DataError if a half is missing, the
    classes of the halves differ, a picture cannot be read (without `skip_broken`), or sizes differ and `image_size` is
    None.
    """
    skipped: Counter[str] = Counter()
    try:
        folders = _folders(path)
        apart = not folders or any(each.lower() in PARTS for each in folders)
        halves = {half: _classes(path / half, skipped) for half in (("train", "test") if apart else (".",))}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    names = sorted(set().union(*halves.values()))
    if differing := [each for each in names if not all(each in found for found in halves.values())]:
        raise DataError(
            f"the classes in train/ and test/ of {path} differ: {', '.join(differing)} only in one of them. "
            "Give both the same folders."
        )
    name = path.resolve().name
    if skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common())
        log.warning("%s: skipped files that are hidden or no pictures: %s.", name, kinds)
    if apart and (unread := [each for each in folders if each not in halves]):
        log.warning("%s: only train/ and test/ are read, not %s.", name, ", ".join(f"{each}/" for each in unread))
    samples = [
        (file, label, half)
        for half, found in halves.items()
        for label, each in enumerate(names)
        for file in found[each]
    ]
    if not samples:
        raise DataError(f"{path} holds no pictures. {LAYOUT}")
    pictures = read_pictures([file for file, *_ in samples], image_size, skip_broken)
    for note in pictures.notes:
        log.warning("%s: %s", name, note)
    kept = [samples[index] for index in pictures.read]
    labels = np.array([label for _, label, _ in kept])
    cut = sum(half == "train" for *_, half in kept)
    train: slice | np.ndarray = slice(cut)  # no copy
    test = np.arange(cut, len(kept))
    if not apart:
        train, test = split_indices(labels, (0.8, 0.2), seed=0)
        log.warning("%s: no train/, no test/: a fifth of each class, %d pictures, are test images.", name, len(test))
    tested = tuple(os.path.relpath(kept[k][0], path) for k in test)
    images = pictures.images
    return Source(name, tuple(names), images[train], labels[train], images[test], labels[test], test_files=tested)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _folders(path: Path) -> list[str]:
    return sorted(each.name for each in os.scandir(path) if each.is_dir() and not _hidden(each.name))


def _classes(half: Path, skipped: Counter[str]) -> dict[str, list[str]]:
    """The pictures of each class, sorted; the other files are counted by their ending."""
    names = _folders(half) if half.is_dir() else []
    if not names:
        there = ", ".join(_folders(half.parent)[:3]) or "no folder"
        raise DataError(
            f"{half.parent} has no folder of classes in {half.name}/; it has {there}. {LAYOUT} Of "
            "CLASS/ alone a fifth of the pictures become the test images."
        )
    found: dict[str, list[str]] = {name: [] for name in names}
    for folder, _, files in sorted(os.walk(half, followlinks=True, onerror=_raise)):
        parts = Path(folder).relative_to(half).parts
        hidden = any(map(_hidden, parts))
        for file in sorted(files):
            place, ending = os.path.join(folder, file), os.path.splitext(file)[1].lower()
            # A link to nothing is a picture that is lost, and said to be; a pipe would be waited for.
            regular = os.path.isfile(place) or os.path.islink(place)
            if parts and regular and not hidden and not _hidden(file) and ending in picture_endings():
                found[parts[0]].append(place)
            else:
                skipped[f"{ending or 'without ending'}{' (hidden)' if hidden or _hidden(file) else ''}"] += 1
    return found


def _raise(error: OSError) -> None:
    raise error
