"""The machine that a study ran on, and this one: device, threads, terminal, and the versions that decide numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgenes.checkpoint import read_json
from edgenes.errors import CheckpointError, ConfigError
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import ENVIRONMENT
from tune_jobs.study.result import read_result
from tune_jobs.study.saved import SavedStudy

DECIDING = ("python", "edgenes-studio", "torch", "torchvision", "numpy", "scikit-learn")
"""Packages whose versions decide the numbers of a trial."""
Show = Callable[[int, int, str], None]
"""Takes the steps done, their total, and a note."""


def recorded_environment(folder: Path) -> dict[str, Any]:
    """What the last driver wrote to environment.json of a study's folder; {} without the file.

    Raises CheckpointError if it is damaged, or says nothing of versions.
    """
    path = folder / ENVIRONMENT
    found = read_json(path) if path.exists() else {}
    if not isinstance(found, dict) or not isinstance(found.get("versions", {}), dict):
        raise CheckpointError(f"{path} does not hold an environment.")
    return found


def recorded_device(saved: SavedStudy) -> str:
    """Where the study's trials computed: by its result, else as its configuration and its driver's machine decide."""
    result = read_result(saved.folder)
    if result is not None and result.get("device"):
        return result["device"]
    execution = saved.config.execution
    if execution.device != "auto":
        return execution.device
    return "cuda" if recorded_environment(saved.folder).get("gpus") and execution.gpus_per_trial != 0 else "cpu"


def choose_device(saved: SavedStudy | None, asked: str) -> str:
    """The device to compute on; "auto" is the study's own, without a study a GPU, else the CPU. Raises ConfigError."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError("--device cuda needs a GPU that PyTorch can use, and there is none here: leave it out.")
    if asked != "auto":
        return asked
    return "cuda" if there and (saved is None or recorded_device(saved) == "cuda") else "cpu"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads while the block runs: sums depend on their number in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def differing_environment(saved: SavedStudy) -> list[str]:
    """What of this environment may change the study's numbers, one line each; [] if nothing known does."""
    recorded, here = recorded_environment(saved.folder), environment()
    if not recorded:
        return ["environment.json is missing: the study's versions are unknown"]
    before = recorded.get("versions", {})
    pairs = [(name, before.get(name), here["versions"][name]) for name in DECIDING]
    pairs += [(name, recorded.get(name), here[name]) for name in ("platform", "cpu")]
    return [f"{name}: {old or 'unknown'} then, {new} now" for name, old, new in pairs if old != new]


@contextmanager
def progress_line(title: str, shown: bool = True) -> Iterator[Show]:
    """Yields show(done, total, note): one line on standard error; nothing is shown where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    note = TextColumn("{task.fields[note]}", markup=False)
    with Progress(
        *columns, note, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as progress:
        task = progress.add_task(title, total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)
