"""Stage 4: the ensemble of the best hypernetwork's candidates and the optimal genotype's seeds, scored once on T."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgenes.data.dataset import Dataset, Part
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.methods.catalogue import logistic_regression
from edgenes.metrics import TINY, ensemble_probabilities, of_labels, summary
from edgenes.nn.network import Network
from edgenes.selection import Selection, calibrate, cross_fitted, select_ensemble
from edgenes.space.hypernetwork import Hypernetwork, control_error
from edgenes.training.retraining import predict
from edgenes.uncertainty import Abstention
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench, Job, run_jobs
from tune_jobs.execution.run import Run
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import ENSEMBLE_FILES, ENSEMBLE_FOLDER, HYPERNETWORK, TEST_READS, file_digest
from tune_jobs.files.stored_trainer import CANDIDATE, has_weights, network_of
from tune_jobs.moments import reached
from tune_jobs.stages.calibration import calibration_record
from tune_jobs.stages.finalists import (
    Pool,
    finalist_members,
    optimal_members,
    pool_of,
    random_members,
    with_optimal,
)
from tune_jobs.study.context import StudyContext
from tune_jobs.study.result import read_test, test_reads

ENSEMBLE_VERSION = 3
"""Of what the final trial computes: in 1 the optimal genotype's seeds were not in the pool, 2 did not calibrate."""

RULES = 256
"""Rules of abstention that an ensemble has at most."""


@dataclass(frozen=True)
class _Evaluator:
    """Scores networks and probabilities on V and on T."""

    context: StudyContext
    data: Dataset
    test: Part

    def on_test(self, networks: list[Network]) -> np.ndarray:
        """Probabilities (networks, samples, classes) on T."""
        return np.stack([np.exp(predict(n, self.test, self.data, self.context.device)) for n in networks])

    def scores(self, validation: np.ndarray, test: np.ndarray) -> dict[str, dict[str, float]]:
        """{"validation": {...}, "test": {...}} of probabilities (samples, classes), calibrated on V like all others."""
        parts = {"validation": (validation, self.data.validation.labels), "test": (test, self.test.labels)}
        found = calibrate(*parts["validation"], self.context.calibration)
        return {
            part: _metrics(probabilities if found is None else found.apply(probabilities), labels)
            for part, (probabilities, labels) in parts.items()
        }

    def ensemble(self, pool: Pool, members: Sequence[int], weights: Sequence[float] | None = None) -> dict[str, Any]:
        """Scores of the ensemble of the pool's `members`, by position."""
        test = self.on_test(networks_of(self.context, self.data, pool, members))
        return self.scores(_combined(pool.of(members), weights), _combined(test, weights))


def networks_of(context: StudyContext, data: Dataset, pool: Pool, members: Sequence[int]) -> list[Network]:
    """The pool's networks at these positions; raises CheckpointError if one was removed."""
    store, found = context.place.store, []
    for k in members:
        record, member = store.find(CANDIDATE, pool.records[k].key), pool.entries[k].member
        if record is None or not has_weights(record.value):
            raise CheckpointError(
                f"{store.path(CANDIDATE, pool.records[k].key)} was removed or damaged meanwhile: run the command again."
            )
        found.append(network_of(record.value, member.config, data, member.genotype))
    return found


def deep_ensemble(context: StudyContext, data: Dataset, size: int) -> Ensemble | None:
    """The stored networks of the optimal genotype from `size` seeds, calibrated on V; None where one is missing."""
    pool = pool_of(context, data, optimal_members(context)[:size])
    if len(pool.records) < size:
        return None
    networks = networks_of(context, data, pool, range(size))
    found = calibrate(ensemble_probabilities(pool.predictions), data.validation.labels, context.calibration)
    return Ensemble.of(networks, [entry.member.config for entry in pool.entries], data, calibration=found)


def select(context: StudyContext, data: Dataset, pool: Pool) -> Selection:
    """The pool's ensemble that the study's method finds best on V, calibrated there."""
    return select_ensemble(pool.predictions, data.validation.labels, **context.selecting)


def _combined(predictions: np.ndarray, weights: Sequence[float] | None) -> np.ndarray:
    """The (weighted) mean of probabilities (networks, samples, classes)."""
    return ensemble_probabilities(predictions) if weights is None else np.tensordot(weights, predictions, 1)


def _metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = summary(probabilities, labels)
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / len(labels))
    losses = -np.log(np.maximum(of_labels(probabilities, labels), TINY))
    spread = float(losses.std(ddof=1) / np.sqrt(len(labels)))
    return {**found, "standard_error": float(error), "nll_standard_error": spread}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def ensemble_stage(
    run: Run, context: StudyContext, best: int, baselines: bool, about: dict[str, Any]
) -> dict[str, Any]:
    """Stage 4: the final trial, which consumes the best hypernetwork, reads T once and saves the ensemble.

    `best` is the number of the hypernetwork's trial. `about` (plain values) goes into the ensemble's card. Returns the
    part of result.json that the final trial decides.
    """
    files = context.place.files
    job = {
        "name": "final ensemble",
        "version": ENSEMBLE_VERSION,
        "trial": best,
        "hypernetwork": file_digest(run.folder / HYPERNETWORK),
        "baselines": baselines,  # a result without them does not do for a study that now wants them
    }
    results = run_jobs(
        run,
        context.place,
        context.setting,
        "ensemble",
        ensemble_job,
        [job],
        unit="ensemble",
        sound=lambda job, result: all(files.fetch(name).exists() for name in ENSEMBLE_FILES),
        test=run.data.test,
        context=context,
        baselines=baselines,
        about=about,
    )
    if results.failed:
        raise StudyError(f"the final ensemble failed: {results.failed[0].reason}")
    for name in (*ENSEMBLE_FILES, TEST_READS):
        files.fetch(name, fresh=True)
    return results.found[0]


