"""Faults in the processes of a real study: functions are wrapped as their modules are imported, none is replaced.

A fault is {"points": [...], "when": "before" or "after", "nth": N, "times": M, "action": A, "argument": X}. A point
is "module:qualified.name", or a moment of `tune_jobs.moments.reached`. Hits are counted over all processes of a study,
in files; the Nth to the (N + M - 1)th fire. The environment variable FAULTS names a JSON file of them, FAULT_STATE a
folder for the counts.
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOUR = 3600.0


def install() -> None:
    """Wrap the points of the faults, now or when their modules are imported."""
    os.environ.setdefault("FAULT_DRIVER", str(os.getpid()))  # the first process is the driver; the rest inherit it
    faults = json.loads(Path(os.environ["FAULTS"]).read_text())
    points: dict[str, list] = {}
    for number, fault in enumerate(faults):
        for point in fault["points"]:
            module, _, name = point.partition(":") if ":" in point else ("tune_jobs.moments", "", "reached")
            points.setdefault(module, []).append((name, point, number, fault))
        if fault["action"] == "clock":
            _clock(Path(os.environ["FAULT_STATE"]) / f"fired-{number}")
    if points:
        sys.meta_path.insert(0, _Finder(points))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, points: dict[str, list]):
        self._points = points

    def find_spec(self, name, path, target=None):
        if name not in self._points:
            return None
        wrapped = self._points.pop(name)  # the search below goes past this finder
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            for function, point, number, fault in wrapped:
                _wrap(module, function, point, number, fault)

        spec.loader.exec_module = exec_module
        return spec


def _wrap(module, name: str, point: str, number: int, fault: dict) -> None:
    *owners, last = name.split(".")
    owner = functools.reduce(getattr, owners, module)
    original = getattr(owner, last)

    @functools.wraps(original)
    def wrapper(*arguments, **options):
        fires = (name != "reached" or arguments == (point,)) and _hit(number, fault)
        if fires and fault["when"] == "before":
            _act(fault, None)
        result = original(*arguments, **options)
        return _act(fault, result) if fires and fault["when"] == "after" else result

    setattr(owner, last, wrapper)


def _hit(number: int, fault: dict) -> bool:
    """Count a hit; whether it is one that fires."""
    state = Path(os.environ["FAULT_STATE"])
    if (state / f"done-{number}").exists():
        return False
    count = 1
    while True:
        try:
            os.close(os.open(state / f"hit-{number}-{count}", os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            count += 1
    first, times = fault.get("nth", 1), fault.get("times", 1)
    if count < first:
        return False
    if count >= first + times - 1:
        (state / f"done-{number}").touch()
    (state / f"fired-{number}").touch()
    return True


def _act(fault: dict, result):
    """Do what the fault does; returns what the wrapped function returns."""
    action, argument = fault["action"], fault.get("argument")
    driver = int(os.environ["FAULT_DRIVER"])
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "kill driver":
        os.kill(driver, signal.SIGKILL)
        time.sleep(1)  # the driver's end is meant, and not what this process does next
    elif action == "signal driver":
        for k, each in enumerate(argument):
            time.sleep(0.3 * (k > 0))
            os.kill(driver, each)
    elif action == "raise":
        raise RuntimeError(f"an accident: {argument}")
    elif action == "nan":
        return result * float("nan")
    elif action == "out of memory":
        import torch

        torch.empty(2**50)  # more than any machine has: a real failure of the allocator
    elif action == "fill disk":
        _fill(Path(argument))
    elif action == "run":
        subprocess.run(argument, shell=True, check=True)
    elif action not in ("mark", "clock"):
        raise ValueError(f"no action {action!r}")
    return result


def _fill(folder: Path) -> None:
    """Take all the space that is left on the file system of `folder`."""
    block = bytes(1 << 16)
    with open(folder / "ballast", "ab", buffering=0) as file:
        size = len(block)
        while size:
            try:
                file.write(block[:size])
            except OSError:
                size //= 2


def _clock(flag: Path) -> None:
    """Let this process's clock be an hour late once `flag` is there."""
    real = time.time

    def late() -> float:
        return real() - HOUR * flag.exists()

    time.time = late
