"""What takes long to compute, stored once under the digest of all that decides it: one store for every kind of it.

A study's own store is keyed by configuration, seed, genotype and data: whichever node was first, its numbers are the
study's. The cache that studies share is keyed by what decides the last bits too (the code's version, torch, the
processor, its threads), so that a study's numbers do not depend on what was computed before it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

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
ComputeTogether = Callable[[list[int], list[dict[str, Any] | None], list[Report]], list[dict[str, Any]]]
"""`compute(positions, resumes, reports)` returns the states of the artifacts at these positions."""

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


def read_artifact(kind: Kind[T], path: Path, key: str | None = None) -> Artifact[T]:
    """The artifact in a file; `key` is by default the one that the file names.

    Raises CheckpointError if the file is damaged, holds another artifact than its name says, or none of this kind.
    """
    state = load_checkpoint(path, kind.name, mapped=True)
    try:
        if state["key"] != (key or path.stem):
            raise CheckpointError(f"{path} holds another {kind.name} than its name says.")
        if type(state["seconds"]) not in (int, float) or type(state["out_of_memory"]) not in (dict, type(None)):
            raise TypeError("seconds and out_of_memory")
        value = kind.read(state)
        return Artifact(state["key"], value, state["seconds"], True, out_of_memory=state["out_of_memory"])
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} holds no whole {kind.name}.") from error


class ArtifactStore:
    """The artifacts of a study; two workers of a node never compute the same one at once.

    With a remote folder behind `files` a node takes what another has computed, and continues a lost node's computation.
    With a cache it takes what other studies have computed: a hit is copied into the study's folder.
    """

    def __init__(self, files: StudyFiles, cache: Cache | None = None):
        self.files, self.cache = files, cache
        self._ahead: dict[str, Artifact[Any]] = {}

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
            return read_artifact(kind, path, key)
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
        with self._lock(kind, key):
            found = self._there(kind, key, device, sound, cached)
            if found is not None:
                return found
            begun = _Computation(self, kind, key, device, cached)
            state, out_of_memory = with_less_memory(
                lambda resume, parts: compute(resume, begun.report, parts), begun.resume
            )
            return begun.finish(state, out_of_memory)

    def obtain_together(
        self,
        kind: Kind[T],
        keys: Sequence[str],
        device: str,
        compute: ComputeTogether,
        sound: Callable[[T], bool] = lambda value: True,
        cached: bool = True,
    ) -> None:
        """`obtain` what is missing, all of it at once; `obtain` then finds it as if it had computed it.

        What another worker computes now, and what was begun with a part of a batch at a time, is left to `obtain`.
        """
        with ExitStack() as locks:
            begun: dict[int, _Computation[T]] = {}
            pace = _Pace()
            for k, key in enumerate(keys):
                lock = self._lock(kind, key)
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                found = self._there(kind, key, device, sound, cached)
                one = _Computation(self, kind, key, device, cached, pace) if found is None else None
                if one is None or (one.resume or {}).get("accumulate", 1) > 1:
                    lock.release()
                    self._ahead |= {key: found} if found else {}
                else:
                    locks.callback(lock.release)
                    begun[k] = one
            pace.shares = len(begun)
            states = compute(
                list(begun), [one.resume for one in begun.values()], [one.report for one in begun.values()]
            )
            for one, state in zip(begun.values(), states, strict=True):
                self._ahead[one.key] = one.finish(state)

    def _lock(self, kind: Kind, key: str) -> FileLock:
        """While it is held, no other worker of the node computes this."""
        self.path(kind, key).parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path(kind, key).with_suffix(".lock"))

    def _there(
        self, kind: Kind[T], key: str, device: str, sound: Callable[[T], bool], cached: bool
    ) -> Artifact[T] | None:
        """The artifact, if it is in the study or in the cache."""
        if key in self._ahead:
            return self._ahead.pop(key)
        found = self.find(kind, key)
        if found is not None and not sound(found.value):
            found = self.find(kind, key, fresh=True)  # another node may have stored a better one
        if found is not None and sound(found.value):
            return found
        return self._from_cache(kind, key, device, sound) if cached else None

    def _from_cache(self, kind: Kind[T], key: str, device: str, sound: Callable[[T], bool]) -> Artifact[T] | None:
        """The cache's artifact, copied into the study's folder; None if there is none that is sound."""
        if self.cache is None:
            return None
        name = cache_name(kind, key, computed_with(kind, device))
        there = self.cache.find(name, lambda path: read_artifact(kind, path, key))
        if there is None or not sound(there.value) or not self.cache.copy_to(name, self.path(kind, key)):
            return None
        found = self.find(kind, key)
        if found is None:
            return None
        self.files.publish(f"{kind.folder}/{key}.pt")
        self.files.forget(f"{kind.folder}/{key}.unfinished")
        return replace(found, shared=True)


class _Pace:
    """When computations that are done at once, `shares` of them, keep their states: in one epoch."""

    def __init__(self) -> None:
        self.shares = 1
        self.start = self._saved = time.monotonic()
        self._epoch: int | None = None

    def due(self, epoch: int) -> bool:
        """Whether to keep the states of this epoch."""
        now = time.monotonic()
        if epoch != self._epoch and now - self._saved >= SAVE_EVERY:
            self._epoch, self._saved = epoch, now
        return epoch == self._epoch


class _Computation(Generic[T]):
    """The computation of an artifact, which resumes from its last checkpoint."""

    def __init__(
        self, store: ArtifactStore, kind: Kind[T], key: str, device: str, cached: bool, pace: _Pace | None = None
    ):
        self.key, self._store, self._kind, self._pace = key, store, kind, pace or _Pace()
        self._cache = store.cache if cached else None
        self._computed = self._begun = computed_with(kind, device)
        self._name = f"{kind.folder}/{key}.unfinished"
        self._unfinished = store.files.fetch(self._name, fresh=True)
        self.resume: dict[str, Any] | None = None
        self._earlier = 0.0
        if self._unfinished.exists():
            try:
                resume = load_checkpoint(self._unfinished, f"unfinished {kind.name}", device)
                self._earlier, self._begun = resume.pop("seconds"), resume.pop("computed")
                self.resume = resume
            except (CheckpointError, KeyError) as error:
                log.warning("%s It is computed from the start.", error)

    @property
    def _seconds(self) -> float:
        return self._earlier + (time.monotonic() - self._pace.start) / self._pace.shares

    def report(self, epoch: int, _metrics: dict[str, float], state: dict[str, Any]) -> None:
        """Keep the state of an epoch, if the last one that was kept is old enough."""
        if self._pace.due(epoch):
            about = {"seconds": self._seconds, "computed": self._begun}
            save_checkpoint(self._unfinished, f"unfinished {self._kind.name}", {**state, **about})
            self._store.files.publish(self._name)

    def finish(self, state: dict[str, Any], out_of_memory: dict[str, Any] | None = None) -> Artifact[T]:
        """Store the artifact's state, in the cache too.

        The cache may have it if what it was `computed` with alone says how it came about: not where another machine
        began, or where memory was too small for a whole batch.
        """
        kind, store, seconds = self._kind, self._store, self._seconds
        state |= {"key": self.key, "seconds": seconds, "out_of_memory": out_of_memory}
        state |= {"computed": self._computed, "environment": environment()}
        path = store.path(kind, self.key)
        reached(kind.name)
        save_checkpoint(path, kind.name, state)
        store.files.publish(f"{kind.folder}/{self.key}.pt")
        store.files.forget(self._name)
        reached(f"{kind.name} stored")
        if self._cache is not None and self._begun == self._computed and out_of_memory is None:
            self._cache.put(cache_name(kind, self.key, self._computed), path)
        return Artifact(self.key, kind.read(state), seconds, out_of_memory=out_of_memory)


def computed_with(kind: Kind, device: str) -> dict[str, Any]:
    """What decides the last bits of an artifact of this kind."""
    return {"version": kind.version, **numerics(device)}


def cache_name(kind: Kind, key: str, computed: dict[str, Any]) -> str:
    """An artifact's name in the cache."""
    return f"{kind.name}-{digest(key, computed)}"
