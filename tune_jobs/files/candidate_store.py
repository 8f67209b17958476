"""Retrained candidates, stored once under the digest of everything that decides them.

A study's own store is keyed by configuration, seed, genotype and data: whichever node was first, its numbers are the
study's. The cache that studies share is keyed by what decides the last bits too (the training's version, torch, the
processor, its threads), so that a study's numbers do not depend on what was computed before it.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from edgenes.checkpoint import check_weights, load_checkpoint, mapped, save_checkpoint
from edgenes.config import TrainingConfig, digest, to_dict
from edgenes.data.dataset import Dataset
from edgenes.errors import CheckpointError, ConfigError
from edgenes.nn.network import Network
from edgenes.space.genotype import Genotype
from edgenes.training.memory import with_less_memory
from edgenes.training.retraining import TRAINING_VERSION, make_network, predict, train_network
from tune_jobs.files.cache import Cache
from tune_jobs.files.environment import environment, numerics
from tune_jobs.files.lease import claimed
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.moments import reached

log = logging.getLogger(__name__)
SAVE_EVERY = 30.0
"""Seconds between two saves of an unfinished training: what a killed worker loses at most."""


@dataclass(frozen=True)
class Retrained:
    """A retrained candidate: log-probabilities, float32 (samples, classes), on V, and where they came from.

    Those of a stored one are a map of its file, and take memory only while they are read. `cached` if nothing was
    trained, `shared` if another study had trained it.
    """

    key: str
    log_probabilities: np.ndarray
    weights: dict[str, torch.Tensor] | None
    seconds: float
    cached: bool
    shared: bool = False
    out_of_memory: dict[str, Any] | None = None  # {"reason", "accumulate"} if only half the batch fitted

    @property
    def probabilities(self) -> np.ndarray:
        """(samples, classes), rows sum to 1."""
        return np.exp(self.log_probabilities.astype(np.float64))


def read_prediction(path: Path) -> dict[str, Any]:
    """A stored candidate; raises CheckpointError if the file is damaged, or holds none."""
    record = load_checkpoint(path, "prediction")
    table, weights, seconds = (record.get(name) for name in ("log_probabilities", "weights", "seconds"))
    rows = isinstance(table, torch.Tensor) and table.dtype == torch.float32 and table.dim() == 2
    if not rows or table.isnan().any() or type(weights) not in (dict, type(None)) or type(seconds) not in (int, float):
        raise CheckpointError(f"{path} holds no candidate's log-probabilities, weights and seconds.")
    return record


def _key_of(record: dict[str, Any]) -> str | None:
    try:
        return digest(record["config"], Genotype.from_dict(record["genotype"]).digest, record["data"])
    except (ConfigError, KeyError, TypeError):
        return None


def _cache_name(key: str, computed: dict[str, Any]) -> str:
    return f"candidate-{digest(key, computed)}"


class PredictionStore:
    """A folder of retrained candidates; two workers never train the same one at once, and none trains it twice.

    With a remote folder behind `files` that holds for all nodes, and a lost node's unfinished training goes on. With
    a cache it holds for all studies on this machine: a hit is copied into the folder, which stays whole by itself.
    """

    def __init__(self, files: StudyFiles | Path, cache: Cache | None = None):
        self.files = files if isinstance(files, StudyFiles) else StudyFiles(Path(files))
        self.cache = cache

    @property
    def folder(self) -> Path:
        """The folder on this machine."""
        return self.files.folder

    @staticmethod
    def key(config: TrainingConfig, data: Dataset, genotype: Genotype) -> str:
        """The content digest of a retraining."""
        return digest(config, genotype.digest, data.digest)

    def find(self, key: str, weights: bool = False) -> Retrained | None:
        """What is stored under `key` (with its weights, if asked for), or None; a damaged file is set aside."""
        record = self._read(key)
        if weights and record is not None and record.get("weights") is None and self.files.remote is not None:
            record = self._read(key, fresh=True)  # another node may have added them
        if record is None or (weights and record.get("weights") is None):
            return None
        return Retrained(
            key,
            mapped(self.folder / f"{key}.pt", record["log_probabilities"]),
            record.get("weights"),
            record["seconds"],
            cached=True,
            out_of_memory=record.get("out_of_memory"),
        )

    def _read(self, key: str, fresh: bool = False) -> dict[str, Any] | None:
        path = self.files.fetch(f"{key}.pt", fresh)
        if not path.exists():
            return None
        try:
            record = read_prediction(path)
            if _key_of(record) != key:
                raise CheckpointError(f"{path} holds another candidate than its name says.")
            return record
        except CheckpointError as error:
            log.warning("%s It is set aside and computed again.", error)
            path.replace(path.with_suffix(".damaged"))
            self.files.forget(path.name)
            return None

    def retrained(self, config: TrainingConfig, data: Dataset, genotype: Genotype, weights: bool = False) -> Retrained:
        """The candidate, from the store or retrained now; a training cut off earlier goes on where it was saved."""
        key = self.key(config, data, genotype)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{key}.lock"):
            found = self.find(key, weights)
            if found is not None:
                return found
            if self.files.remote is None:
                return self._obtain(key, config, data, genotype, weights)
            with claimed(self.files.remote, f"{key}.claim"):
                return self.find(key, weights) or self._obtain(key, config, data, genotype, weights)

    def _obtain(self, key: str, config: TrainingConfig, data: Dataset, genotype: Genotype, weights: bool) -> Retrained:
        """The candidate from the cache of all studies, or trained now and put there."""
        computed = {"version": TRAINING_VERSION, **numerics(config.device)}
        if self.cache is None:
            return self._train(key, config, data, genotype, weights, computed)[0]
        name = _cache_name(key, computed)

        def read(path: Path) -> dict[str, Any]:
            record = read_prediction(path)
            parts = record.get("config"), genotype.digest, record.get("data")
            if (
                record.get("genotype") != genotype.to_dict()
                or _cache_name(digest(*parts), record.get("computed")) != name
            ):
                raise CheckpointError(f"{path} holds another candidate than its name says.")
            return record

        with self.cache.claimed(name):
            record = self.cache.find(name, read)
            if record is not None and (record["weights"] is not None or not weights):
                copied = self.cache.copy_to(name, self.folder / f"{key}.pt")
                found = self.find(key, weights) if copied else None
                if found is not None:
                    self.files.publish(f"{key}.pt")
                    self.files.forget(f"{key}.unfinished")
                    return replace(found, shared=True)
            trained, whole = self._train(key, config, data, genotype, weights, computed)
            if whole:
                self.cache.put(name, self.folder / f"{key}.pt")
            return trained

    def _train(
        self,
        key: str,
        config: TrainingConfig,
        data: Dataset,
        genotype: Genotype,
        weights: bool,
        computed: dict[str, Any],
    ) -> tuple[Retrained, bool]:
        """Train the candidate and store it; also whether `computed` alone says how it came about.

        It does not where a training was begun elsewhere, or had too little memory for a whole batch.
        """
        unfinished = self.files.fetch(f"{key}.unfinished", fresh=True)
        resume, earlier, begun = None, 0.0, computed
        if unfinished.exists():
            try:
                resume = load_checkpoint(unfinished, "training", config.device)
                earlier, begun = resume.pop("seconds"), resume.pop("computed", None)
            except CheckpointError as error:
                log.warning("%s The training starts again.", error)
        start = saved = time.monotonic()

        def report(_epoch: int, _metrics: dict[str, float], state: dict[str, Any]) -> None:
            nonlocal saved
            now = time.monotonic()
            if now - saved >= SAVE_EVERY:
                state = {**state, "seconds": earlier + now - start, "computed": begun}
                save_checkpoint(unfinished, "training", state)
                self.files.publish(unfinished.name)
                saved = now

        def train(resume: dict[str, Any] | None, accumulate: int) -> Network:
            return train_network(config, data, genotype, resume=resume, report=report, accumulate=accumulate)

        network, out_of_memory = with_less_memory(train, resume)
        log_probabilities = predict(network, data.validation, data, config.device)
        state = {name: value.cpu() for name, value in network.state_dict().items()} if weights else None
        record = {
            "genotype": genotype.to_dict(),
            "config": to_dict(config),
            "data": data.digest,
            "environment": environment(),
            "computed": computed,
            "log_probabilities": torch.from_numpy(log_probabilities),
            "weights": state,
            "seconds": earlier + time.monotonic() - start,
            "out_of_memory": out_of_memory,
        }
        reached("prediction")
        save_checkpoint(self.folder / f"{key}.pt", "prediction", record)
        self.files.publish(f"{key}.pt")
        self.files.forget(unfinished.name)
        reached("candidate retrained")
        trained = Retrained(key, log_probabilities, state, record["seconds"], cached=False, out_of_memory=out_of_memory)
        return trained, begun == computed and out_of_memory is None

    @staticmethod
    def network(record: Retrained, config: TrainingConfig, data: Dataset, genotype: Genotype) -> Network:
        """The candidate's network with its stored weights, in eval mode on the configuration's device."""
        network = make_network(config, genotype, data.channels, data.classes)
        check_weights(network, record.weights)
        network.load_state_dict(record.weights)
        return network.to(config.device).eval()
