"""The share of candidates that need no training: in one study, and in others on the same data after it.

`python -m benchmarks cache_hits` runs real studies on digits with small budgets, each as a person starts it, on one
cache that is empty at first, and prints a table: the study again in a new folder, and one with another sampler.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.printing import machine, table
from tune_jobs.stages.hits import Hits

SCRIPT = Path(__file__).parents[1] / "studies" / "anneal_sweep.py"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Count a study's cache hits."""

    trials: int = 30
    """Trials of each study."""
    hypernetwork_epochs: int = 12
    """Epochs in which a trial trains its hypernetwork."""
    candidates: int = 8
    """Candidates of a trial."""
    short_epochs: int = 1
    """Epochs of a short retraining."""
    final_epochs: int = 4
    """Epochs of a full one."""


def run(out: Path, cache: Path, options: Options, sampler: str) -> dict:
    """The result.json of a study."""
    sizes = [(f"--{name.replace('_', '-')}", str(value)) for name, value in vars(options).items()]
    words = [word for pair in sizes for word in pair]
    command = [sys.executable, str(SCRIPT), *words, "--search-epochs", "2", "--sampler", sampler]
    subprocess.run([*command, "--out", str(out), "--cache", str(cache)], check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "result.json").read_text())


def main(options: Options) -> None:
    """Print the table."""
    studies = {
        "first (tpe), cache empty": "tpe",
        "the same again": "tpe",
        "with the sampler random": "random",
    }
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for k, (name, sampler) in enumerate(studies.items()):
            result = run(Path(place) / str(k), Path(place) / "cache", options, sampler)
            for stage in ("sweep", "finalists"):
                hits, seconds = Hits(**result["candidates"][stage]), result["seconds"][stage]
                share = f"{hits.found / hits.asked:.0%}" if hits.asked else "-"
                counts = (f"{hits.asked}", f"{hits.found}", share, f"{hits.shared}", f"{seconds:.0f}")
                rows.append((name, stage, *counts))
    print(f"{options.trials} trials each on digits, n = 1; {machine('ray', 'optuna')}\n")
    print(table(["study", "stage", "asked for", "found", "share", "by another study", "seconds"], rows))
