"""How far a study is: its driver, stages, trials, the best one, failures, disk."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from edgenes.errors import CheckpointError, EdgeNESError
from tune_jobs.files.artifact_store import read_artifact
from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import GENOTYPE, PREDICTIONS, curve_path
from tune_jobs.files.stored_trainer import CANDIDATE, has_weights
from tune_jobs.progress.text import counted, duration, one_line, size_text
from tune_jobs.study.limits import ended_early
from tune_jobs.study.result import read_result, test_reads
from tune_jobs.study.saved import SavedStudy, open_saved, stage_seconds
from tune_jobs.study.trials import added_trials, best_trial
from tune_jobs.tools.commands import Status
from tune_jobs.tools.folder import contents, driver, full_retrainings

STAGES = ("search", "sweep", "finalists", "ensemble")
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def run(command: Status) -> dict[str, Any]:
    """The study's state as plain values; what cannot be read is a line in "problems"."""
    saved = open_saved(command.study, command.storage)
    folder = saved.folder
    problems: list[str] = []

    def tried(read, missing):
        try:
            return read()
        except EdgeNESError as error:
            problems.append(str(error))
            return missing

    trials, asked = saved.trials(), saved.config.trials
    counts = Counter(_STATES[trial.state.name] for trial in trials)
    for trial in added_trials(saved.study):
        counts[_STATES[trial.state.name]] -= 1
        counts["added"] += 1
    result = tried(lambda: read_result(folder), None)
    seconds = tried(lambda: stage_seconds(folder), {})
    ended = ended_early(saved.config, saved.study, seconds.get("sweep", 0))
    planned = asked if ended is None else counts["complete"] + counts["pruned"]
    passed = {"search": (folder / GENOTYPE).exists(), "sweep": counts["complete"] + counts["pruned"] >= planned}
    retrainings = tried(lambda: _retrainings(saved), None) if all(passed.values()) else None
    passed["ensemble"] = result is not None and result["trials"] >= planned
    retrained = retrainings is not None and retrainings["done"] == retrainings["planned"]
    passed["finalists"] = passed["ensemble"] or retrained
    holder = driver(folder)
    states = {name: "done" if passed[name] else "to do" for name in STAGES}
    current = next((name for name in STAGES if not passed[name]), None)
    if current is not None:
        states[current] = "running" if holder is not None and holder["state"] == "alive" else "stopped"
    found = contents(folder)
    parts: Counter[str] = Counter()
    for name, size in found.files.items():
        parts[name.partition("/")[0]] += size
    running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    return {
        "folder": str(folder),
        "dataset": saved.config.data.dataset,
        "finished": passed["ensemble"],
        "driver": holder,
        "stages": [{"name": n, "state": states[n], "seconds": seconds.get(n)} for n in STAGES],
        "trials": {"planned": asked, **{name: counts[name] for name in (*_STATES.values(), "added")}},
        "ended": ended,
        "running": [tried(lambda k=k: _step(folder, k), {"trial": k}) for k in running],
        "retrainings": retrainings,
        "best_of_sweep": _best(saved),
        "result": result and {name: result[name] for name in ("trials", "chosen", "validation", "test")},
        "failures": _reasons(trials, TrialState.FAIL),
        "prunings": _reasons(trials, TrialState.PRUNED),
        "test_reads": tried(lambda: test_reads(folder, strict=True), None),
        "results": len(found.matching(r"result(-\d+)?\.json")),
        "disk": {"bytes": found.size(), "parts": dict(parts.most_common())},
        "problems": problems,
    }


def _step(folder: Path, number: int) -> dict[str, Any]:
    """The newest record of a running trial's curve: {"trial", "step", "steps", "note"}."""
    curve = read_curve(curve_path(folder, number))
    last = curve[-1] if curve else {}
    return {"trial": number, **{name: last.get(name) for name in ("step", "steps", "note")}}


def _retrainings(saved: SavedStudy) -> dict[str, int]:
    """How many of the full retrainings are stored with their weights."""
    paths = [saved.folder / PREDICTIONS / f"{key}.pt" for key in full_retrainings(saved)]
    return {"done": sum(map(_has_weights, paths)), "planned": len(paths)}


def _has_weights(path: Path) -> bool:
    try:
        return has_weights(read_artifact(CANDIDATE, path).value)
    except CheckpointError:
        return False


