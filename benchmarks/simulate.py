"""A study simulated on the measured table: the project's own sampler suggests, the nearest row left is what is run.

Distances are taken in the unit cube of the space, logarithmic where it is; unequal categories are CATEGORY apart. The
study is told the row's parameters, not the suggested ones, so that a sampler learns nothing that is not true. A row is
run once. A candidate costs its CPU seconds once a study, as the store has it from then on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.measured import Row
from edgenes.seeds import stable_seed
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.study.samplers import AvoidFailures, make_pruner, make_sampler
from tune_jobs.study.space import CONSTRAINT

CATEGORY = 0.5


@dataclass(frozen=True)
class Policy:
    """How a study proceeds: its sampler and start-up trials, its pruner, whether infeasible trials stop early, and
    what a trial is worth to it: its ensemble's accuracy (retrained) or that of its candidates (mean)."""

    sampler: str
    startup: int = 10
    pruner: str = "none"
    prune_infeasible: bool = False
    value: str = "retrained"

    @property
    def name(self) -> str:
        """Words for a table."""
        parts = [self.sampler if self.sampler != "tpe" else f"tpe, {self.startup} start-up"]
        parts += [] if self.pruner == "none" else [self.pruner]
        parts += ["prune infeasible"] if self.prune_infeasible else []
        return ", ".join(parts + ([] if self.value == "retrained" else [f"value {self.value}"]))

    def worth(self, row: Row, seen: int) -> float:
        """What the study sees of a row."""
        return row.values[seen] if self.value == "retrained" else float(np.mean(row.accuracies[seen]))


@dataclass(frozen=True)
class Step:
    """A trial of a simulated study: its row, the seconds when it ended since the study's start, whether complete."""

    row: int
    seconds: float
    complete: bool


def coordinates(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> NDArray[np.float64]:
    """A point whose Euclidean distances are those of the space; a category is an axis of its own."""
    found: list[float] = []
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            found += [CATEGORY / np.sqrt(2) * (params[name] == choice) for choice in distribution.choices]
        else:
            scale = np.log if distribution.log else float
            low, high = scale(distribution.low), scale(distribution.high)
            found.append((scale(params[name]) - low) / (high - low))
    return np.array(found)


def nearest(point: NDArray, points: NDArray, left: NDArray[np.bool_]) -> int:
    """The row of `points` (rows, axes) nearest to `point` (axes,) among those `left` (rows,); the first of equal ones.

    Raises ValueError if none is left.
    """
    if not left.any():
        raise ValueError("no row of the table is left: simulate fewer seconds.")
    distances = ((points - point) ** 2).sum(1)
    return int(np.argmin(np.where(left, distances, np.inf)))


class OnTable(BaseSampler):
    """Draws with `inner`, and proposes the parameters of the nearest row left."""

    def __init__(self, inner: BaseSampler, rows: Sequence[Row], points: NDArray, left: NDArray, space: Mapping):
        self._inner, self._rows, self._points, self._left, self._space = inner, rows, points, left, dict(space)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self._inner.sample_relative(study, trial, search_space)
        return self._rows[nearest(coordinates(drawn, self._space), self._points, self._left)].params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)


def simulate(
    policy: Policy,
    rows: Sequence[Row],
    space: Mapping[str, BaseDistribution],
    *,
    seconds: float,
    seed: int,
    seen: int,
) -> Iterator[Step]:
    """The trials of one study until `seconds` are spent, the first with the parameters of the first row.

    `seen` is 0 or 1: which of a row's two retraining seeds the study sees. Deterministic in `seed`.
    """
    points = np.array([coordinates(row.params, space) for row in rows])
    left = np.ones(len(rows), bool)
    pruner = make_pruner(policy.pruner, candidates=max(len(row.digests) for row in rows))
    study = optuna.create_study(direction="maximize", study_name=str(seed), pruner=pruner)
    study.enqueue_trial(rows[0].params)
    spent, number, trained = 0.0, 0, set()
    while spent < seconds:

        def seeds(draw: int, number: int = number) -> int:
            return stable_seed(seed, number, "sampler", *([draw] if draw else []))

        inner = AvoidFailures(lambda s: make_sampler(policy.sampler, s, policy.startup), seeds, space)
        study.sampler = OnTable(inner, rows, points, left, space)
        trial = study.ask(space)
        chosen = nearest(coordinates(trial.params, space), points, left)
        left[chosen] = False
        row, pruned = rows[chosen], False
        spent += row.hypernetwork
        if policy.prune_infeasible and not row.feasible:
            pruned = True
        else:
            accuracies = row.accuracies[seen]
            for k, (digest, cost) in enumerate(zip(row.digests, row.candidates, strict=True)):
                spent += 0.0 if digest in trained else cost
                trained.add(digest)
                trial.report(float(np.mean(accuracies[: k + 1])), k + 1)
                if trial.should_prune():
                    pruned = True
                    break
        trial.set_constraint(CONSTRAINT, row.control_error - CONTROL_LIMIT)
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, policy.worth(row, seen))
        yield Step(chosen, spent, not pruned)
        number += 1


def best_so_far(
    policy: Policy, steps: Sequence[Step], rows: Sequence[Row], grid: Sequence[float], seen: int
) -> list[int | None]:
    """The row that a study would choose after each number of seconds: its best complete feasible one, or None.

    A pure function of what was seen; the first of equal ones wins.
    """
    chosen: list[int | None] = []
    for seconds in grid:
        done = [step.row for step in steps if step.seconds <= seconds and step.complete and rows[step.row].feasible]
        chosen.append(max(done, key=lambda row: policy.worth(rows[row], seen)) if done else None)
    return chosen


def regret(row: int | None, rows: Sequence[Row], seen: int) -> float:
    """What a chosen row lacks, by the seed that was not seen, to what a study of the whole table would choose.

    Below 0 where the choice is luckier than that. Raises ValueError if the table has no feasible row.
    """
    whole = max((row for row in rows if row.feasible), key=lambda row: row.values[seen])
    return float("nan") if row is None else whole.values[1 - seen] - rows[row].values[1 - seen]
