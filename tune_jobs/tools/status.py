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
from tune_jobs.study.result import read_result, test_reads
from tune_jobs.study.saved import SavedStudy, open_saved, stage_seconds
from tune_jobs.study.trials import best_trial
from tune_jobs.tools.commands import Status
from tune_jobs.tools.folder import contents, driver, full_retrainings

STAGES = ("search", "sweep", "finalists", "ensemble")
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def run(command: Status) -> dict[str, Any]:
    """The study's state as plain values; what cannot be read is a line in "problems"."""
    saved = open_saved(command.study, command.storage)
    folder, config = saved.folder, saved.config
    problems: list[str] = []

    def tried(read, missing):
        try:
            return read()
        except EdgeNESError as error:
            problems.append(str(error))
            return missing

    trials = saved.trials()
    counts = Counter(_STATES[trial.state.name] for trial in trials)
    done = counts["complete"] + counts["pruned"]
    result = tried(lambda: read_result(folder), None)
    whole = result is not None and result["trials"] >= config.trials
    seconds = tried(lambda: stage_seconds(folder), {})
    retrainings = None
    if (folder / GENOTYPE).exists() and done >= config.trials:
        retrainings = tried(lambda: _retrainings(saved), None)
    passed = {
        "search": (folder / GENOTYPE).exists(),
        "sweep": done >= config.trials,
        "finalists": whole or (retrainings is not None and retrainings["done"] == retrainings["planned"]),
        "ensemble": whole,
    }
    holder = driver(folder)
    alive = holder is not None and holder["state"] == "alive"
    current = next((name for name in STAGES if not passed[name]), None)
    states = {name: "done" if passed[name] else "to do" for name in STAGES}
    if current is not None:
        states[current] = "running" if alive else "stopped"
    found = contents(folder)
    parts = Counter()
    for name, size in found.files.items():
        parts[name.partition("/")[0]] += size
    return {
        "folder": str(folder),
        "dataset": config.data.dataset,
        "finished": whole,
        "driver": holder,
        "stages": [{"name": n, "state": states[n], "seconds": seconds.get(n)} for n in STAGES],
        "trials": {"planned": config.trials, **{name: counts[name] for name in _STATES.values()}},
        "running": [tried(lambda t=t: _step(folder, t), {"trial": t.number}) for t in trials if _runs(t)],
        "retrainings": retrainings,
        "best_trial": _best(saved),
        "result": _result(result),
        "failures": _reasons(trials, TrialState.FAIL),
        "prunings": _reasons(trials, TrialState.PRUNED),
        "test_reads": tried(lambda: test_reads(folder, strict=True), None),
        "results": len(found.matching(r"result(-\d+)?\.json")),
        "disk": {"bytes": found.size(), "parts": dict(parts.most_common())},
        "problems": problems,
    }


