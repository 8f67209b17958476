"""What lies in a study's folder: who drives it, what is left over, and which predictions its result rests on."""

import os
import re
import socket
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgenes import ensemble_files
from edgenes.data.dataset import Dataset
from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError, DataError
from tune_jobs.config.data import DataOptions
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import CONFIG, DRIVER, ENSEMBLE_FOLDER
from tune_jobs.files.lease import STALE, read_driver
from tune_jobs.files.stored_trainer import candidate_key
from tune_jobs.progress.text import one_line
from tune_jobs.stages.finalists import Entry, all_members
from tune_jobs.study.saved import SavedStudy


def ensemble_file(place: Path) -> Path:
    """The first file to read of an ensemble, given its folder, one of its files, or the folder of its study."""
    inside = place / ENSEMBLE_FOLDER
    return ensemble_files.ensemble_file(inside if inside.is_dir() else place)


def new_place(path: Path, folder: bool = False) -> Path:
    """`path`, absolute, where a file or a `folder` can be written; raises StudyError if it is taken."""
    if path.exists() and not (folder and path.is_dir() and not any(path.iterdir())):
        raise StudyError(f"{path} is there already, and is not overwritten: give another name, or remove it.")
    return path.absolute()


def study_of(ensemble: Path) -> Path | None:
    """The folder of the study in which a file of an ensemble lies, if it lies in one."""
    return next((folder for folder in ensemble.parents[1:3] if (folder / CONFIG).exists()), None)


def data_options(ensemble: Ensemble, own: bool, **options: Any) -> DataOptions:
    """How data are read for the ensemble: as in its study if they are its `own`, but for `options` that are given.

    Nothing is downloaded unless they say so. Raises ConfigError where nothing says which data.
    """
    config = ensemble.card.get("config", {}) if own else {}
    found = {each.name: config[each.name] for each in fields(DataOptions) if each.name in config}
    found |= {"download": False, "image_size": ensemble.image_size}
    found |= {name: value for name, value in options.items() if value}
    if "dataset" not in found:
        raise ConfigError("the ensemble does not say which data it is of: give --dataset.")
    return DataOptions(**found)


def data_of(ensemble: Ensemble, dataset: str | None = None, root: Path | None = None) -> Dataset:
    """The data set of the ensemble's study without T, or `dataset` with the same classes; nothing is downloaded.

    Raises ConfigError where neither says which, DataError where the images or classes are others.
    """
    data = data_options(ensemble, own=True, dataset=dataset, root=root).load().without_test()
    if data.class_names != ensemble.class_names or data.channels != ensemble.mean.shape[1]:
        raise DataError(
            f"{data.name} has {data.classes} classes and images of {data.channels} channels that are not those of the "
            f"ensemble, {len(ensemble.class_names)} classes and {ensemble.mean.shape[1]} channels: give its own data "
            "with --dataset."
        )
    return data


def channels_last(images: np.ndarray) -> np.ndarray:
    """Images of a part, (N, C, S, S), as `predict` takes them."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


@dataclass(frozen=True)
class Contents:
    """Files below a folder, {name with /: bytes}, and what is neither a file nor a folder; links are not followed."""

    files: dict[str, int]
    others: list[str]

    def matching(self, pattern: str) -> list[str]:
        """Names of files that match the regular expression as a whole, sorted."""
        return sorted(name for name in self.files if re.fullmatch(pattern, name))

    def size(self, names: Iterable[str] | None = None) -> int:
        """Bytes of the files `names`, or of all."""
        return sum(self.files.values() if names is None else (self.files[name] for name in names))


def contents(folder: Path) -> Contents:
    """What lies below `folder` now; a file that vanishes meanwhile is left out."""
    files, others = {}, []
    for place, below, names in os.walk(folder):
        for name in sorted(below) + sorted(names):
            path = Path(place) / name
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                files[path.relative_to(folder).as_posix()] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                others.append(path.relative_to(folder).as_posix())
    return Contents(files, others)


def driver(folder: Path) -> dict[str, Any] | None:
    """Who drives the study, or did last: {"state", "host", "pid", "seconds", "heartbeat_age"}, or None.

    Both times are in seconds: since the driver began, and since it last gave a sign of life. The state is "alive";
    "dead" if its process on this host is gone; else "silent", without a heartbeat for so long that the next driver
    may take the study over.
    """
    record = read_driver(folder / DRIVER)
    if not record:
        return None
    try:
        age = time.time() - (folder / DRIVER).stat().st_mtime
    except FileNotFoundError:
        return None  # it ended in this very moment
    state = "alive" if abs(age) < STALE else "silent"  # a clock that was put back may have left it in the future
    if record.get("host") == socket.gethostname() and not _runs(record.get("pid", 0)):
        state = "dead"
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(record.get("started"))).total_seconds()
    except (TypeError, ValueError):
        seconds = None
    return {
        "state": state,
        "host": one_line(record.get("host", "an unknown host")),
        "pid": record.get("pid"),
        "seconds": seconds,
        "heartbeat_age": round(max(0.0, age), 1),
    }


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def full_retrainings(saved: SavedStudy) -> dict[str, Entry]:
    """The full retrainings of the current finalists and of the baselines by their keys in predictions/.

    Raises CheckpointError if a finalist's hypernetwork is missing or damaged.
    """
    context = saved.context()
    data: Any = SimpleNamespace(digest=saved.data_digest)  # what a key needs of a data set
    entries = all_members(context, saved.finalists(), saved.config.baselines)
    return {candidate_key(entry.member.config, data, entry.member.genotype): entry for entry in entries}
