"""Start a real study as a process, disturb it, resume it, and compare what it leaves with an undisturbed one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgenes import Ensemble
from tune_jobs.files.curves import read_curve

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "studies" / "anneal_sweep.py"
SMOKE = ("--smoke-test", "--sampler", "random")
STEPS = list(range(1, 16))  # of a smoke trial: 12 epochs and 3 candidates
LIMIT = 600.0  # seconds that a driver may take
STEP = "edgenes.training.edgenes:shared_edge_penalty"  # once in each step of a hypernetwork
PREDICT = "edgenes.training.retraining:predict"
SURVEY = 11  # retrainings of a smoke study's survey: a later one is of a trial
COMMIT = ("sqlalchemy.orm.session:Session.commit", "optuna.storages.journal._file:JournalFileBackend.append_logs")


@dataclass(frozen=True)
class Fault:
    """What happens the `nth` time at one of `points`, `times` times in a row.

    A point is a moment of `tune_jobs.moments.reached`, or a public function as "module:name".
    """

    action: str
    points: tuple[str, ...] | str
    when: str = "before"
    nth: int = 1
    times: int = 1
    argument: Any = None

    def to_dict(self) -> dict[str, Any]:
        points = [self.points] if isinstance(self.points, str) else list(self.points)
        return {**self.__dict__, "points": points}


@dataclass(frozen=True)
class Ended:
    """How a driver ended: exit status (137 if killed), what it printed, which faults fired."""

    status: int
    output: str
    errors: str
    fired: list[bool]

    def __post_init__(self):
        assert "Traceback" not in self.errors, self.errors


def drive(
    out: Path,
    *faults: Fault,
    options: tuple[str, ...] = SMOKE,
    meanwhile: Callable[[subprocess.Popen, Callable[[int], bool]], None] | None = None,
    mortal: bool = False,
    nodes: Path | None = None,
    script: Path = SCRIPT,
) -> Ended:
    """Run the script on `out` until it ends, with the faults in it; nothing that it started outlives this.

    `meanwhile(process, fired)` runs beside it; `fired(k)` tells whether the k-th fault has happened. With `mortal`
    even root obeys the modes of files. With `nodes` it runs on three nodes of this machine, the one of the worker
    whose id appears in that file is taken away.
    """
    state = Path(tempfile.mkdtemp(prefix="faults-"))
    state.chmod(0o777)
    (state / "faults.json").write_text(json.dumps([fault.to_dict() for fault in faults]))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own["EDGENES_CACHE"] = "off"  # what a disturbed study computes is not taken from another one
    # Only from here on: the supervisor is not part of the study.
    inside = [f"FAULTS={state / 'faults.json'}", f"FAULT_STATE={state}", f"PYTHONPATH={HERE / 'site'}"]
    command = [sys.executable, str(script), *options, "--out", str(out)]
    cluster = None
    if nodes is not None:
        inherited = own | dict(pair.split("=", 1) for pair in inside)
        call = [sys.executable, str(HERE / "nodes.py"), str(nodes)]
        cluster = subprocess.Popen(call, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        command += ["--address", cluster.stdout.readline().strip()]
    supervised = [sys.executable, str(HERE / "supervise.py"), "env", *(inside if faults else []), *command]
    if mortal and os.geteuid() == 0:
        supervised = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *supervised]
    with open(state / "output", "w") as output, open(state / "errors", "w") as errors:
        process = subprocess.Popen(supervised, stdout=output, stderr=errors, env=own)
        try:
            if meanwhile is not None:
                meanwhile(process, lambda k: (state / f"fired-{k}").exists())
            process.wait(LIMIT)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            raise
        finally:
            if cluster is not None:
                cluster.send_signal(signal.SIGTERM)
                said = cluster.stdout.read()
                cluster.wait(60)
    fired = [(state / f"fired-{k}").exists() for k in range(len(faults))]
    if cluster is not None:
        assert "lost" in said, "no node was taken away"
    texts = [(state / name).read_text() for name in ("output", "errors")]
    shutil.rmtree(state, ignore_errors=True)
    return Ended(process.returncode, *texts, fired)


def go_on(out: Path, options: tuple[str, ...] = SMOKE) -> Ended:
    """The same command again, undisturbed: it has to finish the study."""
    ended = drive(out, options=options)
    assert ended.status == 0, ended.errors
    return ended


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until something has happened in the study; fails if its driver ends before."""
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert process.poll() is None, "the driver ended before it happened"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def trials(out: Path, storage: str | None = None) -> list[FrozenTrial]:
    """The trials of a study, in its own database or in `storage`."""
    return optuna.load_study(study_name=None, storage=storage or f"sqlite:///{out / 'study.db'}").trials


@dataclass
class Findings:
    """What is wrong with a study after all, and how many steps of its trials were computed more than once."""

    problems: list[str] = field(default_factory=list)
    repeated: int = 0

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def inspect(
    out: Path,
    undisturbed: Path,
    *,
    failed: int = 0,
    same: bool = True,
    planned: int | None = None,
    storage: str | None = None,
) -> Findings:
    """Compare a finished study with the undisturbed one of the same seed.

    `failed` trials are expected to FAIL; unless there are such, or not `same`, all numbers have to be equal.
    `planned` trials are expected, by default as many as the undisturbed study has. `storage` holds the study's
    trials, where that is not its folder's database.
    """
    found = Findings()
    mine, theirs = trials(out, storage), trials(undisturbed)
    states = [trial.state for trial in mine]
    planned = planned or len(theirs)
    found.expect(states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == planned, f"finished: {states}")
    found.expect(states.count(TrialState.FAIL) == failed, f"failed: {states}")
    left = {TrialState.RUNNING, TrialState.WAITING} & set(states)
    found.expect(not left, f"left {left}")
    configurations = [json.dumps(trial.params, sort_keys=True) for trial in mine]
    found.expect(len(set(configurations)) == len(mine), "a configuration was run twice")
    for trial in mine:
        if trial.state == TrialState.FAIL:
            found.expect(bool(trial.user_attrs.get("reason")), f"trial {trial.number} failed without a reason")
            continue
        if not trial.state.is_finished():
            continue  # said above
        path = out / "trials" / f"{trial.number:04d}.jsonl"
        steps = [record["step"] for record in read_curve(path)]
        found.expect(steps == STEPS, f"curve of trial {trial.number}: {steps}")
        # A candidate's last step and the trial's result are two lines of one step.
        found.repeated += len(path.read_text().splitlines()) - len(STEPS) - 1
    if same and not failed:
        for one, other in zip(mine, theirs, strict=False):
            same = one.params == other.params and one.values == other.values
            found.expect(same, f"trial {one.number} differs from the undisturbed one")
        results = [json.loads((folder / "result.json").read_text()) for folder in (out, undisturbed)]
        for name in ("members", "test", "validation", "baseline", "control_error"):
            found.expect(results[0][name] == results[1][name], f"{name} of the result differs")
        stored = [{path.name for path in (folder / "predictions").glob("*.pt")} for folder in (out, undisturbed)]
        found.expect(stored[0] == stored[1], f"stored predictions differ by {stored[0] ^ stored[1]}")
    Ensemble.load(out / "ensemble")
    found.expect((out / "report" / "index.html").stat().st_size > 10_000, "no report")
    for leftover in ("driver.json", "ray"):
        found.expect(not (out / leftover).exists(), f"{leftover} was left behind")
    unfinished = list((out / "predictions").glob("*.unfinished"))
    found.expect(not unfinished, f"unfinished: {unfinished}")
    return found


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MB in memory, mounted at `folder`; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
