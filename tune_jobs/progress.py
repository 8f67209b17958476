"""What a person sees while a study runs: a live table on a terminal, plain lines anywhere else."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray import tune
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINE_EVERY = 10.0
"""Seconds between two plain lines about the same running job."""


@dataclass
class _Job:
    step: int = 0
    of: int = 0
    note: str = ""
    printed: float = float("-inf")


class Progress:
    """Stages, their jobs, and the best so far; every method is called from the driver's main thread."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console()
        self._clock = clock
        self._title, self._total, self._done, self._began = "", 0, 0, clock()
        self._jobs: dict[str, _Job] = {}
        self._states: Counter[str] = Counter()
        self._best = ""
        self._live: Live | None = None

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[None]:
        """Show a stage of `total` jobs, `done` of which an earlier run finished; a line of it stays at its end."""
        self._title, self._total, self._done, self._began = title, total, done, self._clock()
        self._jobs, self._states, self._best = {}, Counter(), ""
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.renderable, console=self._console, transient=True, refresh_per_second=4
            )
            self._live.start()
        else:
            self._line(f"{title}: {total - done} to do" + (f", {done} done before" if done else ""))
        try:
            yield
        finally:
            if self._live is not None:
                self._live.stop()
                self._live = None
        text = f"✓ {title}: {self._counts()} in {_duration(self._clock() - self._began)}"
        self._line(text + (f"; best {self._best}" if self._best else ""))

    def started(self, job: str, description: str = "") -> None:
        """A job begins, or begins again after its worker died."""
        self._jobs[job] = _Job(note=description, printed=self._clock())

    def step(self, job: str, step: int, of: int, note: str = "") -> None:
        """A running job has reached `step` of `of`."""
        entry = self._jobs.setdefault(job, _Job())
        entry.step, entry.of, entry.note = step, of, note or entry.note
        if self._live is None and self._clock() - entry.printed >= LINE_EVERY:
            entry.printed = self._clock()
            self._line(f"  {job}: step {step}/{of}" + (f", {entry.note}" if entry.note else ""))

    def finished(self, job: str, state: str, note: str = "") -> None:
        """A job ended as complete, pruned, failed or cached."""
        self._jobs.pop(job, None)
        self._states[state] += 1
        self._done += state != "failed"
        if self._live is None or state == "failed":
            left = self._left()
            text = f"  [{self._done}/{self._total}] {job} {state}" + (f": {note}" if note else "")
            self._line(text + (f" ({left})" if left else ""))

    def best(self, text: str) -> None:
        """What the best result so far is."""
        self._best = text

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._line(text)

    def renderable(self) -> Group:
        """The live table."""
        width = self._console.width
        share = min(1.0, self._done / self._total) if self._total else 0.0
        filled = round(20 * share)
        head = Text.assemble(
            (f"{self._title}  ", "bold"),
            ("━" * filled, "cyan"),
            ("━" * (20 - filled), "dim"),
            f"  {self._done}/{self._total}",
        )
        facts = [self._counts(), f"{len(self._jobs)} running", _duration(self._clock() - self._began)]
        facts += [left] if (left := self._left()) else []
        table = Table.grid(padding=(0, 2))
        for name, job in sorted(self._jobs.items()):
            steps = f"{job.step}/{job.of}" if job.of else "starting"
            table.add_row(f"  {name}", Text(steps, "cyan"), Text(job.note, "dim", no_wrap=True, overflow="ellipsis"))
        lines: list[Any] = [head, Text("  " + " · ".join(facts), no_wrap=True, overflow="ellipsis"), table]
        if self._best:
            lines.append(Text(f"  best {self._best}"[:width], "green", no_wrap=True))
        return Group(*lines)

    def _counts(self) -> str:
        counts = [f"{number} {state}" for state, number in sorted(self._states.items())]
        return ", ".join(counts) or "none finished"

    def _left(self) -> str:
        ended = sum(self._states.values())
        remaining = self._total - self._done
        if not ended or remaining <= 0:
            return ""
        return f"about {_duration((self._clock() - self._began) / ended * remaining)} left"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class ProgressCallback(tune.Callback):
    """Shows what Ray Tune reports: results with "step", "steps", "note" and at last "status" and "reason"."""

    def __init__(self, progress: Progress, name: Callable[[Any], str]):
        self._progress = progress
        self._name = name
        self._counted: set[str] = set()

    def __getstate__(self) -> dict:
        return {}  # Ray pickles callbacks into its state file; a terminal has no place there

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._progress.started(self._name(trial))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if "step" in result and "status" not in result:
            name = self._name(trial)
            self._progress.step(name, int(result["step"]), int(result.get("steps", 0)), str(result.get("note", "")))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        state = str(result.get("status") or "pruned")
        note = str(result.get("reason") or "")
        if state == "complete" and isinstance(result.get("value"), float):
            note = f"value {result['value']:.3f}, control error {result['control_error']:.2f}"
        self._finish(trial, state, note)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._finish(trial, "failed", "its worker died")

    def _finish(self, trial: Any, state: str, note: str) -> None:
        if trial.trial_id not in self._counted:
            self._counted.add(trial.trial_id)
            self._progress.finished(self._name(trial), state, note)


def quiet_ray() -> None:
    """Silence Ray's own chatter; call it before Ray starts. What the user has set in the environment wins."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