def text(answer: dict[str, Any]) -> str:
    """A line on each part."""
    trials, retrainings, result = answer["trials"], answer["retrainings"], answer["result"]
    done = trials["complete"] + trials["pruned"]
    alive = answer["driver"] is not None and answer["driver"]["state"] == "alive"
    words = {"running": "running" if alive else "interrupted"}
    states = ", ".join(f"{trials[name]} {words.get(name, name)}" for name in _STATES.values() if trials[name])
    details = {
        "sweep": f"{done} of {trials['planned']} trials" + (f" ({states})" if states else ""),
        "finalists": f"{retrainings['done']} of {retrainings['planned']} full retrainings" if retrainings else "",
        "ensemble": f"test accuracy {_measured(result['test'])}" if result and answer["finished"] else "",
    }
    lines = [f"{answer['folder']}: {_headline(answer)}"]
    for stage in answer["stages"]:
        state, seconds = stage["state"], stage["seconds"]
        took = duration(seconds) if seconds is not None else ""
        lines.append(_row(stage["name"], ", ".join(filter(None, (state, details.get(stage["name"]), took)))))
        if stage["name"] == "sweep":
            lines += [_row("", f"trial {row['trial']}: {_progress(row)}") for row in answer["running"]]
    best = answer["best_trial"]
    if best:
        error = "unknown" if best["control_error"] is None else f"{best['control_error']:.2f}"
        weak = "" if best["feasible"] else " (no feasible trial yet)"
        about = f"trial {best['number']}, value {_measured(best)}, control error {error}{weak}"
        lines.append(_row("best trial", about))
    if result and not answer["finished"]:
        lines.append(_row("last result", f"of {result['trials']} trials, test accuracy {_measured(result['test'])}"))
    for title, key in (("failed", "failures"), ("pruned", "prunings")):
        lines += [_row(title, f"{len(row['trials'])} x {one_line(row['reason'])}") for row in answer[key]]
    reads, results = answer["test_reads"], answer["results"]
    read = f"{reads} for {counted(results, 'result')}" if reads else "none"
    lines.append(_row("test reads", read))
    parts = ", ".join(f"{name} {size_text(size)}" for name, size in list(answer["disk"]["parts"].items())[:4])
    lines.append(_row("disk", f"{size_text(answer['disk']['bytes'])} ({parts})"))
    lines += [_row("problem", one_line(problem)) for problem in answer["problems"]]
    if answer["problems"]:
        lines.append(_row("", f"see python -m tune_jobs doctor {answer['folder']}"))
    return "\n".join(lines)


def _row(title: str, text: str) -> str:
    return f"  {title:<12}{text}"


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


def _measured(scores: dict[str, Any]) -> str:
    value = scores.get("accuracy", scores.get("value"))
    return f"{value:.3f} ± {scores['standard_error'] or 0:.3f}"


def _progress(row: dict[str, Any]) -> str:
    if "step" not in row:
        return "begun"
    return f"step {row['step']} of {row['steps'] or '?'}" + (f", {one_line(row['note'])}" if row["note"] else "")


def _runs(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING


def _step(folder: Path, trial: FrozenTrial) -> dict[str, Any]:
    """The newest record of a running trial's curve: {"trial", "step", "steps", "note"}."""
    curve = read_curve(curve_path(folder, trial.number))
    row = {"trial": trial.number}
    return row | {name: curve[-1].get(name) for name in ("step", "steps", "note")} if curve else row


def _retrainings(saved: SavedStudy) -> dict[str, int]:
    """How many of the full retrainings are stored with their weights."""
    keys = full_retrainings(saved)
    return {"done": sum(_has_weights(saved.folder / PREDICTIONS / f"{key}.pt") for key in keys), "planned": len(keys)}


def _has_weights(path: Path) -> bool:
    try:
        return has_weights(read_artifact(CANDIDATE, path)[0].value)
    except CheckpointError:
        return False


def _best(saved: SavedStudy) -> dict[str, Any] | None:
    best = best_trial(saved.study)
    if best is None:
        return None
    trial, allowed = best
    attributes = {name: trial.user_attrs.get(name) for name in ("standard_error", "control_error")}
    return {"number": trial.number, "value": trial.values[0], **attributes, "feasible": allowed, "params": trial.params}


def _result(result: dict[str, Any] | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "trials": result["trials"],
        "best_trial": result["best_trial"]["number"],
        "members": len(result["members"]),
        "validation": result["validation"],
        "test": result["test"],
    }


def _reasons(trials: list[FrozenTrial], state: TrialState) -> list[dict[str, Any]]:
    """[{"reason", "trials"}], reasons that differ in numbers alone together, the commonest first."""
    kinds: dict[str, dict[str, Any]] = {}
    for trial in trials:
        if trial.state == state:
            reason = str(trial.user_attrs.get("reason") or "no reason recorded")
            kinds.setdefault(re.sub(r"\d+", "#", reason), {"reason": reason, "trials": []})["trials"].append(
                trial.number
            )
    return sorted(kinds.values(), key=lambda row: -len(row["trials"]))
