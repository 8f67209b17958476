"""Progress for a person: a live table on a terminal, plain lines anywhere else."""

import contextlib
import re
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_jobs.progress.state import Job, StageState
from tune_jobs.progress.text import duration, time_left

STEP_SECONDS = 10.0
"""Where lines are plain, a running job is told of no oftener than this."""
WIDTH = 100
"""Columns that a plain line of a running job keeps to."""
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_COLOURS = {"complete": "cyan", "cached": "blue", "pruned": "yellow", "failed": "bold magenta"}  # not red and green


def _one_line(text: str) -> str:
    """Text of any origin as one line without control characters."""
    return "".join(c for c in " ".join(_ESCAPES.sub("", text).split()) if c.isprintable())


def _joined(head: str, tail: str) -> str:
    return f"{head}: {tail}" if tail else head


class Progress:
    """Shows a stage's jobs: live if `console` is a terminal that can, else in lines that need no terminal.

    To be called from one thread. Console and clock (seconds, monotonic) may be given.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console()
        self._clock = clock
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and not self._ascii
        self._state: StageState | None = None
        self._best = ""
        self._lock = threading.Lock()  # the live table is drawn by a thread of its own

    @property
    def _ascii(self) -> bool:
        return self._console.options.ascii_only

    @contextlib.contextmanager
    def stage(
        self, title: str, total: int, done: int = 0, *, unit: str = "trial", replaces_failed: bool = False
    ) -> Iterator[None]:
        """Show a stage while the block runs, and leave one line that sums it up unless the block raises.

        Args:
            total: jobs that are to finish, `done` of which an earlier run has finished.
            unit: what one job is, in the singular.
            replaces_failed: a failed job is followed by another in its place, so that it does not count as done.

        Raises:
            ConfigError: `done` is not between 0 and `total`.
            RuntimeError: another stage is under way.
        """
        if self._state is not None:
            raise RuntimeError(f"the stage {title!r} begins inside of {self._state.title!r}")
        state = StageState(_one_line(title), total, done, unit, replaces_failed, self._clock())
        self._state, self._best = state, ""
        try:
            if self._live:
                live = Live(get_renderable=self.render, console=self._console, transient=True, refresh_per_second=4)
            else:
                earlier = f", {done} of them from an earlier run" if done else ""
                self.say(f"{state.title}: {state.amount(total)}{earlier}")
                live = contextlib.nullcontext()
            with live:
                yield
            self.say(self._summary(state))
        finally:
            self._state = None

    def started(self, job: str, description: str = "") -> None:
        """A job began, or began again after it was lost."""
        job, description = _one_line(job), _one_line(description)
        with self._lock:
            again = self._stage.begin(job, description, self._clock())
        if not self._live:
            self._short_line(_joined(f"{job} started{' again' if again else ''}", description))

    def step(self, job: str, step: int, of: int, note: str = "") -> None:
        """A job is at step `step` of `of` (0: unknown); `note` says what it is doing. Ignored if the job has ended."""
        name, note, now = _one_line(job), _one_line(note), self._clock()
        with self._lock:
            if name in self._stage.ended:
                return
            if name not in self._stage.running:
                self._stage.begin(name, "", now)
            job = self._stage.running[name]
            job.step, job.of, job.note = step, of, note
            speak = not self._live and now - job.spoke >= STEP_SECONDS
            if speak:
                job.spoke = now
        if speak:
            self._short_line(_joined(f"{name} at step {step}" + (f" of {of}" if of else ""), note))

    def finished(self, job: str, state: str, note: str = "") -> None:
        """A job ended as complete, cached, pruned or failed.

        Raises:
            ConfigError: `state` is something else.
        """
        job, note = _one_line(job), _one_line(note)
        with self._lock:
            stage = self._stage
            seconds = stage.end(job, state, self._clock())
            left = stage.seconds_left()
        if not self._live:
            times = [] if seconds is None else [duration(seconds)]
            times += [] if left is None else [time_left(left)]
            line = _joined(f"[{stage.done}/{stage.total}] {job} {state}", note)
            self.say(f"{line} ({', '.join(times)})" if times else line)
        elif state == "failed":
            self.say(_joined(f"{job} failed", note))  # the table forgets a job when it ends; why it failed has to stay

    def best(self, text: str) -> None:
        """The best result so far."""
        text = _one_line(text)
        if not self._live and text != self._best:
            self.say(f"best so far: {text}")
        with self._lock:
            self._best = text

    def say(self, text: str) -> None:
        """Leave a line: a warning, a decision, a result."""
        text = _one_line(text)
        with contextlib.suppress(LookupError):  # an encoding that Python does not know
            text = text.encode(self._console.encoding, "replace").decode(self._console.encoding)
        # A pipe has no width: whoever reads it, wraps.
        self._console.print(Text(text), soft_wrap=not self._live)

    def render(self) -> RenderableType:
        """The live table as it stands now, to fit the console."""
        with self._lock:
            width, height = self._console.size
            width = max(1, width - 2)  # a terminal's echo of ^C must not begin a line that nobody would erase
            return Constrain(self._table(width, height), width)

    @property
    def _stage(self) -> StageState:
        if self._state is None:
            raise RuntimeError("jobs belong to a stage: call this inside of `with progress.stage(...)`")
        return self._state

    def _short_line(self, text: str) -> None:
        self.say(textwrap.shorten(text, WIDTH, placeholder=" ..."))

    def _summary(self, state: StageState) -> str:
        took = duration(self._clock() - state.start)
        outcomes = f" ({state.outcomes()})" if state.outcomes() else ""
        if state.done < state.total:
            return f"{state.title} stopped: {state.done} of {state.amount(state.total)}{outcomes} in {took}"
        mark = "" if self._ascii else "✓ "
        return f"{mark}{state.title}: {state.amount(state.done)}{outcomes} in {took}"

    def _table(self, width: int, height: int) -> Group:
        state = self._stage
        left = state.seconds_left()
        times = duration(self._clock() - state.start) + ("" if left is None else f", {time_left(left)}")
        top = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
        top.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        top.add_column(justify="right", no_wrap=True, min_width=len(times))
        top.add_row(Text(state.title, style="bold"), Text(times))
        done = f"{state.done}/{state.total}"
        bar = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, min_width=len(done))
        bar.add_row(_bar(state.done, state.total), Text(done))

        jobs = list(state.running.values())
        room = max(1, height - 6)  # title, bar, counts, best, the line for "more", and the cursor's
        lines = [top, bar, self._counts(state), _jobs(jobs[:room], width)] if jobs else [top, bar, self._counts(state)]
        if len(jobs) > room:
            lines.append(Text(f"and {len(jobs) - room} more", style="dim"))
        if self._best:
            lines.append(Text(f"best so far: {self._best}", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    @staticmethod
    def _counts(state: StageState) -> Text:
        counts = state.counts
        parts = [(f"{counts[word]} {word}", style) for word, style in _COLOURS.items() if counts[word]]
        parts.append((f"{len(state.running)} running", ""))
        if state.earlier:
            parts.append((f"{state.earlier} from an earlier run", "dim"))
        line = Text(", ").join(Text(words, style=style) for words, style in parts)
        line.no_wrap, line.overflow = True, "ellipsis"
        return line


def _bar(done: float, total: int, width: int | None = None) -> ProgressBar:
    style = "cyan"
    return ProgressBar(max(1, total), min(done, total), width, complete_style=style, finished_style=style)


def _jobs(jobs: list[Job], width: int) -> Table:
    """Rows of running jobs; where `width` does not suffice the notes are cut, never a step, a name only if huge."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
    steps = [f"{job.step}/{job.of}" if job.of else "" for job in jobs]
    name = min(width // 2, max(len(job.name) for job in jobs))
    table.add_column(width=name, no_wrap=True, overflow="ellipsis")
    bars = width >= 58
    if bars:
        table.add_column(width=10)
    table.add_column(justify="right", width=max(map(len, steps)), no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
    for job, step in zip(jobs, steps, strict=True):
        cells = [Text(job.name), Text(step), Text(job.note if job.note or job.step else "starting")]
        if bars:
            cells.insert(1, _bar(job.step, job.of, 10) if job.of else Text(""))
        table.add_row(*cells)
    return table
