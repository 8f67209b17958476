"""Searches and hypernetworks, stored once under the digest of everything that decides them, as `store` does networks.

What takes hours is saved as it goes, so that a killed worker's search goes on. With a cache no study of this machine
makes a search that another has made.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig, digest, to_dict
from edgenes.data.dataset import Dataset
from edgenes.errors import CheckpointError, ConfigError
from edgenes.methods.trainer import Searched, TrainedHypernetwork, traced_hypernetwork, traced_search
from edgenes.space.genotype import Genotype
from edgenes.training.bilevel import SEARCH_VERSION, Report
from edgenes.training.collapse import warn_of_collapse
from edgenes.training.memory import with_less_memory
from tune_jobs.files.cache import Cache
from tune_jobs.files.candidate_store import SAVE_EVERY, PredictionStore, Retrained
from tune_jobs.files.environment import numerics
from tune_jobs.files.lease import claimed
from tune_jobs.files.study_files import StudyFiles

log = logging.getLogger(__name__)
T = TypeVar("T", Searched, TrainedHypernetwork)
Say = Callable[[str], None]
_KIND = "traced search"
_UNREADABLE = (AttributeError, ConfigError, LookupError, TypeError, ValueError, RuntimeError)


class SearchStore:
    """A folder of finished searches; two workers never make the same one at once, and none makes it twice."""

    def __init__(self, files: StudyFiles, cache: Cache | None = None):
        self.files, self.cache = files, cache

    @property
    def folder(self) -> Path:
        """The folder on this machine."""
        return self.files.folder

    def obtain(self, kind: type[T], key: str, device: str, compute: Callable[[dict | None, Report, int], T]) -> T:
        """What is stored under `key`, or is computed now by `compute(resume, report, accumulate)` and stored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(FileLock(self.folder / f"{key}.lock"))
            if self.files.remote is not None:
                held.enter_context(claimed(self.files.remote, f"{key}.claim"))
            found = self._find(kind, key)
            if found is not None:
                return found
            computed = {"version": SEARCH_VERSION, **numerics(device)}
            if self.cache is None:
                return self._compute(key, device, computed, compute)[0]
            name = f"search-{digest(key, computed)}"
            held.enter_context(self.cache.claimed(name))
            if self.cache.find(name, lambda path: _read(kind, path, key)) is not None:
                self.cache.copy_to(name, self.folder / f"{key}.pt")
                found = self._find(kind, key)
                if found is not None:
                    self.files.publish(f"{key}.pt")
                    return found
            found, whole = self._compute(key, device, computed, compute)
            if whole:
                self.cache.put(name, self.folder / f"{key}.pt")
            return found

    def _find(self, kind: type[T], key: str) -> T | None:
        path = self.files.fetch(f"{key}.pt")
        if not path.exists():
            return None
        try:
            return _read(kind, path, key)
        except CheckpointError as error:
            log.warning("%s It is set aside and computed again.", error)
            path.replace(path.with_suffix(".damaged"))
            self.files.forget(path.name)
            return None

    def _compute(self, key: str, device: str, computed: dict[str, Any], compute: Callable) -> tuple[T, bool]:
        """Compute and store; also whether `computed` alone says how it came about."""
        unfinished = self.files.fetch(f"{key}.unfinished", fresh=True)
        resume, earlier, begun = None, 0.0, computed
        if unfinished.exists():
            try:
                resume = load_checkpoint(unfinished, _KIND, device)
                earlier, begun = resume.pop("seconds"), resume.pop("computed")
            except (CheckpointError, KeyError) as error:
                log.warning("%s The search starts again.", error)
                resume = None
        start = saved = time.monotonic()

        def report(_epoch: int, _metrics: dict[str, float], state: dict[str, Any]) -> None:
            nonlocal saved
            now = time.monotonic()
            if now - saved >= SAVE_EVERY:
                save_checkpoint(unfinished, _KIND, {**state, "seconds": earlier + now - start, "computed": begun})
                self.files.publish(unfinished.name)
                saved = now

        found, out_of_memory = with_less_memory(lambda state, parts: compute(state, report, parts), resume)
        found = replace(found, seconds=earlier + time.monotonic() - start)
        save_checkpoint(self.folder / f"{key}.pt", _KIND, {"key": key, **found.to_state()})
        self.files.publish(f"{key}.pt")
        self.files.forget(unfinished.name)
        return found, begun == computed and out_of_memory is None


