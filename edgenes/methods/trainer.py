"""Where the methods get searches and retrainings from: computed here and now, or kept by a store.

A method asks a `Trainer` and never trains by itself, so that the same method runs in a test, in a notebook, and in a
worker of a cluster, where what was computed once is found again.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig, from_dict, to_dict
from edgenes.data.dataset import Dataset
from edgenes.nn.network import Network
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import Hypernetwork
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.bilevel import Report
from edgenes.training.collapse import capped_genotype
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork, trained_control_error
from edgenes.training.retraining import at_once, predict, train_networks


@dataclass(frozen=True)
class Searched:
    """A finished DARTS search: the genotype after each epoch."""

    trace: tuple[Genotype, ...]
    seconds: float = 0.0

    @property
    def genotype(self) -> Genotype:
        """The optimal genotype."""
        return self.trace[-1]

    def to_state(self) -> dict[str, Any]:
        """Plain values from which `from_state` rebuilds it."""
        trace = json.dumps([genotype.to_dict() for genotype in self.trace])
        return {"trace": trace, "seconds": self.seconds}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Searched":
        """The inverse of `to_state`."""
        trace = map(Genotype.from_dict, json.loads(state["trace"]))
        return cls(tuple(trace), state["seconds"])


@dataclass(frozen=True)
class TrainedHypernetwork:
    """A trained hypernetwork: its state after each epoch."""

    trace: tuple[dict[str, Any], ...]
    control_error: float
    seconds: float = 0.0

    @property
    def hypernetwork(self) -> Hypernetwork:
        """The hypernetwork, on the CPU."""
        return self.at(len(self.trace))

    def at(self, epochs: int) -> Hypernetwork:
        """The hypernetwork as it was after so many epochs, at least 1."""
        return Hypernetwork.from_state(self.trace[epochs - 1])

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors from which `from_state` rebuilds it."""
        return {
            "form": {name: value for name, value in self.trace[0].items() if name != "weights"},
            "weights": [state["weights"] for state in self.trace],
            "control_error": self.control_error,
            "seconds": self.seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TrainedHypernetwork":
        """The inverse of `to_state`."""
        trace = tuple({**state["form"], "weights": weights} for weights in state["weights"])
        return cls(trace, state["control_error"], state["seconds"])


@dataclass(frozen=True)
class Member:
    """A retrained network: its genotype and how it was trained."""

    genotype: Genotype
    config: TrainingConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"genotype": self.genotype.to_dict(), "config": to_dict(self.config)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Member":
        """The inverse of `to_dict`."""
        return cls(Genotype.from_dict(value["genotype"]), from_dict(TrainingConfig, value["config"]))


@dataclass(frozen=True)
class Prediction:
    """A retrained network's predictions on V (on H, of a survey), and the seconds of its training.

    `probabilities` are (samples, classes), float64, rows sum to 1.
    """

    probabilities: np.ndarray
    seconds: float = 0.0


class Trainer(Protocol):
    """Searches and trains on `data`, which holds no T."""

    data: Dataset

    def search(self, config: SearchConfig) -> Searched:
        """The DARTS search of this configuration."""

    def hypernetwork(
        self, config: HypernetworkConfig, optimal: Genotype, guide: PerformancePredictor | None = None
    ) -> TrainedHypernetwork:
        """The hypernetwork of this configuration around the optimal genotype."""

    def retrain(self, members: Sequence[Member]) -> list[Prediction]:
        """The networks, trained from scratch on W and H; their configurations differ in their seeds alone."""

    def survey(self, members: Sequence[Member]) -> list[Prediction]:
        """The networks, trained from scratch on W alone, and their predictions on H."""


def traced_search(
    config: SearchConfig,
    data: Dataset,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
) -> Searched:
    """`search_genotype` with its trace; the state that `report` gets, and `resume` takes, holds the trace too."""
    trace = [Genotype.from_dict(g) for g in resume["trace"]] if resume else []

    def noted(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
        logits = ArchitectureLogits(state["alpha"].cpu(), state["beta"].cpu())
        trace.append(capped_genotype(logits, config.space, config.max_parameter_free))
        if report is not None:
            report(epoch, metrics, {**state, "trace": [g.to_dict() for g in trace]})

    search_genotype(config, data, resume=resume, report=noted, accumulate=accumulate)
    return Searched(tuple(trace))


def traced_hypernetwork(
    config: HypernetworkConfig,
    data: Dataset,
    optimal: Genotype,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
    guide: PerformancePredictor | None = None,
) -> TrainedHypernetwork:
    """`train_hypernetwork` with its trace, as `traced_search`."""
    trace = list(resume["trace"]) if resume else []

    def noted(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
        weights = {name: value.detach().cpu().clone() for name, value in state["hypernetwork"].items()}
        trace.append(
            {
                "space": config.space.to_dict(),
                "pivots": config.pivots,
                "trainable_pivots": config.trainable_pivots,
                "interpolation": config.interpolation,
                "weights": weights,
            }
        )
        if report is not None:
            report(epoch, metrics, {**state, "trace": trace})

    train_hypernetwork(config, data, optimal, resume=resume, report=noted, accumulate=accumulate, guide=guide)
    error = trained_control_error(config, Hypernetwork.from_state(trace[-1]), optimal)
    return TrainedHypernetwork(tuple(trace), error)


class LocalTrainer:
    """Computes everything here and now, and remembers it as long as it lives."""

    def __init__(self, data: Dataset):
        self.data = data.without_test()
        self._found: dict[Any, Any] = {}

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._found:
            start = time.monotonic()
            self._found[key] = replace(compute(), seconds=time.monotonic() - start)
        return self._found[key]

    def search(self, config: SearchConfig) -> Searched:
        """As `Trainer.search`."""
        return self._once(config, lambda: traced_search(config, self.data))

    def hypernetwork(
        self, config: HypernetworkConfig, optimal: Genotype, guide: PerformancePredictor | None = None
    ) -> TrainedHypernetwork:
        """As `Trainer.hypernetwork`."""
        key = (config, optimal, None if guide is None else guide.digest)
        return self._once(key, lambda: traced_hypernetwork(config, self.data, optimal, guide=guide))

    def retrain(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.retrain`."""
        return self._trained(members, self.data)

    def survey(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.survey`."""
        return self._trained(members, self.data.survey())

    def _trained(self, members: Sequence[Member], data: Dataset) -> list[Prediction]:
        missing = [each for each in dict.fromkeys(members) if (each, data.digest) not in self._found]
        for group in groups(missing, data):
            start = time.monotonic()
            found = [probabilities for _, probabilities in train_members(group, data)]
            seconds = (time.monotonic() - start) / len(group)
            pairs = zip(group, found, strict=True)
            self._found |= {(member, data.digest): Prediction(each, seconds) for member, each in pairs}
        return [self._found[member, data.digest] for member in members]


def groups(
    members: Sequence[Member], data: Dataset, workers: int = 1, threads: int | None = None
) -> list[Sequence[Member]]:
    """The networks in groups as equal as they can be, each to be trained at once, which `workers` share.

    A worker has `threads` threads, by default those of this process.
    """
    alike: dict[TrainingConfig, list[Member]] = {}
    for member in members:
        alike.setdefault(replace(member.config, seed=0), []).append(member)
    found: list[Sequence[Member]] = []
    for config, each in alike.items():
        rounds = -(-len(each) // (at_once(config, data, threads or torch.get_num_threads()) * workers))
        count = min(len(each), rounds * workers)
        found += [each[first::count] for first in range(count)]  # neighbours are alike, and cost alike
    return found


def train_members(members: Sequence[Member], data: Dataset) -> list[tuple[Network, np.ndarray]]:
    """The networks, trained at once, and their probabilities (samples, classes) on V."""
    networks = train_networks([each.config for each in members], data, [each.genotype for each in members])
    pairs = zip(networks, members, strict=True)
    predictions = [predict(network, data.validation, data, each.config.device) for network, each in pairs]
    return list(zip(networks, (np.exp(each.astype(np.float64)) for each in predictions), strict=True))
