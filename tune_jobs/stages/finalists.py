"""Stage 3: the finalists' candidates, retrained fully in parallel; the best hypernetwork is chosen on V."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from edgenes.checkpoint import write_bytes, write_json
from edgenes.data.dataset import Dataset
from edgenes.methods.catalogue import equal_pool, seeds_pool
from edgenes.methods.trainer import Member
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench, Job, Results, run_jobs
from tune_jobs.execution.run import Run
from tune_jobs.files.artifact_store import Artifact
from tune_jobs.files.layout import FINALISTS, HYPERNETWORK
from tune_jobs.files.stored_trainer import CANDIDATE, Retrained, StoredTrainer, candidate_key, has_weights
from tune_jobs.moments import reached
from tune_jobs.study.context import StudyContext
from tune_jobs.study.trials import feasible
from tune_jobs.study.trials import finalists as finalists_of


@dataclass(frozen=True)
class Entry:
    """A network of a pool: its genotype and training, and the lambda that it was drawn at."""

    member: Member
    lam: float | None = None


def finalist_members(context: StudyContext, trial: int) -> list[Entry]:
    """The candidates of a finalist, each with every seed."""
    return with_every_seed(context, [(each.genotype, each.lam) for each in context.candidates_of(trial)])


def optimal_members(context: StudyContext) -> list[Entry]:
    """The optimal genotype, with as many seeds as an ensemble has members."""
    return [Entry(member) for member in seeds_pool(context.optimal, context.setting, context.setting.size)]


def with_optimal(context: StudyContext, entries: Sequence[Entry]) -> list[Entry]:
    """The pool of an ensemble: candidates and the optimal genotype's seeds, each network once."""
    distinct: dict[Member, Entry] = {}
    for entry in (*entries, *optimal_members(context)):
        distinct.setdefault(entry.member, entry)
    return list(distinct.values())


def random_members(context: StudyContext) -> list[Entry]:
    """Random genotypes, trained on as many images as what led to the ensemble: the baseline at equal cost."""
    networks = context.setting.candidates * context.seeds_per_candidate + context.setting.size
    return [Entry(member) for member in equal_pool(context.setting, context.guided, networks)]


def with_every_seed(context: StudyContext, genotypes: Sequence[tuple[Genotype, float | None]]) -> list[Entry]:
    """Each (genotype, lambda) with as many training seeds as the study gives a candidate."""
    return [
        Entry(Member(genotype, context.setting.training_config(genotype, repeat)), lam)
        for genotype, lam in genotypes
        for repeat in range(context.seeds_per_candidate)
    ]


def all_members(context: StudyContext, finalists: Sequence[FrozenTrial], baselines: bool) -> list[Entry]:
    """All full retrainings of a study with these finalists; some may be the same."""
    candidates = [entry for trial in finalists for entry in finalist_members(context, trial.number)]
    return with_optimal(context, candidates) + (random_members(context) if baselines else [])


@dataclass(frozen=True)
class Pool:
    """Fully retrained networks from which an ensemble is chosen: what they are and what they predict on V."""

    entries: list[Entry]
    records: list[Artifact[Retrained]]

    def of(self, members: Sequence[int]) -> np.ndarray:
        """Probabilities (networks, samples, classes) on V of some of the networks, by position; in memory once."""
        shape = (len(members), *self.records[members[0]].value.log_probabilities.shape) if members else (0, 0, 0)
        found = np.empty(shape)
        for row, k in zip(found, members, strict=True):
            row[:] = self.records[k].value.probabilities
        return found

    @property
    def predictions(self) -> np.ndarray:
        """Those of all networks."""
        return self.of(range(len(self.records)))


def pool_of(context: StudyContext, data: Dataset, entries: Sequence[Entry]) -> Pool:
    """The stored retrainings of the entries; one that failed (it is not there) is left out.

    Their weights stay where they are: only those of an ensemble's members are needed, and later.
    """
    store, kept = context.place.store, Pool([], [])
    for entry in entries:
        key = candidate_key(entry.member.config, data, entry.member.genotype)
        record = store.find(CANDIDATE, key)
        if record is not None and has_weights(record.value):
            kept.entries.append(entry)
            light = Retrained(record.value.log_probabilities, None)
            kept.records.append(Artifact(key, light, record.seconds, cached=True))
    return kept