def _read(kind: type[T], path: Path, key: str) -> T:
    state = load_checkpoint(path, _KIND)
    if state.get("key") != key:
        raise CheckpointError(f"{path} holds another search than its name says.")
    try:
        return kind.from_state(state)
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} holds no whole search.") from error


class StoredTrainer:
    """`edgenes.methods.trainer.Trainer` over the stores of a study; `say` is told what is being computed."""

    def __init__(
        self,
        data: Dataset,
        searches: SearchStore,
        retrained: PredictionStore,
        say: Say = lambda text: None,
        weights: bool = True,
    ):
        self.data = data.without_test()
        self._searches, self._retrained, self._say, self._weights = searches, retrained, say, weights

    def search(self, config: SearchConfig) -> Searched:
        """As `Trainer.search`."""

        def compute(resume: dict | None, report: Report, accumulate: int) -> Searched:
            return traced_search(config, self.data, resume, self._told("search", config, report), accumulate)

        key = f"search-{digest(config, self.data.digest)}"
        found = self._searches.obtain(Searched, key, config.device, compute)
        warn_of_collapse(found.genotype)  # of a stored one too
        return found

    def hypernetwork(self, config: HypernetworkConfig, optimal: Genotype) -> TrainedHypernetwork:
        """As `Trainer.hypernetwork`."""

        def compute(resume: dict | None, report: Report, accumulate: int) -> TrainedHypernetwork:
            told = self._told("hypernetwork", config, report)
            return traced_hypernetwork(config, self.data, optimal, resume, told, accumulate)

        key = f"hypernetwork-{digest(config, self.data.digest, optimal.digest)}"
        return self._searches.obtain(TrainedHypernetwork, key, config.device, compute)

    def retrain(self, config: TrainingConfig, genotype: Genotype) -> Retrained:
        """As `Trainer.retrain`; the network's weights are kept where the trainer was told so."""
        self._say(f"retraining for {config.epochs} epochs")
        return self._retrained.retrained(config, self.data, genotype, weights=self._weights)

    def _told(self, what: str, config: SearchConfig, report: Report) -> Report:
        def told(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
            self._say(f"{what}, epoch {epoch + 1} of {config.epochs}")
            report(epoch, metrics, state)

        return told


Search = Callable[[], tuple[dict[str, Any], bool]]
"""Searches: returns {"genotype", "alpha", "beta", "out_of_memory"}, plain values and tensors on the CPU, and whether it
ran in one piece and with whole batches, so that another study's would find the same."""


def searched(
    cache: Cache | None, config: SearchConfig, data: Dataset, search: Search, folder: Path
) -> tuple[dict[str, Any], bool]:
    """What `search` returns, from the cache or searched now and put there, by way of `folder`; and if it was there."""
    if cache is None:
        return search()[0], False
    asked = {
        "config": to_dict(replace(config, device="cpu")),  # where it was searched is told by what follows
        "data": data.digest,
        "computed": {"version": SEARCH_VERSION, **numerics(config.device)},
    }
    name = f"search-{digest(asked)}"

    def read(path: Path) -> dict[str, Any]:
        found = load_checkpoint(path, "search")
        if {part: found.get(part) for part in asked} != asked:
            raise CheckpointError(f"{path} holds another search than its name says.")
        try:
            genotype = Genotype.from_dict(found["genotype"])
            sizes = [(type(found[part]), found[part].dim()) for part in ("alpha", "beta")]
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} holds no genotype and its logits.") from error
        if genotype.space != config.space or sizes != [(torch.Tensor, 3), (torch.Tensor, 2)]:
            raise CheckpointError(f"{path} holds a genotype of another search space.")
        return found

    with cache.claimed(name):
        found = cache.find(name, read)
        if found is not None:
            return found, True
        found, whole = search()
        if whole:
            source = folder / f"{name}.pt"
            save_checkpoint(source, "search", found | asked)
            cache.put(name, source)
            source.unlink()
        return found, False
