"""The rows that `compare` shows."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import curve_path
from tune_jobs.messages import finite
from tune_jobs.progress.text import one_line
from tune_jobs.study.optuna_study import study_seed
from tune_jobs.study.result import read_result
from tune_jobs.study.saved import SavedStudy
from tune_jobs.tools.machine import recorded_device

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
MEASURES = {
    "value": "value of the trial",
    "mean_accuracy": "mean accuracy of its candidates",
    "nll": "NLL of its ensemble",
    "control_error": "control error (edges)",
    "loss": "last loss of the supernet",
    "penalty": "last penalty",
}
"""What is compared over trials, the main measure first."""
_PLACES = ("out", "storage", "dry_run")


@dataclass(frozen=True)
class Side:
    """One of the two studies."""

    saved: SavedStudy

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        return self.saved.trials()

    @cached_property
    def result(self) -> dict[str, Any] | None:
        return read_result(self.saved.folder)

    @cached_property
    def seed(self) -> int:
        return study_seed(self.saved.study)

    @cached_property
    def curves(self) -> dict[int, list[dict[str, Any]]]:
        """The learning curve of each trial that has one."""
        found = {t.number: read_curve(curve_path(self.saved.folder, t.number)) for t in self.trials}
        return {number: curve for number, curve in found.items() if curve}

    def measured(self, trial: FrozenTrial, measure: str) -> float | None:
        """A measure of MEASURES of one trial, or None where it was not measured."""
        if measure == "value":
            return trial.values[0] if trial.state == TrialState.COMPLETE else None
        if trial.state not in ENDED:
            return None
        if measure in ("loss", "penalty"):
            values = [record.get(measure) for record in self.curves.get(trial.number, [])]
            return next((value for value in reversed(values) if finite(value) is not None), None)
        return finite(trial.user_attrs.get(measure))

    def summary(self) -> dict[str, Any]:
        states = Counter(trial.state.name for trial in self.trials)
        return {
            "folder": str(self.saved.folder),
            "seed": self.seed,
            "trials": dict(states),
            "finished": self.result is not None,
            "device": recorded_device(self.saved),
        }


def setting_rows(settings: list[dict]) -> list[list[str]]:
    """What differs as a table's cells, its head first."""
    return [["", "A", "B"], *[[row["setting"], setting_word(row["a"]), setting_word(row["b"])] for row in settings]]


def setting_word(value: Any) -> str:
    """A setting in short; a commit or another digest loses its end."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40}[+]?", value):
        return value[:10] + value[40:]
    return "-" if value is None else one_line(value, 44)


def trial_word(trial: dict[str, Any]) -> str:
    """A trial's value, or why it has none."""
    return f"{trial['value']:.3f}" if trial["value"] is not None else trial["state"].lower()


def params_word(params: dict[str, Any]) -> str:
    """A trial's parameters in short."""
    if not {"c_start", "c_end", "t_start", "t_end"} <= params.keys():
        return "none yet"
    text = f"c {params['c_start']:.3g} to {params['c_end']:.3g}, t {params['t_start']:.3g} to {params['t_end']:.3g}"
    text += f", {params['pivots']} pivots, epsilon {params['epsilon']:g}"
    return text + (f", {params['estimator']}" if "estimator" in params else "")


def trials_rows(trials: list[dict]) -> list[list[str]]:
    """The trials as a table's cells, its head first; two that are no pair have a line each."""
    rows = [["trial", "A", "B", "B - A", "parameters"]]
    for row in trials:
        a, b = row["a"], row["b"]
        if row["paired"]:
            both = None not in (a["value"], b["value"])
            change = f"{b['value'] - a['value']:+.3f}" if both else ""
            rows.append([str(row["number"]), trial_word(a), trial_word(b), change, params_word(a["params"])])
            continue
        if a:
            rows.append([str(row["number"]), trial_word(a), "", "", params_word(a["params"])])
        if b:
            rows.append([str(row["number"]), "", trial_word(b), "", params_word(b["params"])])
    return rows


def interval_words(row: dict[str, Any]) -> list[str]:
    """Difference, standard error and interval of a row as text."""
    if row["low"] is None:
        return [f"{row['difference']:+.3f}", "-", "-"]
    return [f"{row['difference']:+.3f}", f"{row['standard_error']:.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}"]


def difference_rows(differences: list[dict]) -> list[list[str]]:
    """The differences as a table's cells, its head first."""
    rows = [["", "n", "mean of A", "mean of B", "B - A", "s.e.", "95% interval", "conclusion"]]
    for row in differences:
        n = str(row["n"][0]) if row["n"][0] == row["n"][1] else f"{row['n'][0]}, {row['n'][1]}"
        means = [f"{row['mean_a']:.3f}", f"{row['mean_b']:.3f}"]
        rows.append([row["title"], n, *means, *interval_words(row), row["conclusion"]])
    return rows


def result_rows(results: list[dict]) -> list[list[str]]:
    """The results as a table's cells, its head first."""
    rows = [["", "A", "B", "B - A", "s.e.", "95% interval", "conclusion"]]
    for row in results:
        values = [f"{row[f'mean_{k}']:.3f} ± {row[f'error_{k}']:.3f}" for k in "ab"]
        rows.append([row["name"], *values, *interval_words(row), row["conclusion"]])
    return rows
