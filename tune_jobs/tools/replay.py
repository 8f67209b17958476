"""One trial of a study run again, without Ray, and every number compared with its record."""

import math
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState

from edgenes.checkpoint import load_checkpoint
from edgenes.errors import ConfigError
from tune_jobs.errors import StudyError
from tune_jobs.execution.worker import outcome_of
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.files.layout import PREDICTOR, curve_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.messages import Report, Status
from tune_jobs.progress.text import aligned, counted, one_line
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.saved import SavedStudy, context_of, open_saved
from tune_jobs.study.space import search_space, with_derived
from tune_jobs.tools.commands import Replay
from tune_jobs.tools.machine import Show, choose_device, differing_environment, progress_line, recorded_device, threads

ELSEWHERE = 0.02
"""Tolerance on another device, platform or version, where the last bits differ from the first step on."""
SHOWN = 10
"""Differences that the text shows."""
ATTRIBUTES = (
    *("control_error", "standard_error", "mean_accuracy", "nll"),
    *("pool_size", "candidates", "control_curve"),
)
"""What is compared of a trial's attributes; its seconds and cache hits are not."""
_STATES = {Status.COMPLETE: "COMPLETE", Status.PRUNED: "PRUNED", Status.FAILED: "FAIL"}
_NO_METRIC = re.compile("step|steps|attempt|.*second.*|.*memory.*")
_COLUMNS = ("metric", "recorded", "replayed")

Curve = list[dict[str, Any]]
Outcome = dict[str, Any]
"""How a trial ended: its state, and the reason, value, attributes and hypernetwork that are known."""
Numbers = dict[tuple[int | None, str], Any]
"""Numbers, words and tensors by their step, None for the outcome, and name."""


