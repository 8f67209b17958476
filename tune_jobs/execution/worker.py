"""What every worker does around a training: threads, memory, checkpoints, and reports to the driver."""

import gc
import logging
import posixpath
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from edgenes.checkpoint import is_unwritable, load_checkpoint, save_checkpoint
from edgenes.errors import CheckpointError, EdgeNESError
from tune_jobs.execution.process import keep_freed_memory, leave_out_compiler
from tune_jobs.files.environment import hardware
from tune_jobs.files.study_files import Remote
from tune_jobs.messages import Report, Status
from tune_jobs.moments import reached

_log = logging.getLogger(__name__)
STATE = "state.pt"
"""The file in a checkpoint."""
CHECKPOINT_SECONDS = 10.0
"""Seconds between two checkpoints of a trial: what a killed worker or driver loses at most, and an epoch."""
_TRACEBACK = 2000  # characters: the end of a traceback names the cause


def use_resources() -> None:
    """Let torch use as many threads as the trial has CPUs, whatever the actor had before; begin fast, keep memory."""
    keep_freed_memory()
    leave_out_compiler()
    if not gc.get_freeze_count():  # what imports made lives as long as the process; to look through it takes 0.2 s
        gc.freeze()
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    torch.set_num_threads(max(1, int(cpus)))


def outcome_of(run: Callable[[], Report]) -> Report:
    """What `run` returns, with the warnings it logged; if it raises, that it failed, or that a disk is unwritable."""
    loggers = [logging.getLogger(name) for name in ("edgenes", "tune_jobs")]
    collected = BufferingHandler(sys.maxsize)  # a worker's own log is seen by nobody
    collected.setLevel(logging.WARNING)
    for logger in loggers:
        logger.addHandler(collected)
    try:
        outcome = run()
    except Exception as error:  # recorded with the trial; the sweep continues
        known = isinstance(error, EdgeNESError)
        outcome = Report(
            status=Status.UNWRITABLE if is_unwritable(error) else Status.FAILED,
            reason=str(error) if known else f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc()[-_TRACEBACK:],
            attributes={"hardware": hardware()},
        )
    finally:
        for logger in loggers:
            logger.removeHandler(collected)
    return replace(outcome, warnings=[record.getMessage() for record in collected.buffer])


def send(report: Report) -> None:
    """Send a report to the driver."""
    tune.report(report.to_dict())


class Reporter:
    """Sends reports, with a checkpoint of the state when the last one is `every` seconds old."""

    def __init__(self, shared: Remote, every: float = CHECKPOINT_SECONDS):
        self._shared = shared
        self._every = every
        self._saved = time.monotonic()

    def __call__(self, report: Report, state: dict[str, Any] | None, last: bool = False) -> None:
        now = time.monotonic()
        if state is None or (now - self._saved < self._every and not last):
            send(report)
            return
        with tempfile.TemporaryDirectory() as folder:
            reached("trial checkpoint")
            save_checkpoint(Path(folder) / STATE, "trial", state)
            with self._shared.reaching():
                tune.report(report.to_dict(), checkpoint=tune.Checkpoint.from_directory(folder))
        self._saved = time.monotonic()


def resume_state(noted: str | None, shared: Remote, device: str) -> dict[str, Any] | None:
    """The newest sound checkpoint: Tune's own after a worker died, then the `noted` one of the shared files, or None.

    In the place of a damaged one comes the one before, which Tune keeps beside it.
    """
    own = tune.get_checkpoint()
    for newest in filter(None, (own and shared.name_of(own.path), noted)):
        place = posixpath.dirname(newest)
        beside = [name for name in shared.entries(place) if name.startswith(f"{place}/checkpoint_")]
        for name in (newest, *(older for older in reversed(beside) if older < newest)):
            try:
                with tune.Checkpoint(shared.path(name), shared.filesystem).as_directory() as folder:
                    return load_checkpoint(Path(folder) / STATE, "trial", device)
            except (CheckpointError, OSError) as error:
                _log.warning("%s: %s The checkpoint before it is taken, or the trial starts over.", name, error)
    return None
