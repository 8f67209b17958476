"""A finished study, shrunk to what its report, its ensemble and a continuation need."""

import shutil
from contextlib import ExitStack
from typing import Any

from edgenes.errors import CheckpointError
from tune_jobs.errors import StudyError
from tune_jobs.files.integrity import is_damaged, is_temporary
from tune_jobs.files.layout import DRIVER
from tune_jobs.files.lease import study_lock
from tune_jobs.progress.text import counted, size_text
from tune_jobs.study.result import read_result
from tune_jobs.study.saved import SavedStudy, open_saved
from tune_jobs.tools.commands import Clean
from tune_jobs.tools.folder import Contents, contents, driver, full_retrainings

WHAT = {
    "ray": "Ray's files",
    "leftovers": "files of dead processes, locks, and files moved out of the way as damaged",
    "predictions": "candidates that no finalist, baseline or ensemble is made of",
}


def run(command: Clean) -> dict[str, Any]:
    """Remove what the study does not need; nothing of a study that is not finished, or is running."""
    saved = open_saved(command.study, command.storage)
    folder = saved.folder
    holder = driver(folder)
    if holder is not None and holder["state"] == "alive":
        raise StudyError(f"process {holder['pid']} on {holder['host']} drives the study: wait until it has ended.")
    with ExitStack() as stack:
        if not command.dry_run:
            stack.enter_context(study_lock(folder))
        _check_finished(saved)
        found = contents(folder)
        found.files.pop(DRIVER, None)  # this process's own
        removed = _superfluous(saved, found)
        if not command.dry_run:
            for name in (name for names in removed.values() for name in names):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "ray", ignore_errors=True)
    sizes = {kind: found.size(names) for kind, names in removed.items()}
    return {
        "folder": str(folder),
        "dry_run": command.dry_run,
        "bytes_before": found.size(),
        "bytes_after": found.size() - sum(sizes.values()),
        "removed": {kind: {"bytes": sizes[kind], "files": names} for kind, names in removed.items()},
    }


def text(answer: dict[str, Any]) -> str:
    """The sizes before and after, and what was removed."""
    before, after = size_text(answer["bytes_before"]), size_text(answer["bytes_after"])
    becomes, goes = ("would become", "would go") if answer["dry_run"] else ("became", "went")
    lines = [f"{answer['folder']}: {before} {becomes} {after}"]
    lines += [
        f"  {size_text(row['bytes'])} {goes}, {counted(len(row['files']), 'file')}: {WHAT[kind]}"
        for kind, row in answer["removed"].items()
        if row["files"]
    ]
    return "\n".join(lines if len(lines) > 1 else [f"{answer['folder']}: {before}, nothing to remove"])


def _check_finished(saved: SavedStudy) -> None:
    result, folder = read_result(saved.folder), saved.folder
    if result is None or result["trials"] < saved.planned:
        raise StudyError(f"the study in {folder} is not finished: run the sweep's same command first, then clean.")
    if result["chosen"]["number"] not in {finalist.number for finalist in saved.finalists()}:
        raise StudyError(f"the result in {folder} does not fit its trials: see what doctor says; nothing was removed.")


def _superfluous(saved: SavedStudy, found: Contents) -> dict[str, list[str]]:
    """Names of the files that a finished study does not need, by kind."""
    try:
        kept = {f"predictions/{key}.pt" for key in full_retrainings(saved)}
    except CheckpointError as error:
        raise CheckpointError(f"{error} So it is not known what the study needs: see what doctor says.") from error
    ray = found.matching(r"ray/.*")
    locks = found.matching(r"predictions/[^/]+\.(lock|unfinished)")  # never driver.lock: see study_lock
    leftovers = [name for name in found.files if is_temporary(name) or is_damaged(name)]
    removed = {"ray": ray, "leftovers": sorted({*locks, *leftovers} - {*ray})}
    predictions = [name for name in found.matching(r"predictions/[^/]+\.pt") if name not in removed["leftovers"]]
    return removed | {"predictions": [name for name in predictions if name not in kept]}
