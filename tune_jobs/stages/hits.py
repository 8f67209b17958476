"""How many candidates a study asked for, and how many of them needed no training."""

from collections.abc import Iterable
from dataclasses import dataclass

import optuna

from tune_jobs.messages import Report


@dataclass(frozen=True)
class Hits:
    """Candidates asked for, those that were found, and those of them that another study had left in the cache."""

    asked: int = 0
    found: int = 0
    shared: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[Report]) -> "Hits":
        """The hits among retrainings that were begun, by their outcomes; as such they are not counted as asked for."""
        found = [outcome.attributes for outcome in outcomes]
        cached, shared = (sum(each.get(name, False) for each in found) for name in ("cached", "shared"))
        return cls(0, cached, shared)

    def __add__(self, other: "Hits") -> "Hits":
        return Hits(self.asked + other.asked, self.found + other.found, self.shared + other.shared)

    def __str__(self) -> str:
        if not self.asked:
            return "none retrained"
        text = f"{self.asked} asked for, {self.found} of them ({self.found / self.asked:.0%}) retrained before"
        return f"{text}, {self.shared} by another study" if self.shared else text


def sweep_hits(study: optuna.Study) -> Hits:
    """The hits of a sweep's complete trials, over all drivers; a trial that was pruned does not tell its own."""
    total = Hits()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        kept = trial.user_attrs
        if "shared_hits" in kept:  # else no candidate was retrained, or by a version that did not count
            total += Hits(kept["pool_size"], kept["cache_hits"], kept["shared_hits"])
    return total
