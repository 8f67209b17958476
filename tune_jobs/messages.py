"""What workers tell the driver."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a job ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    UNWRITABLE = "unwritable"
    """A disk is full or read-only, which is not the job's fault."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report of a job: a step that is done or, with a status, how the job ended.

    `step` of `steps` (0: unknown) are done. `value` and `control_error` are a trial's result; `intermediate` is its
    value after `intermediate_step` candidates. `metrics` are numbers of this step, for curves and logs; `attributes`
    are plain values that stay with the job's result.
    """

    status: Status | None = None
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    note: str | None = None
    reason: str | None = None
    traceback: str | None = None
    warnings: list[str] = field(default_factory=list)
    value: float | None = None
    control_error: float | None = None
    intermediate: float | None = None
    intermediate_step: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as Ray Tune takes it, without what is not there."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, result: Mapping[str, Any]) -> "Report":
        """The report in a result of Ray Tune, which adds entries of its own."""
        known = {each.name: result[each.name] for each in fields(cls) if each.name in result}
        if "status" in known:
            known["status"] = Status(known["status"])
        return cls(**known)

    def record(self) -> dict[str, Any]:
        """The report as one line of a learning curve: its metrics beside the rest."""
        rest = self.to_dict()
        for name in ("traceback", "warnings", "attributes", "metrics"):
            rest.pop(name, None)
        return {**self.metrics, **rest}

    def settled(self) -> "Report":
        """A trial's last report with a status; whatever is no result has failed, with a reason."""
        if self.status is None:
            return replace(self, status=Status.FAILED, reason="ended without a result: its last report has no status")
        if self.status is not Status.COMPLETE:
            return replace(self, reason=self.reason or "no reason given")
        numbers = {"value": self.value, "control_error": self.control_error}
        wrong = [f"{name} is {number!r}" for name, number in numbers.items() if finite(number) is None]
        if wrong:
            return replace(self, status=Status.FAILED, reason=f"no usable result: {' and '.join(wrong)}")
        return self


def finite(value: Any) -> float | None:
    """`value` as a finite number, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
