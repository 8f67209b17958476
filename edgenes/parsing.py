"""Short words for what was found in a file or given by a user."""

import reprlib
from typing import Any

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
