"""Stage 3: the finalists' candidates, retrained fully in parallel; the best hypernetwork is chosen on V."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ray import tune

from edgenes.checkpoint import write_atomically, write_json
from edgenes.config import TrainingConfig
from edgenes.data.dataset import Dataset
from edgenes.seeds import stable_seed
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype, random_genotypes
from tune_jobs.errors import Interrupted, StudyError
from tune_jobs.execution.run import Run, failure
from tune_jobs.execution.worker import outcome_of, send, use_resources
from tune_jobs.files.candidate_store import Retrained
from tune_jobs.files.layout import FINALISTS, HYPERNETWORK
from tune_jobs.messages import Report, Status
from tune_jobs.moments import reached
from tune_jobs.stages.hits import Hits
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.finalists import Finalist, finalist_entries
from tune_jobs.study.trials import best_trial


@dataclass(frozen=True)
class Job:
    """One full retraining: a genotype and which of the study's training seeds."""

    genotype: Genotype
    repeat: int
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a worker."""
        return {"genotype": self.genotype.to_dict(), "repeat": self.repeat, "label": self.label}


def random_baseline(settings: TrialSettings) -> list[Genotype]:
    """As many distinct random genotypes as a hypernetwork gives candidates."""
    config = settings.config
    generator = torch.Generator().manual_seed(stable_seed("random genotypes", config.seed))
    return random_genotypes(config.space, config.candidates, generator)


def retraining_jobs(settings: TrialSettings, entries: list[Finalist]) -> list[Job]:
    """All full retrainings that the end of a study needs, each once: finalists' candidates, then the baselines."""
    config = settings.config
    jobs = [
        Job(candidate.genotype, repeat, f"trial {finalist.number}, lambda {candidate.lam:.2f}")
        for finalist in entries
        for candidate in finalist.candidates(settings)
        for repeat in range(config.seeds_per_candidate)
    ]
    if config.baselines:
        jobs += [Job(settings.optimal, repeat, "optimal genotype") for repeat in range(config.ensemble_size)]
        jobs += [
            Job(genotype, repeat, "random genotype")
            for genotype in random_baseline(settings)
            for repeat in range(config.seeds_per_candidate)
        ]
    distinct: dict[tuple[Genotype, int], Job] = {}
    for job in jobs:
        distinct.setdefault((job.genotype, job.repeat), job)
    return list(distinct.values())


def final_training(settings: TrialSettings, repeat: int) -> TrainingConfig:
    """Configuration of a full retraining."""
    return settings.config.training_config(settings.config.final_epochs, repeat, settings.device)


@dataclass(frozen=True)
class Pool:
    """Fully retrained networks from which an ensemble is chosen: what they are and what they predict on V."""

    genotypes: list[Genotype]
    lams: list[float | None]
    repeats: list[int]
    records: list[Retrained]

    @property
    def predictions(self) -> np.ndarray:
        """Probabilities (networks, samples, classes) on V, in memory once."""
        return self.of(range(len(self.records)))

    def of(self, members: Sequence[int]) -> np.ndarray:
        """The probabilities of some of the networks, by position."""
        shape = (len(members), *self.records[members[0]].log_probabilities.shape) if members else (0, 0, 0)
        found = np.empty(shape)
        for row, k in zip(found, members, strict=True):
            row[:] = self.records[k].probabilities
        return found


def pool_of(settings: TrialSettings, data: Dataset, jobs: list[tuple[Genotype, float | None, int]]) -> Pool:
    """The stored retrainings of (genotype, lambda, repeat); one that failed (it is not there) is left out.

    Their weights stay where they are: only those of an ensemble's members are needed, and later.
    """
    found = []
    for genotype, lam, repeat in jobs:
        key = settings.store.key(final_training(settings, repeat), data, genotype)
        record = settings.store.find(key, weights=True)
        if record is not None:
            found.append((genotype, lam, repeat, replace(record, weights=None)))
    return Pool(*(list(column) for column in zip(*found, strict=True))) if found else Pool([], [], [], [])


def finalist_pool(settings: TrialSettings, data: Dataset, finalist: Finalist) -> Pool:
    """The fully retrained candidates of a finalist."""
    repeats = range(settings.config.seeds_per_candidate)
    candidates = finalist.candidates(settings)
    return pool_of(settings, data, [(c.genotype, c.lam, r) for c in candidates for r in repeats])


