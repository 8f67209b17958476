"""From the start of a study's process to its first epoch: `studies/anneal_sweep.py --smoke-test`, moment by moment.

Each study is a fresh process and folder, on digits with Ray started by itself, and is stopped once the first epoch of
the search has been reported. Seconds since the process was started, wall clock, and their share of the whole.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.printing import machine, spread, table

MOMENTS = {
    "imported": "the study's modules are imported",
    "ray": "Ray begins to start",
    "started": "Ray has started",
    "fit": "the search's Tune run begins",
    "epoch": "the first epoch is reported",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the start of a study."""

    repeats: int = 5
    """Studies to start."""


def child(out: str, begun: str) -> None:
    """The study's process: prints when each moment was, and stops itself after the last."""
    from tune_jobs.execution.quiet import quiet_ray

    quiet_ray()
    import ray
    from ray import tune

    import tune_jobs.stages.pipeline  # noqa: F401
    from studies.anneal_sweep import main as study
    from tune_jobs.watch.stage_callback import StageCallback

    seen: dict[str, float] = {}

    def note(moment: str) -> None:
        seen.setdefault(moment, time.time() - float(begun))

    note("imported")

    def marked(owner: object, name: str, before: str | None = None, after: str | None = None) -> None:
        real = getattr(owner, name)

        def wrapper(*args: object, **kwargs: object) -> object:
            if before:
                note(before)
            result = real(*args, **kwargs)
            if after:
                note(after)
            return result

        setattr(owner, name, wrapper)

    reported = StageCallback.on_trial_result

    def first_epoch(*args: object, **kwargs: object) -> None:
        reported(*args, **kwargs)
        if "epoch" not in seen:
            note("epoch")
            print(json.dumps(seen), flush=True)
            os.kill(os.getpid(), signal.SIGINT)

    marked(ray, "init", "ray", "started")
    marked(tune.Tuner, "fit", "fit")
    StageCallback.on_trial_result = first_epoch
    sys.exit(study(["--smoke-test", "--out", out]))


def start(folder: Path) -> dict[str, float]:
    """Seconds of each moment of one study."""
    code = f"from benchmarks.startup import child; child({str(folder)!r}, {time.time()!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"imported"')]
    if not lines:
        raise RuntimeError(f"the study ended before its first epoch: {done.stderr[-500:]}")
    return json.loads(lines[0])


def main(options: Options) -> None:
    """Print the table."""
    print(f"Seconds since the start, median [smallest, largest]; {machine('ray', 'optuna')}\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        found = [start(Path(place) / f"study-{k}") for k in range(options.repeats)]
    rows = []
    for moment, what in MOMENTS.items():
        seconds, shares = [one[moment] for one in found], [one[moment] / one["epoch"] for one in found]
        rows.append((what, f"{len(found)}", spread(seconds, 1), spread(shares)))
    print(table(["moment", "n", "s", "of the last"], rows))
    print(f"\n{machine('ray')} at the end")
