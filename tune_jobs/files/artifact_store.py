"""What takes long to compute, stored once under the digest of all that decides it: one store for every kind of it.

A study's own store is keyed by configuration, seed, genotype and data: whichever node was first, its numbers are the
study's. The cache that studies share is keyed by what decides the last bits too (the code's version, torch, the
processor, its threads), so that a study's numbers do not depend on what was computed before it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import digest
from edgenes.errors import CheckpointError, ConfigError
from edgenes.training.bilevel import Report
from edgenes.training.memory import with_less_memory
from tune_jobs.files.cache import Cache
from tune_jobs.files.environment import environment, numerics
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.moments import reached

log = logging.getLogger(__name__)
T = TypeVar("T")
Compute = Callable[[dict[str, Any] | None, Report, int], dict[str, Any]]
"""`compute(resume, report, accumulate)` returns the artifact's state: plain values and tensors on the CPU."""

SAVE_EVERY = 10.0
"""Seconds between two checkpoints of an unfinished computation: what a killed worker repeats at most, and an epoch."""
_UNREADABLE = (AttributeError, ConfigError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of artifact: its name, its folder in a study, the version of the code that computes it, and its reader.

    `read(state)` makes the value of a stored state; what it raises says that the file holds no such artifact.
    """

    name: str
    folder: str
    version: int
    read: Callable[[dict[str, Any]], T]


@dataclass(frozen=True)
class Artifact(Generic[T]):
    """A stored value. `cached` if nothing was computed now, `shared` if another study had computed it.

    `out_of_memory` holds {"reason", "accumulate"} if only a part of a batch fitted at a time, else None.
    """

    key: str
    value: T
    seconds: float
    cached: bool = False
    shared: bool = False
    out_of_memory: dict[str, Any] | None = None


def read_artifact(kind: Kind[T], path: Path, key: str | None = None) -> tuple[Artifact[T], dict[str, Any]]:
    """The artifact in a file, and what it was computed with; `key` is by default the one that the file names.

    Raises CheckpointError if the file is damaged, holds another artifact than its name says, or none of this kind.
    """
    state = load_checkpoint(path, kind.name, mapped=True)
    try:
        if state["key"] != (key or path.stem):
            raise CheckpointError(f"{path} holds another {kind.name} than its name says.")
        if type(state["seconds"]) not in (int, float) or type(state["out_of_memory"]) not in (dict, type(None)):
            raise TypeError("seconds and out_of_memory")
        value = kind.read(state)
        found = Artifact(state["key"], value, state["seconds"], True, out_of_memory=state["out_of_memory"])
        return found, state["computed"]
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} holds no whole {kind.name}.") from error


class ArtifactStore:
    """The artifacts of a study; two workers of a node never compute the same one at once.

    With a remote folder behind `files` a node takes what another has computed, and continues a lost node's computation.
    With a cache it takes what other studies have computed: a hit is copied into the study's folder.
    """

    def __init__(self, files: StudyFiles, cache: Cache | None = None):
        self.files, self.cache = files, cache

    def path(self, kind: Kind, key: str) -> Path:
        """The file of an artifact on this machine, whether it is there or not."""
        return self.files.folder / kind.folder / f"{key}.pt"

    def find(self, kind: Kind[T], key: str, fresh: bool = False) -> Artifact[T] | None:
        """The artifact stored under `key`, or None; a damaged file is renamed to .damaged."""
        name = f"{kind.folder}/{key}.pt"
        path = self.files.fetch(name, fresh)
        if not path.exists():
            return None
        try:
            return read_artifact(kind, path, key)[0]
        except CheckpointError as error:
            log.warning("%s It is renamed to .damaged, and computed again.", error)
            path.replace(path.with_suffix(".damaged"))
            self.files.forget(name)
            return None

    def obtain(
        self,
        kind: Kind[T],
        key: str,
        device: str,
        compute: Compute,
        sound: Callable[[T], bool] = lambda value: True,
        cached: bool = True,
    ) -> Artifact[T]:
        """The artifact stored under `key`, if it is `sound`; else `compute` makes its state, which is stored.

        A computation that was interrupted resumes from its last checkpoint. Not `cached`, it stays in this study.
        """
        self.path(kind, key).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path(kind, key).with_suffix(".lock")):
            found = self.find(kind, key)
            if found is not None and not sound(found.value):
                found = self.find(kind, key, fresh=True)  # another node may have stored a better one
            if found is not None and sound(found.value):
                return found
            computed = {"version": kind.version, **numerics(device)}
            if self.cache is None or not cached:
                return self._compute(kind, key, device, computed, compute)[0]
            name = f"{kind.name}-{digest(key, computed)}"
            found = self._from_cache(kind, key, name, computed, sound)
            if found is not None:
                return found
            found, whole = self._compute(kind, key, device, computed, compute)
            if whole:
                self.cache.put(name, self.path(kind, key))
            return found

    def _from_cache(
        self, kind: Kind[T], key: str, name: str, computed: dict[str, Any], sound: Callable[[T], bool]
    ) -> Artifact[T] | None:
        """The cache's artifact, copied into the study's folder; None if there is none that is sound."""

        def read(path: Path) -> Artifact[T]:
            found, with_what = read_artifact(kind, path, key)
            if with_what != computed:
                raise CheckpointError(f"{path} holds another {kind.name} than its name says.")
            return found

        there = self.cache.find(name, read)
        if there is None or not sound(there.value) or not self.cache.copy_to(name, self.path(kind, key)):
            return None
        found = self.find(kind, key)
        if found is None:
            return None
        self.files.publish(f"{kind.folder}/{key}.pt")
        self.files.forget(f"{kind.folder}/{key}.unfinished")
        return replace(found, shared=True)

    def _compute(
        self, kind: Kind[T], key: str, device: str, computed: dict[str, Any], compute: Compute
    ) -> tuple[Artifact[T], bool]:
        """Compute and store; also whether `computed` alone says how it came about, so that the cache may have it.

        It does not where another machine began, or where memory was too small for a whole batch.
        """
        name = f"{kind.folder}/{key}.unfinished"
        unfinished = self.files.fetch(name, fresh=True)
        resume, earlier, begun = None, 0.0, computed
        if unfinished.exists():
            try:
                resume = load_checkpoint(unfinished, f"unfinished {kind.name}", device)
                earlier, begun = resume.pop("seconds"), resume.pop("computed")
            except (CheckpointError, KeyError) as error:
                log.warning("%s It is computed from the start.", error)
                resume = None
        start = saved = time.monotonic()

        def report(_epoch: int, _metrics: dict[str, float], state: dict[str, Any]) -> None:
            nonlocal saved
            now = time.monotonic()
            if now - saved >= SAVE_EVERY:
                about = {"seconds": earlier + now - start, "computed": begun}
                save_checkpoint(unfinished, f"unfinished {kind.name}", {**state, **about})
                self.files.publish(name)
                saved = now

        state, out_of_memory = with_less_memory(lambda resume, parts: compute(resume, report, parts), resume)
        state |= {
            "key": key,
            "seconds": earlier + time.monotonic() - start,
            "out_of_memory": out_of_memory,
            "computed": computed,
            "environment": environment(),
        }
        path = self.path(kind, key)
        reached(kind.name)
        save_checkpoint(path, kind.name, state)
        self.files.publish(f"{kind.folder}/{key}.pt")
        self.files.forget(name)
        reached(f"{kind.name} stored")
        found = Artifact(key, kind.read(state), state["seconds"], out_of_memory=out_of_memory)
        return found, begun == computed and out_of_memory is None
