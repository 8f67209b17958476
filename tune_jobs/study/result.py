"""The result of a study: result.json, and how often T was read."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgenes.checkpoint import read_bytes, read_json, read_text
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import CheckpointError
from tune_jobs.files.integrity import is_torn
from tune_jobs.files.layout import RESULT, TEST_READS
from tune_jobs.files.study_files import StudyFiles

_PARTS = {
    "best_of_sweep",
    "chosen",
    "members",
    "baseline",
    "validation",
    "test",
    "trials",
    "seconds",
    "config",
    "optimal",
}


def read_test(data: Dataset, files: StudyFiles, purpose: str) -> Part:
    """The test part, after noting in the study's files that it is read: whoever reads it twice leaves a trace."""
    path = files.fetch(TEST_READS, fresh=True)
    cut_off = is_torn(path)  # by a full disk
    with open(path, "a", encoding="utf-8") as file:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write("\n" * cut_off + json.dumps({"time": now, "purpose": purpose, "data": data.digest}) + "\n")
    files.publish(TEST_READS)
    return data.test


def test_reads(folder: Path, strict: bool = False) -> int:
    """How often the study has read its test part; a damaged line counts, or is a CheckpointError if `strict`."""
    path = folder / TEST_READS
    read = read_text if strict else read_bytes
    return len(read(path).splitlines()) if path.exists() else 0


def archive_result(folder: Path) -> None:
    """Keep result.json as the next free result-K.json before a new one is written."""
    path = folder / RESULT
    if path.exists():
        k = 1
        while (folder / f"result-{k}.json").exists():
            k += 1
        path.rename(folder / f"result-{k}.json")


def read_result(folder: Path) -> dict[str, Any] | None:
    """result.json, or None without one; raises CheckpointError if it is damaged or not a whole result."""
    path = folder / RESULT
    if not path.exists():
        return None
    result = read_json(path)
    missing = _PARTS - set(result) if isinstance(result, dict) else _PARTS
    if missing:
        raise CheckpointError(f"{path} is no result of a study: it lacks {', '.join(sorted(missing))}.")
    return result


def finished(folder: Path, trials: int) -> dict[str, Any] | None:
    """The result of a study that is finished with at least `trials` trials, or None."""
    try:
        result = read_result(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error} See what python -m tune_jobs doctor {folder} says.") from error
    return result if result is not None and result["trials"] >= trials else None
