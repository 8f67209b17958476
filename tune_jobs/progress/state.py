"""The numbers behind a progress display: what a stage has done, what it is doing, and how long the rest may take."""

import statistics
from collections import Counter
from dataclasses import dataclass, field

from edgenes.errors import ConfigError

STATES = ("complete", "cached", "pruned", "failed")
"""How a job can end; "cached": an earlier run had computed it."""


@dataclass
class Job:
    """A running job: `step` of `of` (0: unknown), begun at `start`; `spoke` is when a line last told of it."""

    name: str
    start: float
    spoke: float
    note: str = ""
    step: int = 0
    of: int = 0

    @property
    def fraction(self) -> float:
        """The part of its steps that is done, in [0, 1]."""
        return min(1.0, self.step / self.of) if self.of else 0.0


@dataclass
class StageState:
    """What a stage's jobs are doing.

    Args:
        total: jobs that the stage is to finish, `earlier` of which an earlier run has.
        unit: what one job is, in the singular.
        replaces_failed: a failed job is followed by another in its place, so that it does not count as done.
    """

    title: str
    total: int
    earlier: int
    unit: str
    replaces_failed: bool
    start: float
    running: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    at_once: int = 0

    def __post_init__(self):
        if not 0 <= self.earlier <= self.total:
            raise ConfigError(f"a stage of {self.total} jobs cannot begin with {self.earlier} of them done")

    def begin(self, name: str, note: str, now: float) -> bool:
        """Note that a job runs; True if it had been begun, or had even ended, before."""
        again = self.running.pop(name, None) is not None or self.ended.pop(name, None) is not None
        self.running[name] = Job(name, now, now, note)
        self.at_once = max(self.at_once, len(self.running))
        return again

    def end(self, name: str, state: str, now: float) -> float | None:
        """Note how a job ended; returns the seconds it took, None if it had not been begun.

        Raises:
            ConfigError: `state` is none of `STATES`.
        """
        if state not in STATES:
            raise ConfigError(f"a job ends as one of {', '.join(STATES)}, not as {state!r}")
        job = self.running.pop(name, None)
        self.ended[name] = state
        if job is None:
            return None
        if state != "cached":
            self.seconds.append(now - job.start)
        return now - job.start

    @property
    def counts(self) -> Counter[str]:
        """Jobs of this run by the state they ended in."""
        return Counter(self.ended.values())

    @property
    def done(self) -> int:
        """Jobs that count towards `total`."""
        return self.earlier + len(self.ended) - (self.counts["failed"] if self.replaces_failed else 0)

    def outcomes(self) -> str:
        """The counts in words, without the zeros."""
        counts = self.counts
        parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        return ", ".join(parts + ([f"{self.earlier} from an earlier run"] if self.earlier else []))

    def amount(self, count: int) -> str:
        """ "1 trial", "12 trials"."""
        return f"{count} {self.unit}" + ("" if count == 1 else "s")

    def seconds_left(self) -> float | None:
        """An estimate for the rest, None before a first job took its time here and when nothing is left.

        A job costs the mean of those finished in this run. What is left is shared by as many jobs as have run at
        once, and is no shorter than the longest rest of any one of them.
        """
        if not self.seconds:
            return None
        waiting = max(0, self.total - self.done - len(self.running))
        rests = [1 - job.fraction for job in self.running.values()] + [1.0] * waiting
        if not any(rests):
            return None
        return statistics.fmean(self.seconds) * max(sum(rests) / self.at_once, max(rests))
