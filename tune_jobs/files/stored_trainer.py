"""The trainer of a study: what a method trains is found in the study's store, or trained now and stored there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from edgenes.checkpoint import check_weights
from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig, digest, to_dict
from edgenes.data.dataset import Dataset
from edgenes.methods.trainer import Prediction, Searched, TrainedHypernetwork, traced_hypernetwork, traced_search
from edgenes.nn.network import Network
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.operations import OPERATIONS
from edgenes.training.bilevel import SEARCH_VERSION, Report
from edgenes.training.collapse import warn_of_collapse
from edgenes.training.retraining import TRAINING_VERSION, make_network, predict, train_network
from tune_jobs.files.artifact_store import Artifact, ArtifactStore, Kind
from tune_jobs.files.layout import PREDICTIONS, SEARCHES

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

    def retrain(self, config: TrainingConfig, genotype: Genotype) -> Prediction:
        """As `Trainer.retrain`."""
        found = self.candidate(config, genotype)
        return Prediction(found.value.probabilities, found.seconds)

    def survey(self, config: TrainingConfig, genotype: Genotype) -> Prediction:
        """As `Trainer.survey`."""
        return StoredTrainer(self.data.survey(), self.store, self._say, weights=False).retrain(config, genotype)

    def candidate(
        self, config: TrainingConfig, genotype: Genotype, teacher: Teacher | None = None
    ) -> Artifact[Retrained]:
        """The genotype's retrained network, as it is stored; with a teacher, trained on its probabilities."""
        self._say(f"retraining for {config.epochs} epochs")
        targets = None if teacher is None else teacher.probabilities

        def compute(resume: dict | None, report: Report, accumulate: int) -> dict[str, Any]:
            how: dict[str, Any] = {"resume": resume, "report": report, "accumulate": accumulate, "targets": targets}
            network = train_network(config, self.data, genotype, **how)
            weights = {name: value.cpu() for name, value in network.state_dict().items()}
            return {
                "genotype": genotype.to_dict(),
                "config": to_dict(config),
                "data": self.data.digest,
                "log_probabilities": torch.from_numpy(predict(network, self.data.validation, self.data, config.device)),
                "weights": weights if self._weights else None,
            }

        sound = has_weights if self._weights else lambda value: True
        key = candidate_key(config, self.data, genotype, teacher)
        return self.store.obtain(CANDIDATE, key, config.device, compute, sound, _shareable(genotype.space))

    def _heard(self, what: str, config: SearchConfig, report: Report) -> Report:
        def heard(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
            note = f"{what}, epoch {epoch + 1} of {config.epochs}, loss {metrics['loss']:.3f}"
            self._say(note, step=epoch + 1, steps=config.epochs, metrics=metrics)
            report(epoch, metrics, state)

        return heard
