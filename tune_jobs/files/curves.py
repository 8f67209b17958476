"""A trial's learning curve: one file of JSON lines a trial, which survives the death of its writer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgenes.checkpoint import read_bytes
from edgenes.errors import CheckpointError
from edgenes.parsing import reason, shown
from tune_jobs.files.integrity import drop_torn_line


def plain(value: Any) -> Any:
    """What JSON has for a value it does not know: numbers and lists for arrays and tensors, else its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


class CurveWriter:
    """Appends records to curve files, each opened once a record: nothing is lost with the process."""

    def __init__(self):
        self._mended: set[Path] = set()

    def append(self, path: Path, record: Mapping[str, Any]) -> None:
        """Add `record` as one line of the file `path`, whose folder is created."""
        if path not in self._mended:
            path.parent.mkdir(parents=True, exist_ok=True)
            drop_torn_line(path)
            self._mended.add(path)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, default=plain) + "\n")


def read_curve(path: str | Path) -> list[dict[str, Any]]:
    """The records of a curve file in the order of their `step`, which every record has; [] without a file.

    A resumed trial repeats the steps after its checkpoint: what an earlier attempt had written from there on is
    dropped, so that each step is there once. A last line that a crash left torn is left out.
    Raises CheckpointError on any other line that is no record, and on a file that is no curve's.
    """
    path = Path(path)
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    lines = read_bytes(path).split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # after the last newline: nothing, or a torn line
        try:
            record = json.loads(line)
            step = record["step"]
            if type(step) is not int:
                raise TypeError(f"its step is {shown(step)}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"Line {number} of {path} is no record of a learning curve ({reason(error)}). The file was altered or "
                f"its disk was full; remove the line, or the file, to continue without it."
            ) from None
        while records and records[-1]["step"] >= step:
            before = records.pop()
            if before["step"] == step and before.get("attempt") == record.get("attempt"):
                # A step's measurement and the trial's result may come in two reports: they are one record.
                record = {**before, **record}
        records.append(record)
    return records
