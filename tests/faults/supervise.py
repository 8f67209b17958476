"""Run a command, and when it has ended, however it ended, end by their ids the processes that it left behind."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> set[int]:
    """Ids of all processes below `pid`."""
    found, queue = set(), [pid]
    while queue:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
                for child in map(int, task.read_text().split()):
                    found.add(child)
                    queue.append(child)
    return found


def main() -> int:
    """Exit status of the command; 128 + the signal's number if a signal ended it."""
    # What the command leaves behind becomes this process's child instead of being lost to init.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = subprocess.Popen(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: command.send_signal(number))
    status = command.wait()
    time.sleep(1.0)  # what ends by itself may do so
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
