"""What the calibration of an ensemble changes: on V, cross-fitted, and on T."""

from typing import Any

import numpy as np

from edgenes.metrics import ECE_BINS, of_labels, reliability, summary
from edgenes.selection import CrossFit, Selection

Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Probabilities before and after, (samples, classes), and labels."""


def calibration_record(method: str, selection: Selection, crossed: CrossFit, labels: np.ndarray, test: Part) -> dict:
    """Plain values: the calibration, scores before and after, the gain on V, the bins of reliability diagrams.

    `crossed` chose, weighted and calibrated on one half of V and is scored on the other: its gain is not flattered.
    """
    parts = {"validation": (crossed.mean, crossed.probabilities, labels), "test": test}
    before, after = (np.log(of_labels(each, labels)) for each in (crossed.mean, crossed.probabilities))
    gain = after - before
    return {
        "method": method,
        **({} if selection.calibration is None else selection.calibration.to_dict()),
        "nll_gain": float(gain.mean()),
        "nll_gain_error": float(gain.std(ddof=1) / np.sqrt(len(gain))),
        "scores": {
            part: {"before": summary(raw, truth), "after": summary(calibrated, truth)}
            for part, (raw, calibrated, truth) in parts.items()
        },
        "reliability": [row for part, values in parts.items() for row in reliability_rows(part, *values)],
    }


def reliability_rows(part: str, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """The bins that have samples, of probabilities before and after calibration."""
    rows = []
    for when, probabilities in (("before", before), ("after", after)):
        found = reliability(probabilities, labels)
        for k in np.flatnonzero(found.count):
            numbers = {"low": k / ECE_BINS, "high": (k + 1) / ECE_BINS, "images": found.count[k]}
            numbers |= {"confidence": found.confidence[k], "accuracy": found.accuracy[k]}
            rows.append({"part": part, "when": when, **{name: number.item() for name, number in numbers.items()}})
    return rows