def run(command: Replay) -> dict[str, Any]:
    """Run the trial again and compare."""
    if command.tolerance is not None and not 0 <= command.tolerance < math.inf:
        raise ConfigError(f"--tolerance must be a number of at least 0, got {command.tolerance!r}.")
    saved = open_saved(command.study, command.storage).with_data(command.dataset, command.root)
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
    curve, outcome, notes = record_of(saved, trial)
    cpus = saved.config.execution.cpus_per_trial
    with progress_line(f"Trial {trial.number}", shown=not command.json) as show, threads(cpus):
        again, ended = run_again(saved, trial, device, curve, show)
    rows = compared(numbers(curve, outcome), numbers(again, ended))
    different = [row for row in rows if row["distance"] > tolerance]
    largest = max((row for row in rows if 0 < row["distance"] < math.inf), key=lambda r: r["distance"], default=None)
    return {
        "study": str(saved.folder),
        "trial": trial.number,
        "state": trial.state.name,
        "reason": trial.user_attrs.get("reason"),
        "replayed_state": ended.get("state"),
        "replayed_reason": ended.get("reason"),
        "equal": not different,
        "exactly_equal": not different and largest is None,
        "tolerance": tolerance,
        "compared": {
            "steps": len(curve),
            "numbers": len(rows),
            "metrics": list(dict.fromkeys(_root(row["metric"]) for row in rows)),
        },
        "largest": largest,
        "differences": different,
        "device": device,
        "threads": cpus,
        "elsewhere": elsewhere,
        "notes": notes,
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


def record_of(saved: SavedStudy, trial: FrozenTrial) -> tuple[Curve, Outcome, list[str]]:
    """The trial's record, and notes on what is missing; raises StudyError if there is none to compare with."""
    curve, notes = read_curve(curve_path(saved.folder, trial.number)), []
    attributes, path = trial.user_attrs, saved.context().hypernetwork(trial.number)
    if trial.state == TrialState.RUNNING and not curve:
        raise StudyError(f"trial {trial.number} is running and has recorded nothing yet: try again later.")
    if attributes.get("out_of_memory"):
        notes.append("the trial ran out of memory and continued in smaller pieces: its replay may differ")
    outcome: Outcome = {"state": trial.state.name}
    if trial.state == TrialState.FAIL:
        outcome["reason"] = attributes.get("reason")
        if not attributes.get("traceback"):
            outcome = {}
            notes.append("the trial lost its process: only its curve is compared")
    else:
        outcome |= {name: attributes[name] for name in ATTRIBUTES if name in attributes}
    if trial.state == TrialState.COMPLETE:
        outcome["value"] = trial.values[0]
    if path.exists():
        outcome["hypernetwork"] = load_checkpoint(path, "hypernetwork")
    elif attributes.get("hypernetwork"):
        notes.append(f"{path.name} is missing: the hypernetwork is not compared")
    return curve, outcome, notes


class _Enough(BaseException):  # `outcome_of` takes every Exception for the trial's own failure
    """The replay has reached the end of the record."""


def run_again(saved: SavedStudy, trial: FrozenTrial, device: str, recorded: Curve, show: Show) -> tuple[Curve, Outcome]:
    """Run the trial in a temporary folder, as far as its record goes; the end of a running trial's has no state."""
    pruned_step = trial.user_attrs.get("pruned_step")
    last = recorded[-1]["step"] if trial.state == TrialState.RUNNING else None
    data, seed = saved.data().without_test(), trial_seed(study_seed(saved.study), trial.number)
    with tempfile.TemporaryDirectory(prefix="replay-") as temporary:
        guide = saved.context().predictor()
        if guide is not None:
            guide.save(Path(temporary) / PREDICTOR)
        context = context_of(saved.config, Workplace(StudyFiles(Path(temporary))), saved.optimal, device)
        path, writer = curve_path(temporary, trial.number), CurveWriter()

        def report(seen: Report, _state: dict[str, Any] | None) -> None:
            writer.append(path, seen.record())
            show(seen.step, seen.steps, seen.note)
            if seen.step == last or (pruned_step is not None and seen.intermediate_step == pruned_step):
                raise _Enough

        outcome: Outcome = {}
        try:
            run = partial(run_trial, context, data, trial.number, seed, with_derived(trial.params), report)
            ended = outcome_of(run).settled()
            if ended.status is Status.UNWRITABLE:  # this folder's disk is full, which says nothing about the trial
                raise StudyError(ended.reason)
            if ended.step is not None:
                writer.append(path, ended.record())
            outcome = {name: ended.attributes[name] for name in ATTRIBUTES if name in ended.attributes}
            outcome["state"] = _STATES[ended.status]
            if ended.status is Status.COMPLETE:
                outcome["value"] = ended.value
            else:
                outcome["reason"] = ended.reason
        except _Enough:
            outcome = {} if last is not None else {"state": "PRUNED"}
        file = context.hypernetwork(trial.number)
        if file.exists():
            outcome["hypernetwork"] = load_checkpoint(file, "hypernetwork")
        return read_curve(path), outcome


def numbers(curve: Curve, outcome: Outcome) -> Numbers:
    """What can be compared: no counters, times or memory."""
    found = {
        (record["step"], name): value
        for record in curve
        for name, value in record.items()
        if type(value) in (int, float) and not _NO_METRIC.fullmatch(name)
    }
    return found | {(None, name): value for name, value in leaves(outcome)}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What nested dicts and lists hold, with where it stands, such as candidates[2].accuracy."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for k, part in enumerate(value):
            yield from leaves(part, f"{name}[{k}]")
    else:
        yield name, value


def compared(recorded: Numbers, replayed: Numbers) -> list[dict[str, Any]]:
    """[{"step", "metric", "recorded", "replayed", "distance"}] of the metrics that both have, at recorded steps."""
    steps = {None, *(step for step, _ in recorded)}
    shared = {(step is None, _root(name)) for step, name in recorded}
    shared &= {(step is None, _root(name)) for step, name in replayed}
    rows = []
    for step, name in dict.fromkeys((*recorded, *replayed)):
        if step in steps and (step is None, _root(name)) in shared:
            old, new = _farthest(recorded.get((step, name)), replayed.get((step, name)))
            row = {"step": step, "metric": name, "recorded": old, "replayed": new, "distance": _distance(old, new)}
            rows.append(row)
    return rows


def _root(name: str) -> str:
    """The metric that a place is a part of: candidates of candidates[2].accuracy."""
    return re.split(r"[.\[ ]", name)[0]


def _farthest(recorded: Any, replayed: Any) -> tuple[Any, Any]:
    """The two elements of two tensors that are farthest apart, or their shapes where these differ."""
    if not (isinstance(recorded, torch.Tensor) and isinstance(replayed, torch.Tensor)):
        return recorded, replayed
    if recorded.shape != replayed.shape:
        return str(tuple(recorded.shape)), str(tuple(replayed.shape))
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


def text(answer: dict[str, Any]) -> str:
    """The verdict, how it was compared, and the first differences."""
    count, differences = answer["compared"]["numbers"], answer["differences"]
    verdict = f"DIFFERENT in {len(differences)} of {count} numbers" if differences else "equal"
    largest = answer["largest"]
    if answer["equal"] and largest:
        verdict += f" within the tolerance (largest difference {largest['distance']:.2g}, {largest['metric']})"
    where = f"on {answer['device']} with {counted(answer['threads'], 'thread')}"
    allowed = f"{answer['tolerance']:g}" if answer["tolerance"] else "0, equality to the last bit"
    rows = [
        f"Trial {answer['trial']}, run again {where}: {verdict}",
        f"  recorded: {_ending(answer['state'], answer['reason'])}",
        f"  replayed: {_ending(answer['replayed_state'], answer['replayed_reason'])}",
        f"  compared: {count} numbers, over {answer['compared']['steps']} recorded steps and the outcome",
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
        if max(row["distance"] for row in differences) <= ELSEWHERE:
            rows.append(f"Another processor makes such differences too: --tolerance {ELSEWHERE:g} allows them.")
    return "\n".join(rows)


def _ending(state: str | None, reason: str | None) -> str:
    return (state or "stopped at the last recorded step") + (f", {one_line(reason, 400)}" if reason else "")
