"""Progress for a person: bars on a terminal, plain lines anywhere else."""

import contextlib
import statistics
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from tune_jobs.progress.text import counted, duration, one_line, time_left

STATES = ("complete", "cached", "pruned", "failed")
"""How a job can end; "cached": an earlier run had computed it."""
STEP_SECONDS = 10.0
"""Where lines are plain, the running jobs together write no more than one in this time."""
WIDTH = 100
"""Columns that a plain line of a running job keeps to."""


def _joined(head: str, tail: str) -> str:
    return f"{head}: {tail}" if tail else head


class _Table(Bars):
    """A row for the stage and one for each running job, under the stage's title and the best result."""

    title = best = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in (self.title, self.best) if line]
        yield Group(*lines, self.make_tasks_table(self.tasks))


class _Stage:
    """What one stage's jobs are doing and have done: running ones are rows of a table, shown or not."""

    def __init__(
        self,
        title: str,
        total: int,
        earlier: int,
        unit: str,
        replaces_failed: bool,
        sizes: Mapping[str, int],
        table: _Table,
    ):
        self.title, self.total, self.unit, self.sizes = title, total, unit, sizes
        self._earlier, self._replaces_failed = earlier, replaces_failed
        self.table = table
        self.row = table.add_task(f"{unit}s", total=total, completed=earlier, note="")
        self.running: dict[str, TaskID] = {}
        self.ended: dict[str, Counter[str]] = {}
        self._seconds: list[float] = []
        self._at_once = 0

    def begin(self, name: str, note: str) -> bool:
        """Add a running job; True if it had begun, or had even ended, before."""
        again = self._drop(name) is not None or self.ended.pop(name, None) is not None
        self.running[name] = self.table.add_task(name, total=None, note=note, spoke=self.table.get_time())
        self._at_once = max(self._at_once, len(self.running))
        self._update()
        return again

    def step(self, name: str, step: int, of: int, note: str) -> Task:
        """Show how far a running job is; returns its row."""
        self.table.update(self.running[name], completed=step, total=of or None, note=note)
        self._update()
        return self.task(name)

    def end(self, name: str, state: str, failed: int) -> float | None:
        """Count how a job ended; returns the seconds it took, None if it had not begun."""
        task = self._drop(name)
        self.ended[name] = Counter({state: self.sizes.get(name, 1) - failed})
        self.ended[name]["failed"] += failed
        if task and state != "cached":
            self._seconds.append(task.elapsed)
        self._update()
        return task.elapsed if task else None

    def task(self, name: str) -> Task:
        """The row of a running job."""
        return next(task for task in self.table.tasks if task.id == self.running[name])

    @property
    def done(self) -> int:
        """Jobs that count towards `total`."""
        counts = self._counts()
        return self._earlier + counts.total() - (counts["failed"] if self._replaces_failed else 0)

    def outcomes(self) -> str:
        """How jobs ended, in words."""
        counts = self._counts()
        parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        return ", ".join(parts + ([f"{self._earlier} from an earlier run"] if self._earlier else []))

    def seconds_left(self) -> float | None:
        """An estimate for the rest, None before a first job took its time here and when nothing is left.

        A job costs the mean of those finished in this run. What is left is shared by as many jobs as have run at
        once, and is no shorter than the longest rest of any one of them.
        """
        together = sum(size - 1 for name, size in self.sizes.items() if name not in self.ended)
        waiting = max(0, self.total - self.done - together - len(self.running))
        rests = [1 - task.percentage / 100 for task in self.table.tasks if task.id != self.row] + [1.0] * waiting
        if not self._seconds or not any(rests):
            return None
        return statistics.fmean(self._seconds) * max(sum(rests) / self._at_once, max(rests))

    def _counts(self) -> Counter[str]:
        return sum(self.ended.values(), Counter())

    def _drop(self, name: str) -> Task | None:
        """Take away a running job's row, and return it."""
        if name not in self.running:
            return None
        task = self.task(name)
        self.table.remove_task(self.running.pop(name))
        return task

    def _update(self) -> None:
        left = self.seconds_left()
        self.table.update(self.row, completed=self.done, note="" if left is None else time_left(left))
        outcomes = self.outcomes()
        self.table.title = f"{self.title}: {len(self.running)} running{', ' if outcomes else ''}{outcomes}"


