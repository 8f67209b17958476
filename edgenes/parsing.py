"""What the readers of files from strangers share: strict JSON, bounded sizes, short words for what was found."""

import json
import math
import re
import reprlib
import zipfile
from pathlib import Path
from typing import Any

JSON_BYTES = 16 * 2**20
"""Longest JSON text that is parsed: its values may take twenty times as much memory."""
ZIP_ENTRIES = 100_000
"""Most entries of a zip file that is opened: its directory becomes almost a kilobyte of objects an entry."""
_ENTRY = b"PK\x01\x02"  # begins an entry of a zip file's directory
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_REASON = 300  # characters


class _Words(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlist = self.maxtuple = self.maxdict = 8

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"a number of {x.bit_length()} bits"

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if x is None or type(x) in (bool, float) else f"<{type(x).__name__}>"


shown = _Words().repr
"""A value as a message shows it: like `repr`, but short whatever the value, and never an error of its own."""


def reason(error: BaseException) -> str:
    """What went wrong, in one printable line of bounded length."""
    if isinstance(error, KeyError):
        return f"{shown(error.args[0])} is missing"
    return printable(" ".join(str(error)[: 2 * _REASON].split())[:_REASON].rstrip(".")) or type(error).__name__


def printable(text: str) -> str:
    """`text` with escapes for what a terminal would obey, or cannot show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def parse_json(text: str) -> Any:
    """The value of a JSON text. Python's additions are refused: NaN, infinities, a key twice, half a character.

    Raises ValueError, for text that is nested too deeply as well.
    """
    if len(text) > JSON_BYTES:
        raise ValueError(f"it has {len(text)} characters, and at most {JSON_BYTES} are read")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in items:
        if key in found:
            raise ValueError(f"the key {shown(key)} stands there twice")
        found[key] = value
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{shown(text)} is beyond the numbers of a float")
    return value


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file; raises ValueError before its directory could fill the memory."""
    if not path.is_file():
        raise ValueError("it is no regular file")  # a pipe would be waited for
    entries, end = 0, b""
    with open(path, "rb") as file:
        while block := file.read(2**20):
            entries += (end + block).count(_ENTRY)
            end = block[-3:]  # an entry's first four bytes may lie across two blocks
    if entries > ZIP_ENTRIES:
        raise ValueError(f"its zip directory has {entries} entries, and at most {ZIP_ENTRIES} are read")
    return zipfile.ZipFile(path)
