"""What a trial of the sweep does, without Ray: train a hypernetwork, retrain what it draws, say what it is worth."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset
from edgenes.metrics import accuracy
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import CONTROL_LIMIT, Candidate, control_curve
from edgenes.training.edgenes import HypernetworkResult, train_hypernetwork
from edgenes.training.memory import with_less_memory
from edgenes.training.retraining import predict
from tune_jobs.execution.speed import Speed
from tune_jobs.files.layout import hypernetwork_path
from tune_jobs.messages import Report, Status
from tune_jobs.study.context import TrialSettings, trial_candidates

CALIBRATION_IMAGES = 512
"""Images of W that set a path's batch-norm statistics when it is scored with the supernet's weights."""
CURVE_POINTS = 10
"""Points an edge of the recorded control curve."""
ReportFunction = Callable[[Report, dict[str, Any] | None], None]


def run_trial(
    settings: TrialSettings,
    data: Dataset,
    number: int,
    seed: int,
    params: dict[str, Any],
    report: ReportFunction,
    resume: dict[str, Any] | None = None,
) -> Report:
    """Run one trial and return its last report: complete, with a value, or pruned, with a reason.

    `report(report, state)` is called after each epoch of the hypernetwork, with the state that `resume` takes,
    and after each retrained candidate, without one (the store remembers those). `data` needs no test part.
    """
    config = settings.config
    start = time.monotonic()
    epochs = config.hypernetwork_epochs
    steps = epochs + config.candidates
    speed = Speed(len(data.weights), settings.device)

    def report_epoch(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
        note = f"hypernetwork, c {metrics['c']:.3g}, control error {metrics['control_error']:.2f}"
        seen = Report(
            stage="hypernetwork",
            step=epoch + 1,
            steps=steps,
            note=note,
            control_error=metrics["control_error"],
            metrics={**metrics, **speed.measured()},
        )
        report(seen, state)
        speed.restart()

    def train(resume: dict[str, Any] | None, accumulate: int) -> HypernetworkResult:
        return train_hypernetwork(
            config.hypernetwork_config(params, seed, settings.device),
            data,
            settings.optimal,
            resume=resume,
            report=report_epoch,
            accumulate=accumulate,
        )

    trained, out_of_memory = with_less_memory(train, resume)
    hypernetwork, error = trained.hypernetwork.cpu(), trained.control_error
    name = hypernetwork_path(number)
    hypernetwork.save(settings.folder / name)
    settings.files.publish(name)
    attributes: dict[str, Any] = {
        "control_error": error,
        "control_curve": control_curve(hypernetwork, settings.optimal, CURVE_POINTS),
        "hypernetwork": name,
    }
    outcome = Report(stage="candidates", step=steps, steps=steps, control_error=error, attributes=attributes)
    if out_of_memory:
        attributes["out_of_memory"] = out_of_memory
    if config.prune_infeasible and error > CONTROL_LIMIT:
        reason = f"control error {error:.2f} is above {CONTROL_LIMIT}"
        return replace(outcome, status=Status.PRUNED, reason=reason)
    candidates = trial_candidates(config, hypernetwork, seed)
    attributes["pool_size"] = len(candidates)
    if len(candidates) < config.ensemble_size:
        reason = f"only {len(candidates)} distinct genotypes for an ensemble of {config.ensemble_size}"
        return replace(outcome, status=Status.PRUNED, reason=reason)

    labels = data.validation.labels
    calibration = torch.arange(min(CALIBRATION_IMAGES, len(data.weights)))
    images, _ = DeviceData(data.weights, data, settings.device).batch(calibration)
    predictions, hits, shared, rows = [], 0, 0, []
    for k, candidate in enumerate(candidates):
        pace = {}
        if config.value == "one-shot":
            network = trained.supernet.as_network(candidate.genotype, images)
            probabilities = np.exp(predict(network, data.validation, data, settings.device).astype(np.float64))
        else:
            training = config.training_config(config.short_epochs, 0, settings.device)
            retrained = settings.store.retrained(training, data, candidate.genotype)
            probabilities = retrained.probabilities
            hits, shared = hits + retrained.cached, shared + retrained.shared
            if not retrained.cached:
                images = config.short_epochs * len(data.training)
                pace = {"images_per_second": round(images / max(retrained.seconds, 1e-9), 1)}
            if retrained.out_of_memory:
                attributes["out_of_memory"] = retrained.out_of_memory
        predictions.append(probabilities)
        rows.append(candidate_row(candidate, settings.optimal) | {"accuracy": accuracy(probabilities, labels)})
        mean = float(np.mean([row["accuracy"] for row in rows]))
        seen = Report(
            stage="candidates",
            step=epochs + k + 1,
            steps=steps,
            note=f"candidates, mean accuracy {mean:.3f}, control error {error:.2f}",
            control_error=error,
            intermediate=mean,
            intermediate_step=k + 1,
            metrics={"candidate_accuracy": rows[-1]["accuracy"], **pace},
        )
        report(seen, None)

    worth = cross_fitted(np.stack(predictions), labels, config.ensemble_size, config.criterion)
    value, standard_error = worth.accuracy, worth.standard_error
    if config.value == "mean":
        value = float(np.mean([row["accuracy"] for row in rows]))
        standard_error = float(np.sqrt(value * (1 - value) / len(labels)))
    attributes |= {
        "standard_error": standard_error,
        "mean_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "nll": worth.nll,
        "candidates": rows,
        "cache_hits": hits,
        "seconds": time.monotonic() - start,
    }
    if config.value != "one-shot":
        attributes["shared_hits"] = shared
    note = f"value {value:.3f}, control error {error:.2f}"
    return replace(outcome, status=Status.COMPLETE, value=value, note=note)


def candidate_row(candidate: Candidate, optimal: Genotype) -> dict[str, Any]:
    """Plain values that tell a candidate: {"digest", "lambda", "source", "shared", "genotype"}."""
    return {
        "digest": candidate.genotype.digest,
        "lambda": candidate.lam,
        "source": candidate.source,
        "shared": shared_edges(candidate.genotype, optimal),
        "genotype": candidate.genotype.to_dict(),
    }
