"""The trainer of a study: what a method trains is found in the study's store, or trained now and stored there."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from edgenes.checkpoint import check_weights, is_unwritable
from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig, digest, to_dict
from edgenes.data.dataset import Dataset
from edgenes.methods.trainer import (
    Member,
    Prediction,
    Searched,
    TrainedHypernetwork,
    groups,
    traced_hypernetwork,
    traced_search,
)
from edgenes.nn.network import Network
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.operations import OPERATIONS
from edgenes.training.bilevel import SEARCH_VERSION, Report
from edgenes.training.collapse import warn_of_collapse
from edgenes.training.retraining import TRAINING_VERSION, make_network, predict, train_network, train_networks
from tune_jobs.files.artifact_store import Artifact, ArtifactStore, Kind
from tune_jobs.files.layout import PREDICTIONS, SEARCHES

log = logging.getLogger(__name__)
Say = Callable[..., None]
"""`say(note)`, or `say(note, step=, steps=, metrics=)` after an epoch: hears what is being computed."""


def unheard(*_: Any, **__: Any) -> None:
    """A `Say` that nobody hears."""


@dataclass(frozen=True)
class Retrained:
    """A retrained network: float32 log-probabilities (samples, classes) on V, and its weights where they are kept.

    The log-probabilities of a stored one are a map of its file, and take memory only while they are read.
    """

    log_probabilities: np.ndarray
    weights: dict[str, torch.Tensor] | None

    @property
    def probabilities(self) -> np.ndarray:
        """(samples, classes), rows sum to 1."""
        return np.exp(self.log_probabilities.astype(np.float64))


def _read_candidate(state: dict[str, Any]) -> Retrained:
    table, weights = state["log_probabilities"], state["weights"]
    if table.dtype != torch.float32 or table.dim() != 2 or table.isnan().any():
        raise TypeError("log_probabilities")
    if weights is not None and type(weights) is not dict:
        raise TypeError("weights")
    return Retrained(table.numpy(), weights)


CANDIDATE = Kind("candidate", PREDICTIONS, TRAINING_VERSION, _read_candidate)
SEARCH = Kind("search", SEARCHES, SEARCH_VERSION, Searched.from_state)
HYPERNETWORK = Kind("hypernetwork", SEARCHES, SEARCH_VERSION, TrainedHypernetwork.from_state)


@dataclass(frozen=True)
class Teacher:
    """An ensemble whose probabilities (samples, classes) on W and H are learned; `digest` is that of its file."""

    digest: str
    probabilities: np.ndarray


def candidate_key(config: TrainingConfig, data: Dataset, genotype: Genotype, teacher: Teacher | None = None) -> str:
    """The content digest of a retraining."""
    return digest(config, genotype.digest, data.digest, *([teacher.digest] if teacher else []))


def has_weights(retrained: Retrained) -> bool:
    """Whether the network itself is stored, not only its predictions."""
    return retrained.weights is not None


def network_of(retrained: Retrained, config: TrainingConfig, data: Dataset, genotype: Genotype) -> Network:
    """The network with its stored weights, in eval mode on the configuration's device."""
    network = make_network(config, genotype, data.channels, data.classes)
    check_weights(network, retrained.weights)
    network.load_state_dict(retrained.weights)
    return network.to(config.device).eval()


def _shareable(space: SearchSpace) -> bool:
    """Whether other studies may have what is trained in the space: own operations are known by name alone."""
    return not set(space.operations) & OPERATIONS.own().keys()


