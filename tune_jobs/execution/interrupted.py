"""Ctrl-C while a command still imports what it needs, in a line; imported before all else.

What takes seconds to import is no place for a traceback. Once `tune_jobs.cli` runs, that prints it.
"""

import sys
from types import TracebackType


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped; run the same command again to resume.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
