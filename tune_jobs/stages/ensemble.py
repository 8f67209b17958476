"""From the finalists to the ensemble, without Ray: what is retrained fully, which hypernetwork wins, what it gives."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgenes.checkpoint import read_json
from edgenes.data.dataset import Dataset, Part
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.methods.catalogue import logistic_regression
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.nn.network import Network
from edgenes.selection import Selection, select_ensemble
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork, control_error
from edgenes.training.retraining import predict
from tune_jobs.execution.run import Run, failure
from tune_jobs.execution.worker import outcome_of, send, use_resources
from tune_jobs.files.environment import environment
from tune_jobs.files.integrity import set_aside
from tune_jobs.files.layout import CARD, ENSEMBLE, ENSEMBLE_FOLDER, HYPERNETWORK, TEST_READS, file_digest
from tune_jobs.messages import Report, Status
from tune_jobs.moments import reached
from tune_jobs.stages.finalists import Pool, final_training, finalist_pool, pool_of, random_baseline
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.finalists import Finalist
from tune_jobs.study.result import read_test, test_reads
from tune_jobs.study.saved import SavedStudy


@dataclass(frozen=True)
class _Evaluator:
    """Scores networks and probabilities on V and on T."""

    settings: TrialSettings
    data: Dataset
    test: Part

    def networks(self, pool: Pool, members: list[int]) -> list[Network]:
        settings, store = self.settings, self.settings.store
        found = []
        for k in members:
            record = store.find(pool.records[k].key, weights=True)
            if record is None:
                raise CheckpointError(
                    f"{store.folder / pool.records[k].key}.pt was removed or damaged meanwhile: run the command again."
                )
            training = final_training(settings, pool.repeats[k])
            found.append(store.network(record, training, self.data, pool.genotypes[k]))
        return found

    def on_test(self, networks: list[Network]) -> np.ndarray:
        """Probabilities (networks, samples, classes) on T."""
        return np.stack([np.exp(predict(n, self.test, self.data, self.settings.device)) for n in networks])

    def scores(self, validation: np.ndarray, test: np.ndarray) -> dict[str, dict[str, float]]:
        """{"validation": {...}, "test": {...}} of probabilities (samples, classes)."""
        return {
            "validation": _metrics(validation, self.data.validation.labels),
            "test": _metrics(test, self.test.labels),
        }

    def ensemble(self, pool: Pool, members: list[int]) -> dict[str, Any]:
        """Scores of the ensemble of the pool's `members`, by position."""
        test = self.on_test(self.networks(pool, members))
        return self.scores(ensemble_probabilities(pool.of(members)), ensemble_probabilities(test))


def _metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = summary(probabilities, labels)
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / len(labels))
    return {**found, "standard_error": float(error)}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def final_ensemble(settings: TrialSettings, data: Dataset, finalist: Finalist, digest: str) -> dict[str, Any]:
    """The final trial: choose the ensemble of the best hypernetwork's candidates on V, read T once, save all.

    Reads HYPERNETWORK and writes `ensemble/` among the study's files, and returns the part of result.json that it
    decides. Raises CheckpointError if the hypernetwork's file is not the one with this digest.
    """
    config = settings.config
    hypernetwork = settings.files.fetch(HYPERNETWORK, fresh=True)
    if file_digest(hypernetwork) != digest:
        raise CheckpointError(f"{hypernetwork} is not the hypernetwork that was chosen: its SHA-256 is not {digest}.")
    error = control_error(Hypernetwork.load(hypernetwork), settings.optimal)
    labels = data.validation.labels
    pool = finalist_pool(settings, data, finalist)
    selection = select_ensemble(pool.predictions, labels, config.ensemble_size, config.criterion, "auto")
    reached("test read")
    test = read_test(data, settings.files, f"final ensemble of trial {finalist.number}")
    target = settings.folder / ENSEMBLE_FOLDER
    chosen = save_ensemble(settings, data, pool, selection, test, target, {"hypernetwork": digest})
    for path in target.iterdir():
        settings.files.publish(f"{ENSEMBLE_FOLDER}/{path.name}")
    return {
        "control_error": error,
        **chosen,
        "baseline": _baselines(_Evaluator(settings, data, test), chosen["members"]),
        "test_reads": test_reads(settings.folder),
    }