def ensemble_job(
    job: Job,
    bench: Bench,
    test: Part,
    context: StudyContext,
    baselines: bool,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Choose the ensemble on V, read T, save the ensemble, score it.

    Raises CheckpointError if the hypernetwork's file is not the one that was chosen, by its digest.
    """
    context, data = context.on_this_node(), bench.data
    files = context.place.files
    hypernetwork = files.fetch(HYPERNETWORK, fresh=True)
    if file_digest(hypernetwork) != job["hypernetwork"]:
        raise CheckpointError(
            f"{hypernetwork} is not the hypernetwork that was chosen: its SHA-256 is not {job['hypernetwork']}. "
            "Restore it from a copy."
        )
    error = control_error(Hypernetwork.load(hypernetwork), context.optimal, context.setting.hypernetwork.either_input)
    pool = pool_of(context, data, with_optimal(context, finalist_members(context, job["trial"])))
    selection = select(context, data, pool)
    reached("test read")
    test = read_test(replace(data, test=test), files, f"final ensemble of trial {job['trial']}")
    target = context.folder / ENSEMBLE_FOLDER
    about = {**about, "hypernetwork": job["hypernetwork"]}
    chosen = save_ensemble(context, data, pool, selection, test, target, about)
    for path in target.iterdir():
        files.publish(f"{ENSEMBLE_FOLDER}/{path.name}")
    return {
        "control_error": error,
        **chosen,
        "baseline": _baselines(_Evaluator(context, data, test), chosen["members"], baselines),
        "test_reads": test_reads(context.folder),
    }


def save_ensemble(
    context: StudyContext,
    data: Dataset,
    pool: Pool,
    selection: Selection,
    test: Part,
    folder: Path,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Save the pool's selected networks as an ensemble in `folder`, `about` (plain values) in its card.

    Returns its scores: {"selection", "calibration", "members", "validation", "test"}.
    """
    members = list(selection.members)
    evaluate = _Evaluator(context, data, test)
    networks = networks_of(context, data, pool, members)
    on_test = evaluate.on_test(networks)
    validation = pool.of(members)
    entries = [pool.entries[k] for k in members]
    rows = [
        {
            "digest": entry.member.genotype.digest,
            "lambda": entry.lam,
            "shared": context.shared_edges(entry.member.genotype),
            "seed": entry.member.config.seed,
            "genotype": entry.member.genotype.to_dict(),
            **evaluate.scores(validation[i], on_test[i]),
        }
        for i, entry in enumerate(entries)
    ]
    mean = _combined(on_test, selection.weights)
    scores = evaluate.scores(_combined(validation, selection.weights), mean)
    after = mean if selection.calibration is None else selection.calibration.apply(mean)
    labels = data.validation.labels
    crossed = cross_fitted(pool.predictions, labels, **context.selecting)
    calibration = calibration_record(context.calibration, selection, crossed, labels, (mean, after, test.labels))
    card = {
        "dataset": data.name,
        "data": data.digest,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about,
        "calibration": {name: value for name, value in calibration.items() if name != "reliability"},
        "members": rows,
        **scores,
        "environment": environment(),
        "device": context.device,
    }
    reached("ensemble saved")
    configs = [entry.member.config for entry in entries]
    rules = Abstention.rules(crossed.probabilities, labels)
    rules = rules[:: -(-len(rules) // RULES)]  # what lies between two is decided by the stricter one
    Ensemble.of(networks, configs, data, card, selection.weights, selection.calibration, rules).save(folder)
    found = {
        "method": context.setting.selection,
        "weights": selection.weights,
        "criterion": selection.criterion,
        "score": selection.score,
        "proven_optimal": selection.proven_optimal,
        "networks": len(pool.records),
    }
    return {"selection": found, "calibration": calibration, "members": rows, **scores}


def _baselines(evaluate: _Evaluator, members: list[dict[str, Any]], retrained: bool) -> dict[str, Any]:
    """What the ensemble stands beside, each chosen on V alone; `retrained`: are there networks of others?"""
    context, data = evaluate.context, evaluate.data
    setting = context.setting
    best = min(members, key=lambda row: row["validation"]["nll"])
    parts = ("validation", "test")
    found = {
        "mean_member": {part: _mean([row[part] for row in members]) for part in parts},
        "best_member": {part: best[part] for part in parts},
    }
    if not retrained:
        return found
    found["logistic_regression"] = evaluate.scores(*logistic_regression(data, [data.validation, evaluate.test]))
    optimal = pool_of(context, data, optimal_members(context))
    if optimal.records:
        found["optimal_ensemble"] = evaluate.ensemble(optimal, range(len(optimal.records)))
    rivals = pool_of(context, data, random_members(context))
    if len(rivals.records) >= setting.size:
        chosen = select(context, data, rivals)
        found["random_ensemble"] = evaluate.ensemble(rivals, chosen.members, chosen.weights)
    return found