def retrain_job(job: Job, bench: Bench) -> dict[str, Any]:
    """Retrain one network fully and leave it in the store."""
    reached("full retraining")
    member = Member.from_dict(job["member"])
    found = bench.trainer.candidate(member.config, member.genotype)
    return {"key": found.key, "seconds": found.seconds, "cached": found.cached, "shared": found.shared}


def retraining_jobs(entries: Sequence[Entry]) -> list[Job]:
    """A job for each distinct network."""
    jobs: dict[Member, Job] = {}
    seeds: Counter[str] = Counter()
    for member in (entry.member for entry in entries):
        if member not in jobs:
            name = f"retraining {member.genotype.digest[:8]}"
            seeds[name] += 1
            name += f" seed {seeds[name]}" if seeds[name] > 1 else ""
            jobs[member] = {"name": name, "member": member.to_dict()}
    return list(jobs.values())


def choose_finalist(context: StudyContext, data: Dataset, finalists: list[FrozenTrial]) -> tuple[int, list[dict]]:
    """The trial whose pool gives the best ensemble on V by the study's criterion, cross-fitted, and all values.

    Ties go to the better value in the sweep, in whose order the finalists come. Raises StudyError if no finalist
    has enough retrained candidates.
    """
    setting, labels = context.setting, data.validation.labels
    table, best = [], None
    for finalist in finalists:
        pool = pool_of(context, data, with_optimal(context, finalist_members(context, finalist.number)))
        row = {"trial": finalist.number, "sweep_value": finalist.values[0], "networks": len(pool.records)}
        if len(pool.records) >= setting.size:
            found = cross_fitted(pool.predictions, labels, **context.selecting)
            row |= {"accuracy": found.accuracy, "standard_error": found.standard_error, "nll": found.nll}
            loss = found.nll if setting.criterion == "nll" else -found.accuracy
            if best is None or loss < best[0]:
                best = loss, finalist.number
        table.append(row)
    if best is None:
        raise StudyError(
            f"no finalist has {setting.size} retrained candidates: see the failed retrainings above. Free memory, "
            "lower --channels or --batch-size, and run the command again."
        )
    return best[1], table


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
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        kept = trial.user_attrs
        if "shared_hits" in kept:  # else no candidate was retrained
            total += Hits(kept["pool_size"], kept["cache_hits"], kept["shared_hits"])
    return total


def finalists_stage(
    run: Run, context: StudyContext, study: optuna.Study, finalists: int, baselines: bool
) -> tuple[int, bool, Hits]:
    """Stage 3: retrain the finalists' candidates fully, in parallel, and choose the best hypernetwork on V.

    Returns the number of its trial, whether it is feasible, and how many retrainings were there before.
    """
    chosen = finalists_of(study, finalists)
    if not chosen:
        raise StudyError(
            "no trial of the sweep is complete: every one was pruned. Lower --ensemble-size, leave out "
            "--prune-infeasible or --pruner, or add --trials."
        )
    allowed = feasible(chosen[0])
    if not allowed:
        run.progress.say("No trial is feasible: the one with the least control error is taken.")
    if finalists == 1 and len(study.get_trials(deepcopy=False)) > 1:
        run.progress.say(
            "One finalist: short retrainings alone decide whose hypernetwork is taken, so that more trials may give a "
            "worse ensemble. --finalists 3 compares three after full retraining."
        )
    data, store = run.data.without_test(), context.place.store

    def stored(job: Job, result: dict[str, Any]) -> bool:
        found = store.find(CANDIDATE, result["key"])
        return found is not None and has_weights(found.value)

    results = run_jobs(
        run,
        context.place,
        context.setting,
        "finalists",
        retrain_job,
        retraining_jobs(all_members(context, chosen, baselines)),
        unit="retraining",
        sound=stored,
        ahead=StoredTrainer.train_ahead,
    )
    for report in results.failed:
        run.progress.say(f"a retraining failed: {report.reason}")
    reached("choice of the hypernetwork")
    best, table = choose_finalist(context, data, chosen)
    write_bytes(run.folder / HYPERNETWORK, context.hypernetwork(best).read_bytes())
    context.place.files.publish(HYPERNETWORK)
    write_json(run.folder / FINALISTS, {"chosen": best, "finalists": table})
    return best, allowed, Hits.of(results)
