"""Run a trial again, without Ray, and compare it with its record."""

import json
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState
from tyro.conf import Positional

from edgenes.checkpoint import load_checkpoint
from edgenes.errors import CheckpointError, ConfigError, EdgeNESError
from edgenes.space.genotype import Genotype
from tune_jobs.errors import StudyError
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.files.layout import curve_path
from tune_jobs.messages import Report, Status
from tune_jobs.progress.text import aligned, one_line
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.saved import SavedStudy
from tune_jobs.study.space import search_space, with_derived
from tune_jobs.tools.command import StudyCommand
from tune_jobs.tools.display import progress_line
from tune_jobs.tools.machine import Device, choose_device, differing_environment, recorded_device, threads

ELSEWHERE = 0.02
"""Tolerance on another device, platform or version, where the last bits differ from the first step on."""
SHOWN = 10
"""Differences that the text shows."""
OUTCOME = (
    "value",
    "control_error",
    "standard_error",
    "mean_accuracy",
    "nll",
    "pool_size",
    "candidates",
    "control_curve",
)
"""What is compared of a trial's outcome, the clock and the cache aside."""
_NO_METRICS = {"step", "steps", "attempt"}

Leaf = tuple[str, Any]


@dataclass(frozen=True)
class Difference:
    """One number, or word, that did not come out as recorded; `step` is None for the outcome."""

    step: int | None
    metric: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True)
class Replayed:
    """A trial run again: its curve, how it ended, its outcome and its hypernetwork's file, if it came so far.

    `state` is that of the study (COMPLETE, PRUNED, FAIL), or None where the replay stopped with the record.
    """

    curve: list[dict[str, Any]]
    state: str | None
    reason: str | None
    outcome: dict[str, Any]
    hypernetwork: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Replay(StudyCommand):
    """Run one trial again from scratch, without Ray, and compare it with its record, metric by metric.

    The study's folder is only read: every candidate is retrained in a temporary one. Exit status 1 if a number differs.
    """

    trial: Positional[int]
    """The trial's number."""
    tolerance: float | None = None
    """Difference allowed, as a fraction of the larger number, absolute below 1. By default 0 on the CPU of the
    study's platform and versions, where all is equal to the last bit, and 0.02 elsewhere, where little is."""
    device: Device = "auto"
    """Where to compute; auto is where the study did, or the CPU if that is not here."""

    def run(self) -> dict[str, Any]:
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ConfigError(f"--tolerance must be a number of at least 0, got {self.tolerance!r}.")
        saved = self.open()
        trial = find_trial(saved, self.trial)
        device, before = choose_device(saved, self.device), recorded_device(saved)
        elsewhere = differing_environment(saved)
        if device != before:
            elsewhere.append(f"device: {before} then, {device} now")
        elif device != "cpu":
            elsewhere.append("a GPU adds in an order of its own each time")
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = ELSEWHERE if elsewhere else 0.0
        curve = read_curve(curve_path(saved.folder, trial.number))
        if trial.state == TrialState.RUNNING and not curve:
            raise StudyError(f"trial {trial.number} is running and has recorded nothing yet: try again later.")

        cpus = saved.config.cpus_per_trial
        with progress_line(f"Trial {trial.number}", shown=not self.json) as show, threads(cpus):
            replayed = run_again(saved, trial, device, curve, show)
        found = Comparison(tolerance)
        found.curves(curve, replayed.curve)
        found.outcomes(trial, replayed)
        notes = found.hypernetworks(saved.settings().hypernetwork(trial.number), trial, replayed)
        return {
            "study": str(saved.folder),
            "trial": trial.number,
            "state": trial.state.name,
            "reason": trial.user_attrs.get("reason"),
            "replayed_state": replayed.state,
            "replayed_reason": replayed.reason,
            "equal": not found.differences,
            "exactly_equal": not found.differences and found.largest is None,
            "tolerance": tolerance,
            "compared": {"steps": len(curve), "numbers": found.count, "metrics": list(found.metrics)},
            "largest": asdict(found.largest) if found.largest else None,
            "differences": [asdict(difference) for difference in found.differences],
            "device": device,
            "threads": cpus,
            "elsewhere": elsewhere,
            "notes": _notes(trial, curve, replayed) + notes,
        }

    def text(self, answer: dict[str, Any]) -> str:
        where = f"on {answer['device']} with {answer['threads']} thread{'s' if answer['threads'] > 1 else ''}"
        compared, differences = answer["compared"], answer["differences"]
        lines = [f"Trial {answer['trial']} ({answer['state']}), run again {where}: {_verdict(answer)}"]
        lines.append(
            f"  compared: {compared['numbers']} numbers, over {compared['steps']} recorded steps and the outcome"
        )
        allowed = "0, equality to the last bit" if answer["tolerance"] == 0 else f"{answer['tolerance']:g}"
        lines.append(f"  tolerance: {allowed}")
        lines += [f"  other than then: {one_line(line)}" for line in answer["elsewhere"]]
        lines += [f"  note: {one_line(note, 400)}" for note in answer["notes"]]
        if differences:
            rows = [[_step(d["step"]), d["metric"], *_shown(d["recorded"], d["replayed"])] for d in differences[:SHOWN]]
            lines += ["", aligned([["  step", "metric", "recorded", "replayed"], *rows], left=2)]
            if len(differences) > SHOWN:
                lines.append(f"  and {len(differences) - SHOWN} more; --json lists them all")
            if answer["tolerance"] == 0 and all(_within(d, ELSEWHERE) for d in differences):
                lines += ["", _advice(answer["largest"])]
        return "\n".join(lines)

    def status(self, answer: dict[str, Any]) -> int:
        return 0 if answer["equal"] else 1


