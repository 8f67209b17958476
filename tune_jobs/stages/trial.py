"""What a trial of the sweep does, without Ray: train a hypernetwork, retrain its candidates, score them."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from edgenes.config import TrainingConfig
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset
from edgenes.ensemble import Ensemble
from edgenes.methods.trainer import Member
from edgenes.metrics import accuracy
from edgenes.space.hypernetwork import CONTROL_LIMIT, Candidate, control_curve
from edgenes.training.edgenes import HypernetworkResult, train_hypernetwork
from edgenes.training.memory import with_less_memory
from edgenes.training.retraining import make_network, predict
from tune_jobs.execution.speed import Speed
from tune_jobs.files.layout import hypernetwork_path
from tune_jobs.messages import Report, Status
from tune_jobs.stages.objective import objective
from tune_jobs.study.context import StudyContext
from tune_jobs.study.space import hypernetwork_config

CALIBRATION_IMAGES = 512
"""Images of W that set a path's batch-norm statistics when it is scored with the supernet's weights."""
CURVE_POINTS = 10
"""Points an edge of the recorded control curve."""
WARM_UP, REPEATS = 5, 30
"""Predictions of one image, before and while its latency is measured."""
ReportFunction = Callable[[Report, dict[str, Any] | None], None]


def run_trial(
    context: StudyContext,
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
    setting, start = context.setting, time.monotonic()
    config = hypernetwork_config(setting.hypernetwork, params, seed)
    steps = config.epochs + setting.candidates
    speed, guide = Speed(len(data.weights), context.device), context.predictor()

    def report_epoch(epoch: int, metrics: dict[str, float], state: dict[str, Any]) -> None:
        seen = Report(
            stage="hypernetwork",
            step=epoch + 1,
            steps=steps,
            note=f"hypernetwork, c {metrics['c']:.3g}, control error {metrics['control_error']:.2f}",
            control_error=metrics["control_error"],
            metrics={**metrics, **speed.measured()},
        )
        report(seen, state)
        speed.restart()

    def train(resume: dict[str, Any] | None, accumulate: int) -> HypernetworkResult:
        return train_hypernetwork(
            config, data, context.optimal, resume=resume, report=report_epoch, accumulate=accumulate, guide=guide
        )

    trained, out_of_memory = with_less_memory(train, resume)
    hypernetwork, error = trained.hypernetwork.cpu(), trained.control_error
    name = hypernetwork_path(number)
    hypernetwork.save(context.folder / name)
    context.place.files.publish(name)
    attributes: dict[str, Any] = {
        "control_error": error,
        "control_curve": control_curve(hypernetwork, context.optimal, CURVE_POINTS, config.either_input),
        "hypernetwork": name,
    }
    if out_of_memory:
        attributes["out_of_memory"] = out_of_memory
    outcome = Report(stage="candidates", step=steps, steps=steps, control_error=error, attributes=attributes)
    if context.prune_infeasible and error > CONTROL_LIMIT:
        return replace(outcome, status=Status.PRUNED, reason=f"control error {error:.2f} is above {CONTROL_LIMIT}")
    candidates = context.candidates(hypernetwork, seed)
    attributes["pool_size"] = len(candidates)
    if len(candidates) < setting.size:
        reason = f"only {len(candidates)} distinct genotypes for an ensemble of {setting.size}"
        return replace(outcome, status=Status.PRUNED, reason=reason)

    trainer = context.place.trainer(data, weights=False)
    labels = data.validation.labels
    calibration = torch.arange(min(CALIBRATION_IMAGES, len(data.weights)))
    images, _ = DeviceData(data.weights, data, context.device).batch(calibration)
    predictions, hits, shared, rows = [], 0, 0, []
    short = [setting.training_config(each.genotype, epochs=setting.short_epochs) for each in candidates]
    if not context.prunes and (context.value != "one-shot" or trained.supernet is None):
        trainer.train_ahead([Member(each.genotype, training) for each, training in zip(candidates, short, strict=True)])
    for k, (candidate, training) in enumerate(zip(candidates, short, strict=True)):
        pace: dict[str, float] = {}
        if context.value == "one-shot" and trained.supernet is not None:
            network = trained.supernet.as_network(candidate.genotype, images)
            probabilities = np.exp(predict(network, data.validation, data, context.device).astype(np.float64))
        else:
            retrained = trainer.candidate(training, candidate.genotype)
            probabilities = retrained.value.probabilities
            hits, shared = hits + retrained.cached, shared + retrained.shared
            if not retrained.cached:
                seen_images = training.epochs * len(data.training)
                pace = {"images_per_second": round(seen_images / max(retrained.seconds, 1e-9), 1)}
            if retrained.out_of_memory:
                attributes["out_of_memory"] = retrained.out_of_memory
        predictions.append(probabilities)
        measured = {"accuracy": accuracy(probabilities, labels), "parameters": parameters(training, candidate, data)}
        rows.append(candidate_row(candidate, context) | measured)
        mean = float(np.mean([row["accuracy"] for row in rows]))
        seen = Report(
            stage="candidates",
            step=config.epochs + k + 1,
            steps=steps,
            note=f"candidates, mean accuracy {mean:.3f}, control error {error:.2f}",
            control_error=error,
            intermediate=mean,
            intermediate_step=k + 1,
            metrics={"candidate_accuracy": rows[-1]["accuracy"], **pace},
        )
        report(seen, None)

    scored = objective(context.value, np.stack(predictions), labels, setting.size, setting.criterion)
    attributes |= {
        "standard_error": scored.standard_error,
        "mean_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "nll": scored.nll,
        "parameters": float(np.mean([sum(rows[k]["parameters"] for k in half) for half in scored.members])),
        "candidates": rows,
        "cache_hits": hits,
        "seconds": time.monotonic() - start,
    }
    if context.latency:
        halves = [[candidates[k] for k in half] for half in scored.members]
        attributes["latency"] = float(np.mean([latency(context, data, half) for half in halves]))
    if context.value != "one-shot":
        attributes["shared_hits"] = shared
    weak = f" (infeasible: above {CONTROL_LIMIT})" if error > CONTROL_LIMIT else ""
    note = f"value {scored.value:.3f}, control error {error:.2f}{weak}"
    return replace(outcome, status=Status.COMPLETE, value=scored.value, note=note)


def latency(context: StudyContext, data: Dataset, members: list[Candidate]) -> float:
    """The `milliseconds` of an ensemble of these candidates; that its weights are not trained does not change them."""
    configs = [context.setting.training_config(member.genotype) for member in members]
    pairs = zip(configs, members, strict=True)
    networks = [make_network(config, member.genotype, data.channels, data.classes) for config, member in pairs]
    return milliseconds(Ensemble.of(networks, configs, data).to(context.device))


def milliseconds(ensemble: Ensemble) -> float:
    """Milliseconds in which the ensemble predicts one image on this machine: a median of REPEATS, after WARM_UP."""
    size, seconds = ensemble.image_size, []
    image = np.zeros((1, size, size, ensemble.mean.shape[1]), np.uint8)
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        ensemble.predict(image)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[WARM_UP:]))


def parameters(training: TrainingConfig, candidate: Candidate, data: Dataset) -> int:
    """Parameters of the candidate's network as it predicts: without the auxiliary head."""
    with torch.device("meta"):  # no memory
        config = replace(training, auxiliary=False)
        network = make_network(config, candidate.genotype, data.channels, data.classes)
    return sum(weight.numel() for weight in network.parameters())


def candidate_row(candidate: Candidate, context: StudyContext) -> dict[str, Any]:
    """Plain values of a candidate: {"digest", "lambda", "source", "shared", "genotype"}."""
    return {
        "digest": candidate.genotype.digest,
        "lambda": candidate.lam,
        "source": candidate.source,
        "shared": context.shared_edges(candidate.genotype),
        "genotype": candidate.genotype.to_dict(),
    }