def save_ensemble(
    settings: TrialSettings,
    data: Dataset,
    pool: Pool,
    selection: Selection,
    test: Part,
    folder: Path,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Save the pool's selected networks as an ensemble in `folder`, `about` (plain values) in its card.

    Returns what they are worth: {"selection", "members", "validation", "test"}.
    """
    members = list(selection.members)
    evaluate = _Evaluator(settings, data, test)
    networks = evaluate.networks(pool, members)
    on_test = evaluate.on_test(networks)
    validation = pool.of(members)
    rows = [
        {
            "digest": pool.genotypes[k].digest,
            "lambda": pool.lams[k],
            "shared": shared_edges(pool.genotypes[k], settings.optimal),
            "seed": final_training(settings, pool.repeats[k]).seed,
            "genotype": pool.genotypes[k].to_dict(),
            **evaluate.scores(validation[i], on_test[i]),
        }
        for i, k in enumerate(members)
    ]
    scores = evaluate.scores(ensemble_probabilities(validation), ensemble_probabilities(on_test))
    card = {
        "dataset": data.name,
        "data": data.digest,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about,
        "members": rows,
        **scores,
        "config": settings.config.to_dict(),
        "environment": environment(),
        "device": settings.device,
    }
    configs = [final_training(settings, pool.repeats[k]) for k in members]
    reached("ensemble saved")
    Ensemble.of(networks, configs, data, card).save(folder)
    found = {
        "criterion": selection.criterion,
        "score": selection.score,
        "proven_optimal": selection.proven_optimal,
        "networks": len(pool.records),
    }
    return {"selection": found, "members": rows, **scores}


def _baselines(evaluate: _Evaluator, members: list[dict[str, Any]]) -> dict[str, Any]:
    """What the ensemble stands beside, each chosen on V alone."""
    settings, data = evaluate.settings, evaluate.data
    config, labels = settings.config, data.validation.labels
    best = min(members, key=lambda row: row["validation"]["nll"])
    parts = ("validation", "test")
    found = {
        "mean_member": {part: _mean([row[part] for row in members]) for part in parts},
        "best_member": {part: best[part] for part in parts},
    }
    if not config.baselines:
        return found
    found["logistic_regression"] = evaluate.scores(*logistic_regression(data, [data.validation, evaluate.test]))
    repeats = range(config.ensemble_size)
    optimal = pool_of(settings, data, [(settings.optimal, None, r) for r in repeats])
    if optimal.records:
        found["optimal_ensemble"] = evaluate.ensemble(optimal, list(range(len(optimal.records))))
    seeds = range(config.seeds_per_candidate)
    rivals = pool_of(settings, data, [(g, None, r) for g in random_baseline(settings) for r in seeds])
    if len(rivals.records) >= config.ensemble_size:
        chosen = select_ensemble(rivals.predictions, labels, config.ensemble_size, config.criterion, "auto")
        found["random_ensemble"] = evaluate.ensemble(rivals, list(chosen.members))
    return found


def rebuild_ensemble(saved: SavedStudy, result: dict[str, Any]) -> None:
    """Write ensemble/ anew with the members of `result`, the files that are there set aside.

    The test part is not read. Raises DataError or StudyError if the data are not there, CheckpointError if the
    weights of a member are not.
    """
    folder, settings, data = saved.folder, saved.settings(), saved.data().without_test()
    repeats = range(max(saved.config.seeds_per_candidate, saved.config.ensemble_size))
    trainings = {training.seed: training for training in (final_training(settings, k) for k in repeats)}
    networks, configs = [], []
    for member in result["members"]:
        genotype, training = Genotype.from_dict(member["genotype"]), trainings.get(member["seed"])
        if training is None:
            raise CheckpointError(f"no training of the study has the seed {member['seed']} of a member.")
        key = settings.store.key(training, data, genotype)
        record = settings.store.find(key, weights=True)
        if record is None:
            raise CheckpointError(f"the weights of a member are not in predictions/{key}.pt: add --trials to go on.")
        networks.append(settings.store.network(record, training, data, genotype))
        configs.append(training)
    target = folder / ENSEMBLE_FOLDER
    try:
        card = read_json(target / "card.json")
    except CheckpointError:
        card = {name: result[name] for name in ("members", "validation", "test", "config", "device")}
        card |= {"dataset": data.name, "data": data.digest}
        card |= {"hypernetwork": file_digest(folder / HYPERNETWORK)}
    for name in ("ensemble.pt", "card.json"):
        if (target / name).exists():
            set_aside(target / name)
    Ensemble.of(networks, configs, data, card).save(target)


def ensemble_stage(run: Run, best: Finalist) -> dict[str, Any]:
    """Stage 4: the final trial, which consumes the best hypernetwork, reads T once and saves the ensemble."""
    config = {"hypernetwork": file_digest(run.folder / HYPERNETWORK)}
    with run.progress.stage("Ensemble", total=1, unit="ensemble"):
        outcomes = run.tune(
            "ensemble",
            ensemble_selection,
            config,
            lambda trial: "final ensemble",
            {"data": run.data_ref, "test": run.data.test, "settings": run.settings, "finalist": best},
        )
        if not outcomes or outcomes[0].status != Status.COMPLETE:
            raise failure(outcomes[0] if outcomes else Report(), "the final ensemble")
    run.clean("ensemble")
    for name in (str(ENSEMBLE), str(CARD), TEST_READS):
        run.files.fetch(name, fresh=True)
    return json.loads(outcomes[0].attributes["result"])


def ensemble_selection(
    config: dict[str, Any], data: Dataset, test: Part, settings: TrialSettings, finalist: Finalist
) -> None:
    """The final trial: the ensemble of the hypernetwork that was chosen, whose digest is config["hypernetwork"]."""
    use_resources()
    settings = settings.on_this_node()

    def run() -> Report:
        result = final_ensemble(settings, replace(data, test=test), finalist, config["hypernetwork"])
        return Report(status=Status.COMPLETE, attributes={"result": json.dumps(result)})

    send(replace(outcome_of(run), step=1, steps=1))