def choose_finalist(settings: TrialSettings, data: Dataset, entries: list[Finalist]) -> tuple[Finalist, list[dict]]:
    """The finalist whose fully retrained candidates give the best cross-fitted ensemble on V, and all their values.

    Ties go to the better value in the sweep, in whose order the finalists come. Raises StudyError if no finalist
    has enough retrained candidates.
    """
    size = settings.config.ensemble_size
    table, best = [], None
    for finalist in entries:
        pool = finalist_pool(settings, data, finalist)
        row = {"trial": finalist.number, "sweep_value": finalist.value, "networks": len(pool.records)}
        if len(pool.records) >= size:
            worth = cross_fitted(pool.predictions, data.validation.labels, size, settings.config.criterion)
            row |= {"value": worth.accuracy, "standard_error": worth.standard_error, "nll": worth.nll}
            if best is None or worth.accuracy > best[0]:
                best = worth.accuracy, finalist
        table.append(row)
    if best is None:
        raise StudyError(
            f"no finalist has {size} retrained candidates: see the failed retrainings above. Free memory, lower "
            "--channels or --batch-size, and run the command again."
        )
    return best[1], table


def finalists_stage(run: Run) -> tuple[Finalist, bool, Hits]:
    """Stage 3: retrain the finalists' candidates fully, in parallel, and choose the best hypernetwork on V."""
    config, settings = run.config, run.settings
    entries = finalist_entries(run.study, config)
    if not entries:
        raise StudyError(
            "no trial of the sweep is complete: every one was pruned. Lower --ensemble-size, leave out "
            "--prune-infeasible or --pruner, or add --trials."
        )
    _, allowed = best_trial(run.study)
    if not allowed:
        run.progress.say("No trial is feasible: the one with the least control error is taken.")
    jobs = retraining_jobs(settings, entries)
    data = run.data.without_test()
    store = settings.store
    keys = [store.key(final_training(settings, job.repeat), data, job.genotype) for job in jobs]
    missing = [job for job, key in zip(jobs, keys, strict=True) if store.find(key, weights=True) is None]
    hits = Hits(len(jobs), len(jobs) - len(missing))
    if missing:
        with run.progress.stage("Finalists", len(jobs), len(jobs) - len(missing), unit="retraining"):
            outcomes = run.tune(
                "finalists",
                candidate_retraining,
                {"job": tune.grid_search(list(range(len(missing))))},
                lambda trial: f"retraining {trial.config['job'] + 1}" if "job" in trial.config else "retraining",
                {"data": run.data_ref, "settings": settings, "jobs": [job.to_dict() for job in missing]},
            )
            failed = [outcome for outcome in outcomes if outcome.status == Status.FAILED]
            for outcome in outcomes:
                if outcome.status == Status.UNWRITABLE:
                    raise failure(outcome, "a retraining")
            if any(outcome.status is None for outcome in outcomes):
                raise Interrupted("stopped while retraining the finalists. Run the same command again to go on.")
            hits += Hits.of(outcomes)
            for outcome in failed:
                run.progress.say(f"a retraining failed: {outcome.reason}")
        run.clean("finalists")
    reached("choice of the hypernetwork")
    best, table = choose_finalist(settings, data, entries)
    chosen = settings.hypernetwork(best.number).read_bytes()
    write_atomically(run.folder / HYPERNETWORK, lambda file: file.write(chosen))
    run.files.publish(HYPERNETWORK)
    write_json(run.folder / FINALISTS, {"chosen": best.number, "finalists": table})
    return best, allowed, hits


def candidate_retraining(config: dict[str, Any], data: Dataset, settings: TrialSettings, jobs: list[dict]) -> None:
    """Retrain one candidate fully and leave it in the store; config["job"] is its position among `jobs`."""
    use_resources()
    settings = settings.on_this_node()
    job = jobs[config["job"]]

    def run() -> Report:
        reached("full retraining")
        training = final_training(settings, job["repeat"])
        genotype = Genotype.from_dict(job["genotype"])
        retrained = settings.store.retrained(training, data, genotype, weights=True)
        hits = {"cached": retrained.cached, "shared": retrained.shared}
        return Report(status=Status.COMPLETE, attributes=hits)

    send(replace(outcome_of(run), step=1, steps=1))
