"""One trial of a study run again, without Ray, and every number compared with its record."""

import json
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState

from edgenes.checkpoint import load_checkpoint
from edgenes.errors import CheckpointError, ConfigError, EdgeNESError
from edgenes.space.genotype import Genotype
from tune_jobs.errors import StudyError
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.files.layout import curve_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.messages import Report, Status
from tune_jobs.progress.text import aligned, counted, one_line
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.saved import SavedStudy, context_of, open_saved
from tune_jobs.study.space import search_space, with_derived
from tune_jobs.tools.commands import Replay
from tune_jobs.tools.display import Show, progress_line
from tune_jobs.tools.machine import choose_device, differing_environment, recorded_device, threads

ELSEWHERE = 0.02
"""Tolerance on another device, platform or version, where the last bits differ from the first step on."""
SHOWN = 10
"""Differences that the text shows."""
OUTCOME = (
    *("value", "control_error", "standard_error", "mean_accuracy", "nll"),
    *("pool_size", "candidates", "control_curve"),
)
"""What is compared of a trial's outcome; its seconds and cache hits are not."""
_NO_METRIC = re.compile("step|steps|attempt|.*second.*|.*memory.*")

Key = tuple[int | None, str]
"""Where a value stands: the step, None for the outcome, and the metric."""


@dataclass(frozen=True)
class Replayed:
    """A trial run again; `state` is None if the replay stopped at the end of a running trial's record."""

    curve: list[dict[str, Any]]
    state: str | None
    reason: str | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    hypernetwork: dict[str, Any] | None = None


def run(command: Replay) -> dict[str, Any]:
    """Run the trial again and compare."""
    if command.tolerance is not None and not 0 <= command.tolerance < math.inf:
        raise ConfigError(f"--tolerance must be a number of at least 0, got {command.tolerance!r}.")
    saved = open_saved(command.study, command.storage)
    trial = find_trial(saved, command.trial)
    device, before = choose_device(saved, command.device), recorded_device(saved)
    elsewhere = differing_environment(saved)
    if device != before:
        elsewhere.append(f"device: {before} then, {device} now")
    elif device != "cpu":
        elsewhere.append("a GPU adds in another order each time")
    tolerance = command.tolerance
    if tolerance is None:
        tolerance = ELSEWHERE if elsewhere else 0.0
    curve = read_curve(curve_path(saved.folder, trial.number))
    if trial.state == TrialState.RUNNING and not curve:
        raise StudyError(f"trial {trial.number} is running and has recorded nothing yet: try again later.")
    cpus = saved.config.execution.cpus_per_trial
    with progress_line(f"Trial {trial.number}", shown=not command.json) as show, threads(cpus):
        replayed = run_again(saved, trial, device, curve, show)
    recorded, found, notes = values_of(saved, trial, curve, replayed)
    rows = compared(recorded, found)
    different = [row for row in rows if row["distance"] > tolerance]
    largest = max((row for row in rows if 0 < row["distance"] < math.inf), key=lambda r: r["distance"], default=None)
    return {
        "study": str(saved.folder),
        "trial": trial.number,
        "state": trial.state.name,
        "reason": trial.user_attrs.get("reason"),
        "replayed_state": replayed.state,
        "replayed_reason": replayed.reason,
        "equal": not different,
        "exactly_equal": not different and largest is None,
        "tolerance": tolerance,
        "compared": {
            "steps": len(curve),
            "numbers": len(rows),
            "metrics": list(dict.fromkeys(re.split(r"[.\[ ]", row["metric"])[0] for row in rows)),
        },
        "largest": largest,
        "differences": different,
        "device": device,
        "threads": cpus,
        "elsewhere": elsewhere,
        "notes": _notes(trial, curve, replayed) + notes,
    }


def find_trial(saved: SavedStudy, number: int) -> FrozenTrial:
    """The study's trial `number`, which has its parameters; raises StudyError if there is none."""
    trials = saved.trials()
    if not 0 <= number < len(trials):
        there = f"0 to {len(trials) - 1}" if trials else "none"
        raise StudyError(f"the study has no trial {number}; its trials: {there}.")
    trial = trials[number]
    if not search_space(saved.config.search.estimator).keys() <= trial.params.keys():
        raise StudyError(f"trial {number} ({trial.state.name}) has no parameters yet: there is nothing to replay.")
    return trial


class _Enough(Exception):
    """The replay has reached the end of the record."""


