"""How a trial ended, read off its last report."""

import math
from dataclasses import replace
from typing import Any

from tune_jobs.messages import Report, Status


def settled(report: Report) -> Report:
    """The last report of a trial with a status; whatever is no result has failed, with a reason."""
    if report.status is None:
        return replace(report, status=Status.FAILED, reason="ended without a result: its last report has no status")
    if report.status is not Status.COMPLETE:
        return replace(report, reason=report.reason or "no reason given")
    numbers = {"value": report.value, "control_error": report.control_error}
    wrong = [f"{name} is {number!r}" for name, number in numbers.items() if finite(number) is None]
    if wrong:
        return replace(report, status=Status.FAILED, reason=f"no usable result: {' and '.join(wrong)}")
    return report


def finite(value: Any) -> float | None:
    """`value` as a finite number, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
