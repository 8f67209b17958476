"""What a method returns: its members, its ensemble, and the work that it took."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgenes.config import HypernetworkConfig, SearchConfig, digest
from edgenes.data.dataset import Dataset
from edgenes.methods.cost import Work, retraining_work, search_work
from edgenes.methods.trainer import Member, Prediction, Searched, TrainedHypernetwork, Trainer
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method gives: `members` and their `predictions` on V, float64 (members, samples, classes).

    `pool` holds all networks that were retrained fully and that the members were chosen from. `search` is the work
    before the first full retraining (searches, hypernetworks, short retrainings), `retraining` that of the pool.
    """

    members: tuple[Member, ...]
    predictions: np.ndarray
    pool: tuple[Member, ...]
    search: Work
    retraining: Work


class Counted:
    """A trainer that adds up the work of a method; the same work costs once."""

    def __init__(self, trainer: Trainer):
        self.data = trainer.data
        self._trainer = trainer
        self._searches: dict[str, Work] = {}
        self._retrainings: dict[Member, Work] = {}
        self._surveyed: dict[Member, Work] = {}

    def search(self, config: SearchConfig) -> Searched:
        """As `Trainer.search`."""
        found = self._trainer.search(config)
        self._searches[digest(config)] = search_work(config, self.data, found.seconds, len(found.trace))
        return found

    def hypernetwork(
        self, config: HypernetworkConfig, optimal: Genotype, guide: PerformancePredictor | None = None
    ) -> TrainedHypernetwork:
        """As `Trainer.hypernetwork`."""
        found = self._trainer.hypernetwork(config, optimal, guide)
        guided = Work(seconds=found.seconds)  # no image passes
        work = search_work(config, self.data, found.seconds) if guide is None else guided
        self._searches[digest(config, optimal.digest, guide and guide.digest)] = work
        return found

    def retrain(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.retrain`."""
        found = self._trainer.retrain(members)
        self._retrainings |= _works(members, found, self.data)
        return found

    def survey(self, members: Sequence[Member]) -> list[Prediction]:
        """As `Trainer.survey`."""
        found = self._trainer.survey(members)
        self._surveyed |= _works(members, found, self.data.survey())
        return found

    def work(self, pool: Sequence[Member]) -> tuple[Work, Work]:
        """(search, retraining): retrainings that are not of the pool belong to the search."""
        kept = set(pool)
        short = [work for member, work in self._retrainings.items() if member not in kept]
        full = [work for member, work in self._retrainings.items() if member in kept]
        return sum([*self._searches.values(), *self._surveyed.values(), *short], Work()), sum(full, Work())


def _works(members: Sequence[Member], found: Sequence[Prediction], data: Dataset) -> dict[Member, Work]:
    pairs = zip(members, found, strict=True)
    return {one: retraining_work(one.config, data, each.seconds, one.genotype) for one, each in pairs}
