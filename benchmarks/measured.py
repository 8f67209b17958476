"""The measured table of trials as small files: written from `benchmarks.trial_table`'s folder, read by the simulations.

`python -m benchmarks measured --table FOLDER` writes `benchmarks/efficiency/`: trials.csv (a row a trial, lists in one
column separated by spaces, `b` for the second retraining seed), retrainings.csv, control.csv and table.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.trial_table import DEFAULTS
from edgenes.checkpoint import read_json, write_json, write_text
from edgenes.errors import DataError
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.study.saved import load_study_data
from tune_jobs.study.space import search_space

HERE = Path(__file__).parent / "efficiency"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write the measured table as small files."""

    table: Path
    """Folder of the measurements."""
    out: Path = HERE
    """Where the files go."""


@dataclass(frozen=True)
class Row:
    """A trial of the table. The pairs are for the first and the second retraining seed; `hypernetwork` and
    `candidates` are CPU seconds. What a second seed lacks (a trial that may not win) is the first's."""

    params: dict[str, Any]
    control_error: float
    values: tuple[float, float]
    accuracies: tuple[tuple[float, ...], tuple[float, ...]]
    digests: tuple[str, ...]
    hypernetwork: float
    candidates: tuple[float, ...]

    @property
    def feasible(self) -> bool:
        """Whether the trial may win."""
        return self.control_error <= CONTROL_LIMIT


def _files(folder: Path, kind: str) -> list[tuple[int, dict[str, Any]]]:
    paths = sorted(folder.glob(f"{kind}-*.json"))
    return [(int(path.stem.rpartition("-")[2]), read_json(path)) for path in paths]


def _joined(values: Sequence[Any]) -> str:
    return " ".join("" if value is None else f"{value:.4g}" if isinstance(value, float) else value for value in values)


def trials_frame(folder: Path) -> pd.DataFrame:
    """A row a trial of the kinds row and default, failed ones without values."""
    rows, trained = [], {}
    measured = [(kind, index, one) for kind in ("row", "default") for index, one in _files(folder, kind)]
    for _, _, one in measured:
        for candidate, step in zip(one.get("candidates") or [], one["retrained"], strict=False):
            if step["seconds"] is not None:
                trained[candidate["digest"]] = step["seconds"]
    for kind, index, one in measured:
        b, candidates = one.get("b") or {}, one.get("candidates") or []
        row = {"kind": kind, "index": index, **{k: float(f"{v:.6g}") for k, v in one["params"].items()}}
        row |= {"seed": one["seed"], "status": one["status"], "control_error": one.get("control_error")}
        row |= {"value": one.get("value"), "value_b": b.get("value"), "nll": one.get("nll"), "nll_b": b.get("nll")}
        row |= {"standard_error": one.get("standard_error")}
        row |= {"hypernetwork_seconds": sum(epoch["seconds"] for epoch in one["epochs"])}
        row |= {"digests": _joined([candidate["digest"] for candidate in candidates])}
        row |= {"accuracies": _joined([candidate["accuracy"] for candidate in candidates])}
        row |= {"accuracies_b": _joined([candidate["accuracy"] for candidate in b.get("candidates") or []])}
        row |= {"candidate_seconds": _joined([trained.get(candidate["digest"], 0.0) for candidate in candidates])}
        rows.append(row)
    return pd.DataFrame(rows)


def retrainings_frame(folder: Path) -> pd.DataFrame:
    """A row a retraining of one candidate: digest, epochs, repeat, accuracy, nll, seconds."""
    rows = [
        {"digest": one["digest"], **run}
        for _, one in _files(folder, "retraining")
        for run in one["runs"]
        if one["runs"]
    ]
    frame = pd.DataFrame(rows, columns=["digest", "epochs", "repeat", "accuracy", "nll", "seconds"])
    return frame.drop_duplicates(["digest", "epochs", "repeat"])


def control_frame(folder: Path) -> pd.DataFrame:
    """A row a training of a hypernetwork: estimator, kind (row or default), index, c_end, control_errors by epoch."""
    rows = []
    for kind, estimator in (("row", "exact"), ("default", "exact"), ("control", "gumbel")):
        for index, one in _files(folder, kind):
            at_default = kind == "default" or index >= DEFAULTS
            row = {"estimator": estimator, "kind": "default" if at_default else "row", "index": index % DEFAULTS}
            row |= {"c_end": float(f"{one['params']['c_end']:.6g}"), "seed": one["seed"]}
            rows.append(row | {"control_errors": _joined([epoch["control_error"] for epoch in one["epochs"]])})
    return pd.DataFrame(rows)


def numbers(text: Any) -> tuple[float, ...]:
    """The numbers of a packed column."""
    return tuple(float(word) for word in str(text).split()) if isinstance(text, str) else ()


def read_table(folder: Path = HERE) -> list[Row]:
    """The complete trials of the table, the defaults first; raises DataError if there are none."""
    path = folder / "trials.csv"
    if not path.exists():
        raise DataError(f"{path} is not there: measure a table with benchmarks.trial_table, then benchmarks.measured.")
    frame = pd.read_csv(path)
    frame = frame[(frame.kind == "row") & (frame.status == "complete")]
    names, rows = list(search_space(SweepConfig.estimator)), []
    for one in frame.itertuples():
        params = {name: getattr(one, name) for name in names} | {"pivots": int(one.pivots)}
        first, second = numbers(one.accuracies), numbers(one.accuracies_b)
        values = (one.value, one.value if np.isnan(one.value_b) else one.value_b)
        rows.append(
            Row(
                params=params,
                control_error=one.control_error,
                values=values,
                accuracies=(first, second or first),
                digests=tuple(one.digests.split()),
                hypernetwork=one.hypernetwork_seconds,
                candidates=numbers(one.candidate_seconds),
            )
        )
    if not rows:
        raise DataError(f"{path} holds no complete trial.")
    return rows


def main(options: Options) -> None:
    """Write the files."""
    options.out.mkdir(parents=True, exist_ok=True)
    frames = {"trials": trials_frame, "retrainings": retrainings_frame, "control": control_frame}
    for name, frame in frames.items():
        text = frame(options.table).to_csv(index=False, float_format="%.6g")
        write_text(options.out / f"{name}.csv", text)
        print(f"{name}.csv: {text.count(chr(10)) - 1} rows, {len(text) / 1024:.0f} KiB")
    about = read_json(options.table / "table.json")
    config = SweepConfig(**{name: value for name, value in about["config"].items() if value is not None})
    about["steps_an_epoch"] = len(load_study_data(config).weights) // config.batch_size
    write_json(options.out / "table.json", about)