def run_again(saved: SavedStudy, trial: FrozenTrial, device: str, recorded: list[dict], show: Show) -> Replayed:
    """Run the trial in a temporary folder, as far as its record goes."""
    pruned_step = trial.user_attrs.get("pruned_step")
    last = recorded[-1]["step"] if trial.state == TrialState.RUNNING else None
    data, seed = saved.data().without_test(), trial_seed(study_seed(saved.study), trial.number)
    with tempfile.TemporaryDirectory(prefix="replay-") as temporary:
        context = context_of(saved.config, Workplace(StudyFiles(Path(temporary))), saved.optimal, device)
        path, writer = curve_path(temporary, trial.number), CurveWriter()

        def report(seen: Report, _state: dict[str, Any] | None) -> None:
            writer.append(path, seen.record())
            show(seen.step, seen.steps, seen.note)
            if seen.step == last or (pruned_step is not None and seen.intermediate_step == pruned_step):
                raise _Enough

        outcome: Report | None = None
        try:
            outcome = run_trial(context, data, trial.number, seed, with_derived(trial.params), report)
            writer.append(path, outcome.record())
            state, reason = _ending(outcome)
        except _Enough:
            state, reason = None if last is not None else "PRUNED", None
        except CheckpointError:  # this folder's disk is full, which says nothing about the trial
            raise
        except EdgeNESError as error:
            state, reason = "FAIL", str(error)
        except Exception as error:  # the trial's own failure, perhaps the recorded one
            state, reason = "FAIL", f"{type(error).__name__}: {error}"
        file = context.hypernetwork(trial.number)
        hypernetwork = load_checkpoint(file, "hypernetwork") if file.exists() else None
        found = json.loads(json.dumps(outcome.to_dict())) if outcome else {}
        return Replayed(read_curve(path), state, reason, found, hypernetwork)


def _ending(outcome: Report) -> tuple[str, str | None]:
    """State and reason that the study gives an outcome."""
    ended = outcome.settled()
    return {Status.COMPLETE: "COMPLETE", Status.PRUNED: "PRUNED", Status.FAILED: "FAIL"}[ended.status], ended.reason


def _lost(trial: FrozenTrial) -> bool:
    """Whether the trial failed because it lost its process: then the traceback is missing, too."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get("traceback")


def values_of(
    saved: SavedStudy, trial: FrozenTrial, curve: list[dict[str, Any]], replayed: Replayed
) -> tuple[dict[Key, Any], dict[Key, Any], list[str]]:
    """The values to compare, recorded and replayed, and what cannot be compared."""
    shared = set().union(*curve) & set().union(*replayed.curve)
    steps = {record["step"] for record in curve}
    old, new = (
        {key: v for key, v in _metrics(c) if key[0] in steps and key[1] in shared} for c in (curve, replayed.curve)
    )
    if replayed.state is None:
        return old, new, []
    if not _lost(trial):
        old[None, "state"], new[None, "state"] = trial.state.name, replayed.state
        if trial.state == TrialState.FAIL and replayed.state == "FAIL":
            old[None, "reason"], new[None, "reason"] = trial.user_attrs.get("reason"), replayed.reason
    notes: list[str] = []
    if trial.state != TrialState.FAIL and replayed.outcome:
        before, after = dict(trial.user_attrs), dict(replayed.outcome.get("attributes", {}))
        if trial.state == TrialState.COMPLETE:
            before["value"], after["value"] = trial.values[0], replayed.outcome.get("value")
        for name in (name for name in OUTCOME if name in before):
            old.update(((None, part), value) for part, value in leaves(before[name], name))
            new.update(((None, part), value) for part, value in leaves(after.get(name), name))
    if replayed.hypernetwork is not None:
        path = saved.context().hypernetwork(trial.number)
        if not path.exists():
            notes = [f"{path.name} is missing: the hypernetwork is not compared"]
            return old, new, notes if trial.user_attrs.get("hypernetwork") else []
        try:
            weights = load_checkpoint(path, "hypernetwork")
        except CheckpointError as error:
            old[None, "hypernetwork"], new[None, "hypernetwork"] = f"unreadable: {error}", "sound"
        else:
            old.update(((None, name), value) for name, value in leaves(weights, "hypernetwork"))
            new.update(((None, name), value) for name, value in leaves(replayed.hypernetwork, "hypernetwork"))
    return old, new, notes


def _metrics(curve: list[dict[str, Any]]) -> Iterator[tuple[Key, float]]:
    """The numbers of a curve; counters, times and memory are no metrics."""
    for record in curve:
        for name, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not _NO_METRIC.fullmatch(name):
                yield (record["step"], name), value


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The numbers, words and tensors in nested dicts and lists, with where they stand; a genotype is one word."""
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