def find_trial(saved: SavedStudy, number: int) -> FrozenTrial:
    """The study's trial `number`, which has its parameters; raises StudyError if there is none."""
    trials = saved.trials()
    if not 0 <= number < len(trials):
        there = f"0 to {len(trials) - 1}" if trials else "none"
        raise StudyError(f"the study has no trial {number}; its trials: {there}.")
    trial = trials[number]
    if not search_space(saved.config.estimator).keys() <= trial.params.keys():
        raise StudyError(f"trial {number} ({trial.state.name}) has no parameters yet: there is nothing to replay.")
    return trial


class _Enough(Exception):
    """The replay has reached the end of the record."""


def run_again(saved: SavedStudy, trial: FrozenTrial, device: str, recorded: list[dict], show) -> Replayed:
    """Run the trial in a temporary folder, as far as its record goes."""
    pruned_step = trial.user_attrs.get("pruned_step")
    last = recorded[-1]["step"] if trial.state == TrialState.RUNNING else None
    data, seed = saved.data().without_test(), trial_seed(study_seed(saved.study), trial.number)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="replay-")))
        settings = TrialSettings(saved.config, folder, saved.optimal, device)
        path, writer = curve_path(folder, trial.number), CurveWriter()

        def report(seen: Report, _state: dict[str, Any] | None) -> None:
            writer.append(path, seen.record())
            show(seen.step, seen.steps, seen.note)
            if seen.step == last or (pruned_step is not None and seen.intermediate_step == pruned_step):
                raise _Enough

        state, reason, outcome = None, None, None
        try:
            outcome = run_trial(settings, data, trial.number, seed, with_derived(trial.params), report)
            writer.append(path, outcome.record())
            state, reason = _ending(outcome)
        except _Enough:
            state = None if last is not None else "PRUNED"
        except CheckpointError:  # this folder's disk is full, which says nothing about the trial
            raise
        except EdgeNESError as error:
            state, reason = "FAIL", str(error)
        except Exception as error:  # the trial's own failure, perhaps the recorded one
            state, reason = "FAIL", f"{type(error).__name__}: {error}"
        file = settings.hypernetwork(trial.number)
        hypernetwork = load_checkpoint(file, "hypernetwork") if file.exists() else None
        found = json.loads(json.dumps(outcome.to_dict())) if outcome else {}
        return Replayed(read_curve(path), state, reason, found, hypernetwork)