class StoredTrainer:
    """`edgenes.methods.trainer.Trainer` over the store of a study. With `weights` it keeps the networks' weights."""

    def __init__(self, data: Dataset, store: ArtifactStore, say: Say = unheard, weights: bool = True):
        self.data = data.without_test()
        self.store, self._say, self._weights = store, say, weights

    def search(self, config: SearchConfig) -> Searched:
        """As `Trainer.search`."""

        def compute(resume: dict | None, report: Report, accumulate: int) -> dict[str, Any]:
            heard = self._heard("search", config, report)
            return traced_search(config, self.data, resume, heard, accumulate).to_state()

        key = f"search-{digest(config, self.data.digest)}"
        found = self.store.obtain(SEARCH, key, config.device, compute, cached=_shareable(config.space))
        warn_of_collapse(found.value.genotype)  # of a stored one too
        return replace(found.value, seconds=found.seconds)

    def hypernetwork(
        self, config: HypernetworkConfig, optimal: Genotype, guide: PerformancePredictor | None = None
    ) -> TrainedHypernetwork:
        """As `Trainer.hypernetwork`."""

        def compute(resume: dict | None, report: Report, accumulate: int) -> dict[str, Any]:
            heard = self._heard("hypernetwork", config, report)
            return traced_hypernetwork(config, self.data, optimal, resume, heard, accumulate, guide).to_state()

        about = [config, self.data.digest, optimal.digest] + ([guide.digest] if guide else [])
        key = f"hypernetwork-{digest(*about)}"
        found = self.store.obtain(HYPERNETWORK, key, config.device, compute, cached=_shareable(config.space))
        return replace(found.value, seconds=found.seconds)

    def retrain(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.retrain`."""
        self.train_ahead(members)
        found = [self.candidate(member.config, member.genotype) for member in members]
        return [Prediction(each.value.probabilities, each.seconds) for each in found]

    def survey(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.survey`."""
        return self._surveyor.retrain(members)

    @cached_property
    def _surveyor(self) -> "StoredTrainer":
        """The trainer that trains on W alone and predicts H."""
        return StoredTrainer(self.data.survey(), self.store, self._say, weights=False)

    def candidate(
        self, config: TrainingConfig, genotype: Genotype, teacher: Teacher | None = None
    ) -> Artifact[Retrained]:
        """The genotype's retrained network, as it is stored; with a teacher, trained on its probabilities."""
        targets = None if teacher is None else teacher.probabilities

        def compute(resume: dict | None, report: Report, accumulate: int) -> dict[str, Any]:
            self._say(f"retraining for {config.epochs} epochs")
            how: dict[str, Any] = {"resume": resume, "report": report, "accumulate": accumulate, "targets": targets}
            return self._state(config, genotype, train_network(config, self.data, genotype, **how))

        key = candidate_key(config, self.data, genotype, teacher)
        return self.store.obtain(CANDIDATE, key, config.device, compute, self._sound, _shareable(genotype.space))

    def train_ahead(self, members: Sequence[Member]) -> None:
        """Train those of the networks at once that are missing, where that is faster: `candidate` then finds them.

        Where one fails, all are left to `candidate`. Raises WriteError if a disk is full or read-only.
        """
        for group in groups(list(dict.fromkeys(members)), self.data):
            if len(group) > 1:
                try:
                    self._train_group(group)
                except Exception as error:
                    if is_unwritable(error):
                        raise
                    log.warning("%d networks are trained one by one, since at once they failed: %s", len(group), error)

    def survey_ahead(self, members: Sequence[Member]) -> None:
        """`train_ahead` on W alone."""
        self._surveyor.train_ahead(members)

    def _train_group(self, group: Sequence[Member]) -> None:
        epochs = group[0].config.epochs

        def compute(positions: list[int], resumes: list[dict | None], reports: list[Report]) -> list[dict[str, Any]]:
            missing = [group[k] for k in positions]
            states: list[dict[str, Any]] = [{}] * len(missing)
            done = [-1 if resume is None else resume["epoch"] for resume in resumes]
            for epoch in dict.fromkeys(done):  # one, unless a run was killed while it wrote checkpoints
                alike = [k for k, each in enumerate(done) if each == epoch]
                networks = train_networks(
                    [missing[k].config for k in alike],
                    self.data,
                    [missing[k].genotype for k in alike],
                    resumes=[resumes[k] for k in alike],
                    reports=[
                        self._told(reports[k], len(alike), epochs) if k == alike[0] else reports[k] for k in alike
                    ],
                )
                for k, network in zip(alike, networks, strict=True):
                    states[k] = self._state(missing[k].config, missing[k].genotype, network)
            return states

        keys = [candidate_key(each.config, self.data, each.genotype) for each in group]
        how = (self._sound, _shareable(group[0].genotype.space))
        self.store.obtain_together(CANDIDATE, keys, group[0].config.device, compute, *how)

    def _told(self, report: Report, networks: int, epochs: int) -> Report:
        def told(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
            self._say(f"retraining {networks} networks at once", step=epoch + 1, steps=epochs)
            report(epoch, metrics, state)

        return told

    def _state(self, config: TrainingConfig, genotype: Genotype, network: Network) -> dict[str, Any]:
        """What is stored of a trained network."""
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        return {
            "genotype": genotype.to_dict(),
            "config": to_dict(config),
            "data": self.data.digest,
            "log_probabilities": torch.from_numpy(predict(network, self.data.validation, self.data, config.device)),
            "weights": weights if self._weights else None,
        }

    def _sound(self, retrained: Retrained) -> bool:
        return has_weights(retrained) or not self._weights

    def _heard(self, what: str, config: SearchConfig, report: Report) -> Report:
        def heard(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
            note = f"{what}, epoch {epoch + 1} of {config.epochs}, loss {metrics['loss']:.3f}"
            self._say(note, step=epoch + 1, steps=config.epochs, metrics=metrics)
            report(epoch, metrics, state)

        return heard