def compared(recorded: dict[Key, Any], replayed: dict[Key, Any]) -> list[dict[str, Any]]:
    """[{"step", "metric", "recorded", "replayed", "distance"}] of all values; of a tensor's, the two farthest apart."""
    rows = []
    for step, metric in dict.fromkeys((*recorded, *replayed)):
        old, new = _worst(recorded.get((step, metric)), replayed.get((step, metric)))
        row = {"step": step, "metric": metric, "recorded": _plain(old), "replayed": _plain(new)}
        rows.append(row | {"distance": _distance(old, new)})
    return rows


def _worst(recorded: Any, replayed: Any) -> tuple[Any, Any]:
    """The two elements of two tensors that are farthest apart, or their shapes where these differ."""
    if not (isinstance(recorded, torch.Tensor) and isinstance(replayed, torch.Tensor)):
        return recorded, replayed
    if recorded.shape != replayed.shape:
        return str(tuple(recorded.shape)), str(tuple(replayed.shape))
    if torch.equal(recorded, replayed):
        return "equal", "equal"
    old, new = recorded.double().flatten(), replayed.double().flatten()
    k = int((old - new).abs().nan_to_num(math.inf).argmax())
    return old[k].item(), new[k].item()


def _distance(a: Any, b: Any) -> float:
    """0 for equals (NaN equals NaN), |a - b| over the larger size (at least 1) for numbers, else infinity."""
    if a == b or (a != a and b != b):
        return 0.0
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)):
        return math.inf
    distance = abs(a - b) / max(1.0, abs(a), abs(b))
    return distance if math.isfinite(distance) else math.inf


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _notes(trial: FrozenTrial, curve: list[dict[str, Any]], replayed: Replayed) -> list[str]:
    attributes, notes = trial.user_attrs, []
    reason = attributes.get("reason", "no reason recorded")
    if not curve:
        notes.append(f"{curve_path('', trial.number)} is missing or empty: only the outcome is compared")
    if attributes.get("out_of_memory"):
        notes.append("the trial ran out of memory and continued in smaller pieces: its replay may differ")
    if trial.state == TrialState.RUNNING:
        notes.append(f"the trial is running: compared as far as it was recorded, step {curve[-1]['step']}")
    if trial.state == TrialState.FAIL:
        here = f"it fails here too: {replayed.reason}" if replayed.state == "FAIL" else "it does not fail here"
        notes += [f"the trial failed: {reason}", here]
        if _lost(trial):
            notes.append("the trial lost its process, which leaves only its curve: only that is compared")
    if trial.state == TrialState.PRUNED:
        notes.append(f"the trial was pruned: {reason}")
    if replayed.state == "FAIL" and trial.state != TrialState.FAIL:
        notes.append(f"the replay failed: {replayed.reason}")
    return notes


def text(answer: dict[str, Any]) -> str:
    """The verdict, how it was compared, and the first differences."""
    numbers, steps, differences = answer["compared"]["numbers"], answer["compared"]["steps"], answer["differences"]
    where = f"on {answer['device']} with {counted(answer['threads'], 'thread')}"
    allowed = f"{answer['tolerance']:g}" if answer["tolerance"] else "0, equality to the last bit"
    rows = [
        f"Trial {answer['trial']} ({answer['state']}), run again {where}: {_verdict(answer)}",
        f"  compared: {numbers} numbers, over {steps} recorded steps and the outcome",
        f"  tolerance: {allowed}",
        *(f"  differs from then: {one_line(line)}" for line in answer["elsewhere"]),
        *(f"  note: {one_line(note, 400)}" for note in answer["notes"]),
    ]
    if differences:
        table = [
            ["end" if row["step"] is None else str(row["step"]), *(one_line(row[name], 44) for name in _COLUMNS)]
            for row in differences[:SHOWN]
        ]
        rows += ["", aligned([["step", *_COLUMNS], *table], left=2)]
        if len(differences) > SHOWN:
            rows.append(f"  and {len(differences) - SHOWN} more; --json lists them all")
        if answer["tolerance"] == 0 and all(row["distance"] <= ELSEWHERE for row in differences):
            rows.append(
                f"The {_largest(answer['largest'])}: another processor, or another --cpus-per-trial then, does that "
                f"too, and neither is recorded. --tolerance {ELSEWHERE:g} allows such differences."
            )
    return "\n".join(rows)


_COLUMNS = ("metric", "recorded", "replayed")


def _verdict(answer: dict[str, Any]) -> str:
    if answer["exactly_equal"]:
        return "equal"
    if answer["equal"]:
        return f"equal within the tolerance ({_largest(answer['largest'])})"
    return f"DIFFERENT in {len(answer['differences'])} of {answer['compared']['numbers']} numbers"


def _largest(largest: dict[str, Any]) -> str:
    where = f"step {largest['step']}" if largest["step"] is not None else "the outcome"
    return f"largest difference {largest['distance']:.2g}, {largest['metric']} in {where}"