def _ending(outcome: Report) -> tuple[str, str | None]:
    """State and reason that the study gives an outcome."""
    ended = outcome.settled()
    return {Status.COMPLETE: "COMPLETE", Status.PRUNED: "PRUNED", Status.FAILED: "FAIL"}[ended.status], ended.reason


def _lost(trial: FrozenTrial) -> bool:
    """Whether the trial failed by losing its process: then its last words, the traceback, are missing."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get("traceback")


class Comparison:
    """Collects where a replay differs from the record by more than `tolerance`, and the largest difference at all."""

    def __init__(self, tolerance: float):
        self.tolerance = tolerance
        self.count = 0
        self.metrics: dict[str, None] = {}
        self.differences: list[Difference] = []
        self.largest: Difference | None = None
        self._distance = 0.0

    def add(self, step: int | None, metric: str, recorded: Any, replayed: Any) -> None:
        """Compare one value with another."""
        self.count += 1
        self.metrics.setdefault(re.split(r"[.\[ ]", metric)[0])
        distance = _distance(recorded, replayed)
        if distance > self._distance and distance < math.inf:
            self._distance, self.largest = distance, Difference(step, metric, recorded, replayed)
        if distance > self.tolerance:
            self.differences.append(Difference(step, metric, _plain(recorded), _plain(replayed)))

    def curves(self, recorded: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> None:
        """Compare all metrics of the recorded steps; a metric that only one of the two knows is none."""
        steps = {record["step"]: record for record in replayed}
        shared = set().union(*recorded) & set().union(*replayed)
        for record in recorded:
            other = steps.get(record["step"], {})
            for metric in dict.fromkeys((*record, *other)):
                pair = record.get(metric), other.get(metric)
                if metric in shared and _is_metric(metric, pair):
                    self.add(record["step"], metric, *pair)

    def outcomes(self, trial: FrozenTrial, replayed: Replayed) -> None:
        """Compare how the trial ended and what it was worth."""
        if replayed.state is None:
            return
        if not _lost(trial):
            self.add(None, "state", trial.state.name, replayed.state)
        if trial.state == TrialState.FAIL:
            if replayed.state == "FAIL" and not _lost(trial):
                self.add(None, "reason", trial.user_attrs.get("reason"), replayed.reason)
            return
        attributes = replayed.outcome.get("attributes", {})
        before, after = dict(trial.user_attrs), {**attributes}
        if trial.state == TrialState.COMPLETE:
            before["value"], after["value"] = trial.values[0], replayed.outcome.get("value")
        for name in OUTCOME:
            if name in before and (name in after or replayed.outcome):
                old, new = dict(leaves(before[name], name)), dict(leaves(after.get(name), name))
                for metric in dict.fromkeys((*old, *new)):
                    self.add(None, metric, old.get(metric), new.get(metric))

    def hypernetworks(self, path: Path, trial: FrozenTrial, replayed: Replayed) -> list[str]:
        """Compare the tensors of the two files; returns what could not be compared."""
        if replayed.hypernetwork is None:
            return []
        if not path.exists():
            left = trial.user_attrs.get("hypernetwork")
            return [f"{path.name} is missing: the hypernetwork is not compared"] if left else []
        try:
            recorded = load_checkpoint(path, "hypernetwork")
        except CheckpointError as error:
            self.add(None, "hypernetwork", f"unreadable: {error}", "sound")
            return []
        old, new = dict(_weights(recorded)), dict(_weights(replayed.hypernetwork))
        for name in dict.fromkeys((*old, *new)):
            self.add(None, f"hypernetwork {name}", *_worst(old.get(name), new.get(name)))
        return []


def leaves(value: Any, name: str) -> Iterator[Leaf]:
    """The numbers and words in nested dicts and lists, with where they stand; a genotype is one word."""
    if isinstance(value, dict) and value.keys() == {"space", "cells"}:
        try:
            yield name, str(Genotype.from_dict(value))
        except EdgeNESError:
            yield name, json.dumps(value)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}")
    elif isinstance(value, list):
        for k, part in enumerate(value):
            yield from leaves(part, f"{name}[{k}]")
    else:
        yield name, value


def _weights(state: dict[str, Any]) -> Iterator[Leaf]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _weights(value)
        else:
            yield name, value


def _worst(recorded: Any, replayed: Any) -> tuple[Any, Any]:
    """The two elements of two tensors that are farthest apart, or their shapes where these differ."""
    if not (isinstance(recorded, torch.Tensor) and isinstance(replayed, torch.Tensor)):
        return recorded, replayed
    if recorded.shape != replayed.shape:
        return str(tuple(recorded.shape)), str(tuple(replayed.shape))
    if not recorded.numel() or torch.equal(recorded, replayed):
        return "equal", "equal"
    old, new = recorded.double().flatten(), replayed.double().flatten()
    distances = (old - new).abs().nan_to_num(math.inf)
    k = int(distances.argmax())
    return old[k].item(), new[k].item()


def _is_metric(name: str, values: tuple[Any, Any]) -> bool:
    """Numbers are metrics, counters and clocks are not."""
    if name in _NO_METRICS or "second" in name or "memory" in name:
        return False
    return any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _distance(a: Any, b: Any) -> float:
    """0 for equals (NaN equals NaN), |a - b| over the larger size (at least 1) for numbers, else infinity."""
    if a == b or (a != a and b != b):
        return 0.0
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)):
        return math.inf
    distance = abs(a - b) / max(1.0, abs(a), abs(b))
    return distance if math.isfinite(distance) else math.inf


def _within(difference: dict[str, Any], tolerance: float) -> bool:
    return _distance(difference["recorded"], difference["replayed"]) <= tolerance


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _notes(trial: FrozenTrial, curve: list[dict[str, Any]], replayed: Replayed) -> list[str]:
    attributes, notes = trial.user_attrs, []
    if not curve:
        notes.append(f"{curve_path('', trial.number)} is missing or empty: only the outcome is compared")
    if attributes.get("out_of_memory"):
        notes.append("the trial ran out of memory and went on in smaller pieces: its replay may differ")
    if trial.state == TrialState.RUNNING:
        notes.append(f"the trial is running: compared as far as it was recorded, step {curve[-1]['step']}")
    if trial.state == TrialState.FAIL:
        here = f"it fails here too: {replayed.reason}" if replayed.state == "FAIL" else "it does not fail here"
        notes += [f"the trial failed: {attributes.get('reason', 'no reason recorded')}", here]
        if _lost(trial):
            notes.append("a process that is lost leaves nothing but its curve, and only that is compared")
    if trial.state == TrialState.PRUNED:
        notes.append(f"the trial was pruned: {attributes.get('reason', 'no reason recorded')}")
    if replayed.state == "FAIL" and trial.state != TrialState.FAIL:
        notes.append(f"the replay failed: {replayed.reason}")
    return notes


def _verdict(answer: dict[str, Any]) -> str:
    if answer["exactly_equal"]:
        return "equal"
    if answer["equal"]:
        return f"equal within the tolerance ({_largest(answer['largest'])})"
    return f"DIFFERENT in {len(answer['differences'])} of {answer['compared']['numbers']} numbers"


def _largest(largest: dict[str, Any]) -> str:
    distance = _distance(largest["recorded"], largest["replayed"])
    where = f"step {largest['step']}" if largest["step"] is not None else "the outcome"
    return f"largest difference {distance:.2g}, {largest['metric']} in {where}"


def _advice(largest: dict[str, Any]) -> str:
    return (
        f"The {_largest(largest)}: another processor than the trial's, or another --cpus-per-trial at its time, does "
        f"that too, and neither is recorded. --tolerance {ELSEWHERE:g} lets such differences pass."
    )


def _step(step: int | None) -> str:
    return f"  {'end' if step is None else step}"


def _shown(recorded: Any, replayed: Any) -> tuple[str, str]:
    """Both as text, with as many digits as it takes to tell them apart."""
    for digits in (6, 9, 12, 17):
        pair = tuple(_short(value, digits) for value in (recorded, replayed))
        if pair[0] != pair[1]:
            break
    return pair


def _short(value: Any, digits: int) -> str:
    if value is None:
        return "nothing"
    return f"{value:.{digits}g}" if isinstance(value, float) else one_line(value, 44)
