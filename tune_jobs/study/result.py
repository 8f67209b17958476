"""The result of a study: result.json, and how often T was read."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgenes.checkpoint import read_bytes, read_json, read_text
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import CheckpointError, ConfigError
from edgenes.parsing import reason, shown
from edgenes.space.genotype import Genotype
from tune_jobs.files.integrity import is_torn
from tune_jobs.files.layout import RESULT, TEST_READS
from tune_jobs.files.study_files import StudyFiles

_SCORES = ("accuracy", "standard_error", "nll", "ece")


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
    """Keep result.json as the next free result-K.json before it is written anew."""
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
    try:
        _check_result(result)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path} is no result of a study: {reason(error)}.") from error
    return result


def _check_result(result: dict[str, Any]) -> None:
    """Raise KeyError, TypeError, AttributeError or ConfigError unless the result has all that its readers ask for."""
    best, members = result["best_trial"], result["members"]
    _all((int,), result["trials"], best["number"], result["test_reads"], *(member["seed"] for member in members))
    _all((dict,), best["params"], result["config"])
    numbers = [best["value"], result["control_error"], *result["seconds"].values()]
    for scores in (result, *members, *result["baseline"].values()):
        test = scores["test"]
        numbers += [scores["validation"]["accuracy"], *(test[name] for name in _SCORES)]
    _all((int, float), *numbers)
    Genotype.from_dict(result["optimal"])
    for member in members:
        if Genotype.from_dict(member["genotype"]).digest != member["digest"]:
            raise TypeError(f"{shown(member['digest'])} is not the digest of the member's genotype")


def _all(types: tuple[type, ...], *values: Any) -> None:
    for value in values:
        if type(value) not in types:
            raise TypeError(f"{shown(value)} is no {' or '.join(each.__name__ for each in types)}")


def finished(folder: Path, trials: int) -> dict[str, Any] | None:
    """The result of a study that is finished with at least `trials` trials, or None."""
    try:
        result = read_result(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error} See what python -m tune_jobs doctor {folder} says.") from error
    return result if result is not None and result["trials"] >= trials else None
