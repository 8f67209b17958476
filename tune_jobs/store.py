"""Retrained candidates, stored once under the digest of everything that decides them."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from edgenes.checkpoint import check_weights, load_checkpoint, save_checkpoint
from edgenes.config import TrainingConfig, digest, to_dict
from edgenes.data import Dataset
from edgenes.errors import CheckpointError
from edgenes.genotype import Genotype
from edgenes.memory import with_less_memory
from edgenes.network import Network
from edgenes.training import make_network, predict, train_network
from tune_jobs.environment import environment
from tune_jobs.remote import StudyFiles, claimed

log = logging.getLogger(__name__)

SAVE_EVERY = 30.0
"""Seconds between two saves of an unfinished training: what a killed worker loses at most."""


@dataclass(frozen=True)
class Retrained:
    """A retrained candidate: log-probabilities, float32 (samples, classes), on V, and where they came from."""

    key: str
    log_probabilities: np.ndarray
    weights: dict[str, torch.Tensor] | None
    seconds: float
    cached: bool
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


class PredictionStore:
    """A folder of retrained candidates; two workers never train the same one at once, and none trains it twice.

    With a remote folder behind `files` that holds for all nodes, and a lost node's unfinished training goes on.
    """

    def __init__(self, files: StudyFiles | Path):
        self.files = files if isinstance(files, StudyFiles) else StudyFiles(Path(files))

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
            record["log_probabilities"].numpy(),
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
            return read_prediction(path)
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
                return self._train(key, config, data, genotype, weights)
            with claimed(self.files.remote, f"{key}.claim"):
                return self.find(key, weights) or self._train(key, config, data, genotype, weights)

    def _train(self, key: str, config: TrainingConfig, data: Dataset, genotype: Genotype, weights: bool) -> Retrained:
        unfinished = self.files.fetch(f"{key}.unfinished", fresh=True)
        resume, earlier = None, 0.0
        if unfinished.exists():
            try:
                resume = load_checkpoint(unfinished, "training", config.device)
                earlier = resume.pop("seconds")
            except CheckpointError as error:
                log.warning("%s The training starts again.", error)
        start = saved = time.monotonic()

        def report(_epoch: int, _metrics: dict[str, float], state: dict[str, Any]) -> None:
            nonlocal saved
            now = time.monotonic()
            if now - saved >= SAVE_EVERY:
                save_checkpoint(unfinished, "training", {**state, "seconds": earlier + now - start})
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
            "log_probabilities": torch.from_numpy(log_probabilities),
            "weights": state,
            "seconds": earlier + time.monotonic() - start,
            "out_of_memory": out_of_memory,
        }
        save_checkpoint(self.folder / f"{key}.pt", "prediction", record)
        self.files.publish(f"{key}.pt")
        self.files.forget(unfinished.name)
        return Retrained(key, log_probabilities, state, record["seconds"], cached=False, out_of_memory=out_of_memory)

    @staticmethod
    def network(record: Retrained, config: TrainingConfig, data: Dataset, genotype: Genotype) -> Network:
        """The candidate's network with its stored weights, in eval mode on the configuration's device."""
        network = make_network(config, genotype, data.channels, data.classes)
        check_weights(network, record.weights)
        network.load_state_dict(record.weights)
        return network.to(config.device).eval()
