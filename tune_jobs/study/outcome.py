"""How a trial ended, read off its last report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from ray.tune.result import AUTO_RESULT_KEYS, DONE, EXPERIMENT_TAG, SHOULD_CHECKPOINT, TRIAL_ID

_TRACEBACK_CHARACTERS = 4000  # the end of a traceback says what broke


@dataclass(frozen=True)
class Outcome:
    """What a trial's last report says: how to tell it to the study, and what to store beside."""

    state: TrialState
    values: list[float] | None = None
    control_error: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def outcome(result: Mapping[str, Any], objectives: int) -> Outcome:
    """Read a trainable's last report; whatever is not a result is a FAIL with a reason."""
    attributes = dict(result.get("attributes") or {})
    if result.get("warnings"):
        attributes["warnings"] = list(result["warnings"])
    control_error = finite(result.get("control_error"))
    status = result.get("status")
    if status == "pruned":
        attributes["reason"] = str(result.get("reason") or "no reason given")
        return Outcome(TrialState.PRUNED, None, control_error, attributes)
    if status == "complete":
        numbers = {"value": result.get("value"), "control_error": result.get("control_error")}
        wrong = [f"{name} is {number!r}" for name, number in numbers.items() if finite(number) is None]
        if not wrong:
            values = [finite(number) for number in numbers.values()][:objectives]
            return Outcome(TrialState.COMPLETE, values, control_error, attributes)
        attributes["reason"] = f"no usable result: {' and '.join(wrong)}"
    elif status == "failed":
        attributes["reason"] = str(result.get("reason") or "no reason given")
        attributes["traceback"] = str(result.get("traceback") or "")[-_TRACEBACK_CHARACTERS:]
    else:
        attributes["reason"] = f"ended without a result: the status of its last report is {status!r}"
    return Outcome(TrialState.FAIL, None, control_error, attributes)


def finite(value: Any) -> float | None:
    """`value` as a finite number, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


NOT_METRICS = {*AUTO_RESULT_KEYS, DONE, EXPERIMENT_TAG, SHOULD_CHECKPOINT, TRIAL_ID}
