"""Which files of a study cannot be read, what to do about each, and whether its driver is dead."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from edgenes.checkpoint import load_checkpoint, read_json, read_text
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError, EdgeNESError, FormatError
from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import Hypernetwork
from tune_jobs.errors import StudyError
from tune_jobs.files.artifact_store import read_artifact
from tune_jobs.files.curves import read_curve
from tune_jobs.files.integrity import is_damaged, is_temporary
from tune_jobs.files.layout import (
    CONFIG,
    DATABASE,
    FINALISTS,
    GENOTYPE,
    HYPERNETWORK,
    PREDICTOR,
    TEST_READS,
    hypernetwork_path,
)
from tune_jobs.files.stored_trainer import CANDIDATE, SEARCH
from tune_jobs.progress.text import counted, size_text
from tune_jobs.study.result import read_result, test_reads
from tune_jobs.study.saved import (
    SavedStudy,
    check_version,
    open_saved,
    read_config,
    refuse_experiment,
    stage_seconds,
)
from tune_jobs.study.space import misfit, search_space
from tune_jobs.study.trials import own_trials
from tune_jobs.tools.commands import Doctor
from tune_jobs.tools.folder import contents, driver, ensemble_file
from tune_jobs.tools.machine import recorded_environment

AGAIN = "run the study's command again: it computes again what it needs"
END = "delete result.json and run the study's command again: it repeats the end of the study from what is stored"
COPY = "restore it from a copy or an export of the study"

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    r"result\.json": (lambda path: read_result(path.parent), END),
    r"result-\d+\.json": (read_json, "delete it: no run needs it"),
    r"stages\.json": (lambda path: stage_seconds(path.parent), "delete it: the stages' seconds then begin at 0"),
    r"environment\.json": (lambda path: recorded_environment(path.parent), "delete it: the next run writes it"),
    re.escape(TEST_READS): (lambda path: test_reads(path.parent, strict=True), f"{COPY}; a damaged line counts too"),
    re.escape(GENOTYPE): (
        lambda path: Genotype.from_json(read_text(path)),
        f"{COPY}, or delete it: the next run finds or copies the genotype again",
    ),
    re.escape(PREDICTOR): (PerformancePredictor.load, f"{COPY}, or delete it: the next run fits it again"),
    r"trials/\d+\.jsonl": (read_curve, "delete the line, or the file: only the trial's curve is lost"),
    r"trials/\d+-hypernetwork\.pt": (Hypernetwork.load, f"{COPY}; only finalists' are needed"),
    re.escape(HYPERNETWORK): (Hypernetwork.load, END),
    re.escape(FINALISTS): (read_json, END),
    r"predictions/[^/]+\.pt": (partial(read_artifact, CANDIDATE), AGAIN),
    r"searches/search-[^/]+\.pt": (partial(read_artifact, SEARCH), AGAIN),
    r"jobs/.+\.json": (read_json, AGAIN),
    r"ensemble/(config\.json|ensemble\.pt)": (Ensemble.load, f"{END}, and reads the test images once more"),
    r"ensembles/[^/]+/(config\.json|ensemble\.pt)": (Ensemble.load, "delete its folder"),
    r"ray/.+/checkpoint_\d+/state\.pt": (lambda path: load_checkpoint(path, "trial"), AGAIN),
}
"""How each kind of file in a study's folder is read, by its name, and what to do where that fails."""

Finding = dict[str, str]


def run(command: Doctor) -> dict[str, Any]:
    """Read every file of the study; {"folder", "driven", "sound", "findings", "notes"}."""
    folder = Path(command.study).absolute()
    refuse_experiment(folder)
    check_version(folder)
    if not any((folder / name).exists() for name in (CONFIG, DATABASE, "trials", "search")):
        raise StudyError(f"there is no study in {folder}: give the folder that --out named, or runs/anneal-DATASET.")
    holder = driver(folder)
    driven = holder is not None and holder["state"] == "alive"
    notes = []
    if holder is not None and not driven:
        notes.append(f"process {holder['pid']} on {holder['host']} no longer drives the study: run its command again")
    saved, findings = _opened(folder, command.storage)
    findings += _damaged(folder, _needed(saved) if saved else set())
    notes += _impossible(saved) if saved else ()
    if not driven:
        notes += _leftovers(folder, saved)
    return {"folder": str(folder), "driven": driven, "sound": not findings, "findings": findings, "notes": notes}