def _best(saved: SavedStudy) -> dict[str, Any] | None:
    best = best_trial(saved.study)
    if best is None:
        return None
    trial, allowed = best
    attributes = {name: trial.user_attrs.get(name) for name in ("standard_error", "control_error")}
    return {"number": trial.number, "value": trial.values[0], **attributes, "feasible": allowed, "params": trial.params}


def _reasons(trials: list[FrozenTrial], state: TrialState) -> list[dict[str, Any]]:
    """[{"reason", "trials"}], reasons that differ in numbers alone together, the commonest first."""
    kinds: dict[str, dict[str, Any]] = {}
    for trial in trials:
        if trial.state == state:
            reason = str(trial.user_attrs.get("reason") or "no reason recorded")
            row = kinds.setdefault(re.sub(r"\d+", "#", reason), {"reason": reason, "trials": []})
            row["trials"].append(trial.number)
    return sorted(kinds.values(), key=lambda row: -len(row["trials"]))


def text(answer: dict[str, Any]) -> str:
    """A line on each part."""
    trials, retrainings, result = answer["trials"], answer["retrainings"], answer["result"]
    driven = answer["driver"] is not None and answer["driver"]["state"] == "alive"
    words = {} if driven else {"running": "interrupted"}
    states = ", ".join(f"{trials[name]} {words.get(name, name)}" for name in _STATES.values() if trials[name])
    states += f", {trials['added']} added by others" if trials["added"] else ""
    details = {"sweep": f"{trials['complete'] + trials['pruned']} of {trials['planned']} trials ({states or 'none'})"}
    if retrainings:
        details["finalists"] = f"{retrainings['done']} of {retrainings['planned']} full retrainings"
    if answer["ended"]:
        details["sweep"] += f", ended early: {answer['ended']}"
    rows = []
    for stage in answer["stages"]:
        took = "" if stage["seconds"] is None else duration(stage["seconds"])
        rows.append((stage["name"], ", ".join(filter(None, (stage["state"], details.get(stage["name"]), took)))))
        if stage["name"] == "sweep":
            rows += [("", f"trial {row['trial']}: {_progress(row)}") for row in answer["running"]]
    best = answer["best_of_sweep"]
    if best:
        error = "unknown" if best["control_error"] is None else f"{best['control_error']:.2f}"
        weak = "" if best["feasible"] else " (no feasible trial yet)"
        value = f"{best['value']:.3f} ± {best['standard_error'] or 0:.3f}"
        rows.append(("best of sweep", f"trial {best['number']}, value {value}, control error {error}{weak}"))
    if result:
        test = f"{result['test']['accuracy']:.3f} ± {result['test']['standard_error'] or 0:.3f}"
        chosen = f"trial {result['chosen']['number']}, of {result['trials']} trials"
        rows.append(("chosen", f"{chosen}, test accuracy {test}"))
    for title, key in (("failed", "failures"), ("pruned", "prunings")):
        rows += [(title, f"{len(row['trials'])} x {one_line(row['reason'])}") for row in answer[key]]
    reads = answer["test_reads"]
    rows.append(("test reads", f"{reads} for {counted(answer['results'], 'result')}" if reads else "none"))
    parts = ", ".join(f"{name} {size_text(size)}" for name, size in list(answer["disk"]["parts"].items())[:4])
    rows.append(("disk", f"{size_text(answer['disk']['bytes'])} ({parts})"))
    rows += [("problem", one_line(problem)) for problem in answer["problems"]]
    if answer["problems"]:
        rows.append(("", f"see python -m tune_jobs doctor {answer['folder']}"))
    lines = [f"  {title:<15}{words}" for title, words in rows]
    return "\n".join([f"{answer['folder']}: {_headline(answer)}", *lines])


def _headline(answer: dict[str, Any]) -> str:
    holder = answer["driver"]
    if holder is None or holder["state"] == "dead":
        lost = f"; its driver, process {holder['pid']}, died" if holder else ""
        return "finished" if answer["finished"] else f"stopped{lost}; the sweep's same command resumes it"
    who = f"process {holder['pid']} on {holder['host']}"
    if holder["state"] == "silent":
        return f"{who} has given no sign of life for {duration(holder['heartbeat_age'])}"
    since = f" for {duration(holder['seconds'])}" if holder["seconds"] is not None else ""
    return f"driven by {who}{since}, heartbeat {duration(holder['heartbeat_age'])} ago"


def _progress(row: dict[str, Any]) -> str:
    if row.get("step") is None:
        return "begun"
    return f"step {row['step']} of {row['steps'] or '?'}" + (f", {one_line(row['note'])}" if row["note"] else "")
