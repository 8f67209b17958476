"""Numbers, durations and tables as plain text."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgenes.parsing import printable

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the process without a traceback where the reader of what is printed, such as `head`, is gone."""
    try:
        yield
    except BrokenPipeError:
        from rich.console import Console

        Console().on_broken_pipe()


def duration(seconds: float) -> str:
    """A length of time for a person: 45s, 1m 32s, 2h 05m."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def time_left(seconds: float) -> str:
    """An estimate with no more digits than it deserves: "about 3 min left"."""
    minutes = seconds / 60
    if minutes < 0.75:
        return "less than a minute left"
    if minutes < 90:
        # From a quarter of an hour on, five minutes more or less are within the estimate's own error.
        return f"about {round(minutes) if minutes < 15 else 5 * round(minutes / 5)} min left"
    hours = minutes / 60
    return f"about {round(hours)} hours left" if hours < 48 else f"about {round(hours / 24)} days left"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of cells as lines whose columns are aligned: the first `left` to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(w) if k < left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return ("  " + "  ".join(cells)).rstrip()

    return "\n".join(map(line, rows))


def lines(text: object) -> str:
    """Text of any origin, line by line, with escapes for what a terminal would obey: names come from strangers too."""
    return "\n".join(map(printable, str(text).split("\n")))


def size_text(size: int) -> str:
    """Bytes for a person: 812 bytes, 14 kB, 4.9 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.{0 if size >= 10 * scale else 1}f} {unit}"
    return f"{size} bytes"


def counted(count: int, what: str) -> str:
    """ "1 file", "12 files"."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def one_line(text: Any, width: int | None = 160) -> str:
    """Text of any origin as one printable line, of at most `width` characters."""
    line = "".join(c for c in " ".join(_ESCAPES.sub("", str(text)).split()) if c.isprintable())
    return line if width is None or len(line) <= width else line[: width - 3] + "..."