def _finding(name: str, error: Exception, to_do: str) -> Finding:
    if isinstance(error, FormatError):
        to_do = "leave it: the version that wrote it reads it"
    return {"file": name, "what": str(error), "to_do": to_do}


def _opened(folder: Path, storage: str | None) -> tuple[SavedStudy | None, list[Finding]]:
    """The study with readable trials, or None and why not."""
    try:
        read_config(folder, storage)
    except EdgeNESError as error:
        return None, [_finding(CONFIG, error, "run the study's command again: it writes the file again")]
    try:
        saved = open_saved(folder, storage)
        saved.trials()
        return saved, []
    except EdgeNESError as error:
        return None, [_finding(DATABASE, error, COPY)]


def _needed(saved: SavedStudy) -> set[str]:
    """Names of the files that have to be there by now."""
    finished = (saved.folder / "result.json").exists()
    if saved.config.execution.storage_path is not None and not finished:
        return set()  # the folder is whole at the end
    names = {hypernetwork_path(finalist.number) for finalist in saved.finalists()}
    if any(trial.params for trial in own_trials(saved.study)):
        names |= {GENOTYPE, PREDICTOR} if saved.config.guided else {GENOTYPE}
    ensemble = ensemble_file(saved.folder).relative_to(saved.folder).as_posix()
    return names | ({HYPERNETWORK, ensemble} if finished else set())


def _damaged(folder: Path, needed: set[str]) -> list[Finding]:
    """The files that are missing or cannot be read."""
    findings = []
    for name in sorted({*contents(folder).files} | needed):
        for pattern, (read, to_do) in READERS.items():
            if not re.fullmatch(pattern, name):
                continue
            try:
                if name in needed and not (folder / name).exists():
                    raise CheckpointError(f"{folder / name} is missing.")
                read(folder / name)
            except (EdgeNESError, KeyError, TypeError, RuntimeError) as error:
                if name in needed or (folder / name).exists():  # else a running study removed it meanwhile
                    findings.append(_finding(name, error, to_do))
    return findings


def _impossible(saved: SavedStudy) -> Iterator[str]:
    """Trials that a person enqueued with values that cannot be."""
    space = search_space(saved.config.search.estimator)
    for trial in saved.trials():
        reason = None if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else misfit(trial, space)
        if reason is not None:
            ends = "is FAIL" if trial.state == TrialState.FAIL else "will be FAIL, and the study continues"
            yield f"trial {trial.number} {ends}: {reason}"


def _leftovers(folder: Path, saved: SavedStudy | None) -> Iterator[str]:
    """What dead processes and repaired damage left."""
    for trial in saved.trials() if saved else ():
        if trial.state == TrialState.RUNNING:
            yield f"trial {trial.number} is RUNNING without a driver: the next run resumes it"
    found = contents(folder)
    for what, is_one in (("half-written file", is_temporary), ("file moved out of the way as damaged", is_damaged)):
        names = [name for name in found.files if is_one(name)]
        if names:
            yield f"{counted(len(names), what)}, {size_text(found.size(names))}, that may be deleted: {names[0]}"


def text(answer: dict[str, Any]) -> str:
    """A line on the study, two a finding, one a note."""
    findings = answer["findings"]
    verdict = "sound" if answer["sound"] else f"{counted(len(findings), 'file')} damaged or missing"
    rows = [f"{answer['folder']}: {verdict}" + (" (a driver is at work)" if answer["driven"] else "")]
    for finding in findings:
        rows += [f"  damaged  {finding['file']}: {finding['what']}", f"           to do: {finding['to_do']}"]
    rows += [f"  note     {note}" for note in answer["notes"]]
    return "\n".join([rows[0], *(row.replace(f"{answer['folder']}/", "") for row in rows[1:])])