class Progress:
    """Shows a stage's jobs: with bars if `console` is a terminal that can, else in lines that need no terminal.

    To be called from one thread. Console and clock (seconds, monotonic) may be given.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console()
        self._clock = clock
        self._ascii = self._console.options.ascii_only
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and not self._ascii
        self._running: _Stage | None = None

    @contextlib.contextmanager
    def stage(
        self,
        title: str,
        total: int,
        done: int = 0,
        *,
        unit: str = "trial",
        replaces_failed: bool = False,
        sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> Iterator[None]:
        """Show a stage while the block runs, and leave one line that sums it up unless the block raises.

        Args:
            total: jobs that are to finish, `done` of which an earlier run has finished.
            unit: what one job is, in the singular.
            replaces_failed: a failed job is followed by another in its place, so that it does not count as done.
            sizes: how many of `total` a row of this name stands for, 1 by default.
        """
        begun = self._clock()
        sizes = {one_line(name, None): size for name, size in sizes.items()}
        stage = self._running = _Stage(one_line(title, None), total, done, unit, replaces_failed, sizes, self._table())
        try:
            if not self._live:
                earlier = f", {done} of them from an earlier run" if done else ""
                self.say(f"{stage.title}: {counted(total, unit)}{earlier}")
            with stage.table:
                yield
            self.say(self._summary(stage, self._clock() - begun))
        finally:
            self._running = None

    def started(self, job: str, description: str = "") -> None:
        """A job began, or began again after it was lost."""
        job, description = one_line(job, None), one_line(description, None)
        again = self._stage.begin(job, description or "starting")
        if not self._live:
            self._short_line(_joined(f"{job} started{' again' if again else ''}", description))

    def step(self, job: str, step: int, of: int, note: str = "") -> None:
        """A job is at step `step` of `of` (0: unknown); `note` says what it is doing. Ignored if the job has ended."""
        stage, job, note, now = self._stage, one_line(job, None), one_line(note, None), self._clock()
        if job in stage.ended:
            return
        if job not in stage.running:
            stage.begin(job, note)
        task = stage.step(job, step, of, note)
        if not self._live and now - task.fields["spoke"] >= STEP_SECONDS * len(stage.running):
            task.fields["spoke"] = now
            self._short_line(_joined(f"{job} at step {step}" + (f" of {of}" if of else ""), note))

    def finished(self, job: str, state: str, note: str = "", failed: int = 0) -> None:
        """A job ended as complete, cached, pruned or failed; of those for which its row stands so many `failed`."""
        stage, job, note = self._stage, one_line(job, None), one_line(note, None)
        seconds, left = stage.end(job, state, failed), stage.seconds_left()
        if not self._live:
            times = [] if seconds is None else [duration(seconds)]
            times += [] if left is None else [time_left(left)]
            line = _joined(f"[{stage.done}/{stage.total}] {job} {state}", note)
            self.say(f"{line} ({', '.join(times)})" if times else line)
        elif state == "failed":
            self.say(_joined(f"{job} failed", note))  # the table forgets a job when it ends; why it failed has to stay

    def best(self, text: str) -> None:
        """The best result so far."""
        table, text = self._stage.table, f"best so far: {one_line(text, None)}"
        if not self._live and text != table.best:
            self.say(text)
        table.best = text

    def say(self, text: str) -> None:
        """Leave a line: a warning, a decision, a result."""
        text = one_line(text, None)
        text = text.encode(self._console.encoding, "replace").decode(self._console.encoding)
        # A pipe has no width: whoever reads it, wraps.
        self._console.print(Text(text), soft_wrap=not self._live)

    def _table(self) -> _Table:
        def words(field: str, **column: Any) -> TextColumn:
            return TextColumn(field, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", **column))

        width = self._console.width
        name, note = words("{task.description}", max_width=width // 3), words("{task.fields[note]}", ratio=1)
        wide = [BarColumn(12, complete_style="cyan", finished_style="cyan"), TimeElapsedColumn()] if width >= 60 else []
        columns = [name, *wide[:1], MofNCompleteColumn(table_column=Column(justify="right")), *wide[1:], note]
        options: dict[str, Any] = {"console": self._console, "get_time": self._clock, "disable": not self._live}
        return _Table(*columns, **options, transient=True, expand=True, refresh_per_second=4)

    @property
    def _stage(self) -> _Stage:
        if self._running is None:
            raise RuntimeError("jobs belong to a stage: call this inside of `with progress.stage(...)`")
        return self._running

    def _short_line(self, text: str) -> None:
        self.say(textwrap.shorten(text, WIDTH, placeholder=" ..."))

    def _summary(self, stage: _Stage, seconds: float) -> str:
        outcomes = f" ({stage.outcomes()})" if stage.outcomes() else ""
        if stage.done < stage.total:
            amount = counted(stage.total, stage.unit)
            return f"{stage.title} stopped: {stage.done} of {amount}{outcomes} in {duration(seconds)}"
        mark = "" if self._ascii else "✓ "
        return f"{mark}{stage.title}: {counted(stage.done, stage.unit)}{outcomes} in {duration(seconds)}"
