"""How many of the retrainings that a stage needs were found, and not computed."""

from dataclasses import dataclass

import optuna

from tune_jobs.execution.jobs import Results


@dataclass(frozen=True)
class Hits:
    """Retrainings that were needed, those of them that were found, and of these the ones from another study."""

    asked: int = 0
    found: int = 0
    shared: int = 0

    @classmethod
    def of(cls, results: Results) -> "Hits":
        """The hits among the retrainings of a stage."""
        there = [(result, before) for result, before in zip(results.found, results.stored, strict=True) if result]
        found = sum(before or result["cached"] for result, before in there)
        return cls(len(results.found), found, sum(result["shared"] for result, _ in there))

    def __add__(self, other: "Hits") -> "Hits":
        return Hits(self.asked + other.asked, self.found + other.found, self.shared + other.shared)

    def __str__(self) -> str:
        if not self.asked:
            return "none retrained"
        text = f"{self.asked} needed, {self.found} of them ({self.found / self.asked:.0%}) found in the cache"
        return f"{text}, {self.shared} by another study" if self.shared else text


def sweep_hits(study: optuna.Study) -> Hits:
    """The hits of a sweep's complete trials, over all drivers; a pruned trial does not record its own."""
    total = Hits()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        kept = trial.user_attrs
        if "shared_hits" in kept:  # else no candidate was retrained
            total += Hits(kept["pool_size"], kept["cache_hits"], kept["shared_hits"])
    return total
