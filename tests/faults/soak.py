"""All faults, injected into real studies one after another: `make soak`. Prints the table of docs/RELIABILITY.md.

A scenario is a study of its own: drivers that are disturbed, then one that is not and has to finish it. What it
leaves is compared with an undisturbed study of the same seed. `--only NAME` runs the scenarios of that name.
"""

import argparse
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import TrialState

from tests.faults.harness import (
    COMMIT,
    PREDICT,
    SMOKE,
    STEP,
    SURVEY,
    Ended,
    Fault,
    Findings,
    drive,
    go_on,
    inspect,
    small_disk,
    trials,
    wait_for,
)
from tune_jobs.files.environment import commit, hardware, versions
from tune_jobs.study.result import test_reads


@dataclass
class Row:
    """A line of the table: one fault at one moment, how often, and what it cost."""

    fault: str
    moment: str
    times: int = 1
    lost: str = "nothing"


ONE_AT_A_TIME = (*SMOKE, "--max-concurrent", "1")
Scenario = Callable[[Path, Path], list[Row]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def fires(out: Path, *faults: Fault, **options) -> Ended:
    """Drive, and insist that what was to happen did."""
    ended = drive(out, *faults, **options)
    assert all(ended.fired), f"did not happen: {faults} {ended}"
    return ended


def sound(out: Path, undisturbed: Path, **options) -> Findings:
    found = inspect(out, undisturbed, **options)
    assert not found.problems, found.problems
    return found


def cost(found: Findings) -> str:
    return f"{found.repeated} steps computed again" if found.repeated > 0 else "nothing"


@dataclass(frozen=True)
class Accident:
    """What happens to one driver, and how that ends; `failed` trials are FAIL after all, for that `reason`."""

    fault: str
    moment: str
    injected: Fault
    status: int = 0
    word: str = ""
    failed: int = 0
    reason: str = ""
    options: tuple[str, ...] = SMOKE


def suffer(out: Path, accident: Accident, **options) -> None:
    ended = fires(out, accident.injected, options=accident.options, **options)
    assert ended.status == accident.status and accident.word in ended.errors, ended


def survive(out: Path, undisturbed: Path, accident: Accident, mend: Callable[[], object] | None = None) -> Row:
    """A study of its own: the accident, what a person does about it, and the same command where the driver stopped."""
    suffer(out, accident, mortal=mend is not None)
    if accident.status:
        assert not [trial for trial in trials(out) if trial.state == TrialState.FAIL]
        if mend is not None:
            mend()
        go_on(out, accident.options)
    found = sound(out, undisturbed, failed=accident.failed)
    for attributes in (trial.user_attrs for trial in trials(out) if trial.state == TrialState.FAIL):
        assert accident.reason in attributes["reason"], attributes
        assert attributes["hardware"]["host"] == socket.gethostname(), attributes
    lost = "the trial: FAIL, replaced" if accident.failed else cost(found)
    return Row(accident.fault, accident.moment, accident.injected.times, lost)


def chain(out: Path, undisturbed: Path, accidents: list[Accident]) -> list[Row]:
    """One driver after another of the same study meets with an accident, and the last with none."""
    for accident in accidents:
        suffer(out, accident)
    go_on(out)
    lost = f"{cost(sound(out, undisturbed))}, all {len(accidents)} together"
    return [Row(accident.fault, accident.moment, 1, lost) for accident in accidents]


MOMENTS = [
    ("in the survey", Fault("kill driver", PREDICT, nth=5)),
    ("between search and sweep", Fault("kill", "search finished")),
    ("while asking for a trial", Fault("kill", "ask")),
    ("just after a trial started", Fault("kill", "trial started")),
    ("in a trial, in mid-epoch", Fault("kill driver", STEP, nth=31)),
    ("between a checkpoint and its record", Fault("kill", "checkpoint reported")),
    ("between a report and its curve", Fault("kill", "curve", nth=3)),
    ("during a write to the study", Fault("kill", COMMIT, nth=25)),
    ("in a short retraining", Fault("kill driver", "candidate stored")),
    ("just before a trial's value is stored", Fault("kill", "tell")),
    ("just after a trial completed", Fault("kill", "trial told")),
    ("between sweep and finalists", Fault("kill", "sweep finished")),
    ("in a full retraining", Fault("kill driver", PREDICT)),
    ("between two full retrainings", Fault("kill driver", "candidate stored", nth=2)),
    ("while the hypernetwork is chosen", Fault("kill", "choice of the hypernetwork")),
    ("between finalists and ensemble", Fault("kill", "finalists finished")),
    ("in the final trial, before the test is read", Fault("kill driver", "test read")),
    ("in the final trial, while the ensemble is saved", Fault("kill driver", "ensemble saved")),
    ("after the final trial", Fault("kill", "ensemble finished")),
    ("before the report", Fault("kill", "results complete")),
    ("between report and result", Fault("kill", "report written")),
]


@scenario
def driver_killed_at_each_moment(out: Path, undisturbed: Path) -> list[Row]:
    kills = [Accident("driver killed (SIGKILL)", moment, fault, 137) for moment, fault in MOMENTS]
    rows = chain(out, undisturbed, kills)
    assert test_reads(out) == 2  # by the driver that was killed while it saved, and by the one after it
    return rows


@scenario
def driver_killed_ten_times_at_random(out: Path, undisturbed: Path) -> list[Row]:
    """At a random write, report, checkpoint or step; more kills than an undisturbed study has drivers."""
    draw = random.Random(0)
    points = (*COMMIT, STEP, "report", "edgenes.checkpoint:write_atomically", "curve")
    kills = 0
    while kills < 10:
        ended = drive(out, Fault("kill driver", points, nth=draw.randint(1, 60)))
        assert all(ended.fired), f"the study ended before 10 kills: {kills}"
        kills += 1
        for number in range(2):
            kept = list(out.glob(f"ray/*/trial-{number}-*/checkpoint_*"))
            assert len(kept) <= 3, kept  # two, and one that was just being replaced
    go_on(out)
    return [Row("driver killed (SIGKILL)", "ten times at random in one study", kills, cost(sound(out, undisturbed)))]


@scenario
def tpe_in_parallel(out: Path, undisturbed: Path) -> list[Row]:
    """What TPE proposes depends on the order in which trials end, so each trial is compared with its replay."""
    options = ("--smoke-test", "--trials", "6")
    for nth in (60, 90):
        ended = fires(out, Fault("kill driver", (STEP, "report"), nth=nth), options=options)
        assert ended.status == 137
    go_on(out, options)
    found = inspect(out, undisturbed, same=False, planned=6)
    assert not found.problems, found.problems
    for trial in trials(out):
        command = [sys.executable, "-m", "tune_jobs", "replay", str(out), str(trial.number)]
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stdout + again.stderr
    return [Row("driver killed (SIGKILL)", "with TPE, two trials at once; each equal to its replay", 2, cost(found))]


@scenario
def supernet_as_guide(out: Path, undisturbed: Path) -> list[Row]:
    """As in the paper: a search with DARTS, and hypernetworks with weights."""
    options, step = (*SMOKE, "--guide", "supernet"), "edgenes.training.bilevel:Bilevel.weight_step"
    moments = {"in the search": 5, "in a trial": 31}
    for nth in moments.values():
        assert fires(out, Fault("kill driver", step, nth=nth), options=options).status == 137
    go_on(out, options)
    lost = cost(sound(out, undisturbed, same=False))
    return [Row("driver killed (SIGKILL)", f"with --guide supernet, {moment}", 1, lost) for moment in moments]


@scenario
def same_trial_killed_three_times(out: Path, undisturbed: Path) -> list[Row]:
    killed = Fault("kill driver", STEP, nth=11)
    accident = Accident("driver killed (SIGKILL)", "in the same trial", killed, 137, options=ONE_AT_A_TIME)
    for _ in range(3):
        suffer(out, accident)
        assert [trial.number for trial in trials(out) if trial.state == TrialState.RUNNING] == [0]
    go_on(out, ONE_AT_A_TIME)
    return [Row(accident.fault, "three times in a row in the same trial", 3, cost(sound(out, undisturbed)))]


@scenario
def stopped_by_a_signal(out: Path, undisturbed: Path) -> list[Row]:
    """SIGINT as from the keyboard, once and twice, and SIGTERM as SLURM sends it: tidy, and says how to resume."""
    once, twice, slurm = [signal.SIGINT], [signal.SIGINT] * 2, [signal.SIGTERM]
    moments = [
        ("in the survey", Fault("signal driver", PREDICT, nth=3), (once, slurm)),
        ("just after a trial started", Fault("signal driver", "trial started"), (once, slurm)),
        ("in a trial", Fault("signal driver", STEP, nth=31), (once, twice, slurm)),
        ("in a full retraining", Fault("signal driver", PREDICT), (twice,)),
        ("in the final trial", Fault("signal driver", "test read"), (slurm,)),
    ]
    stops = [
        Accident(
            signals[0].name + (", twice" if len(signals) == 2 else ""),
            moment,
            replace(fault, argument=signals),
            130,
            "same command",
        )
        for moment, fault, sent in moments
        for signals in sent
    ]
    return chain(out, undisturbed, stops)


@scenario
def worker_killed(out: Path, undisturbed: Path) -> list[Row]:
    """The study continues by itself: no second driver is needed."""
    kills = [
        ("in the survey", Fault("kill", PREDICT, nth=5)),
        ("in a trial, in mid-epoch", Fault("kill", STEP, nth=30)),
        ("in a short retraining", Fault("kill", PREDICT, nth=SURVEY + 4)),
        ("in a full retraining", Fault("kill", "full retraining", nth=2)),
        ("in the final trial", Fault("kill", "test read")),
        ("in the final trial, after the test was read", Fault("kill", "ensemble saved")),
    ]
    ended = fires(out, *(fault for _, fault in kills))
    assert ended.status == 0, ended
    lost = cost(sound(out, undisturbed))
    return [Row("worker killed (SIGKILL)", moment, 1, lost) for moment, _ in kills]


@scenario
def node_lost(out: Path, undisturbed: Path) -> list[Row]:
    """Three nodes on this machine; the one whose worker trains is taken away, twice."""
    rows = []
    for moment, fault in (
        ("in a trial", Fault("", STEP, nth=30)),
        ("in a full retraining", Fault("", "full retraining", nth=2)),
    ):
        here = out.parent / moment.replace(" ", "-")
        victim = here.with_suffix(".victim")
        victim.parent.mkdir(parents=True, exist_ok=True)
        named = Fault("run", fault.points, fault.when, fault.nth, argument=f"echo $PPID > {victim}")
        ended = fires(here, named, nodes=victim)
        assert ended.status == 0, ended
        rows.append(Row("node lost", moment, 1, cost(sound(here, undisturbed))))
    return rows


FAILED = [
    ("worker killed (SIGKILL)", "three times in a row in the same trial", "worker died", "kill", 5, 3),
    ("trial fails", "raises", "as planned", "raise", 5, 1),
    ("trial fails", "NaN at its first step", "nan", "nan", 1, 1),
    ("trial fails", "NaN at a later step", "nan", "nan", 40, 1),
    ("out of memory", "again with half the batch", "half the batch", "out of memory", 30, 2),
]


@scenario
def trial_that_fails(out: Path, undisturbed: Path) -> list[Row]:
    """FAIL with reason and hardware; another trial takes its place."""
    rows = []
    for fault, moment, reason, action, nth, times in FAILED:
        when = "after" if action == "nan" else "before"
        injected = Fault(action, STEP, when, nth, times, argument=reason)
        accident = Accident(fault, moment, injected, failed=1, reason=reason, options=ONE_AT_A_TIME)
        rows.append(survive(out.parent / moment.replace(" ", "-"), undisturbed, accident))
    at_its_end = Fault("raise", "edgenes.selection:cross_fitted", argument="in the end")
    accident = Accident("trial fails", "raises at its end", at_its_end, failed=1, reason="in the end")
    return [*rows, survive(out, undisturbed, accident)]


@scenario
def out_of_memory(out: Path, undisturbed: Path) -> list[Row]:
    ended = fires(out, Fault("out of memory", STEP, nth=30))
    assert ended.status == 0, ended
    [note] = [note for trial in trials(out) if (note := trial.user_attrs.get("out_of_memory"))]
    assert note["accumulate"] == 2 and "memory" in note["reason"]
    sound(out, undisturbed, same=False)
    lost = "the epochs before it; half the batch from then on, recorded"
    return [Row("out of memory", "once in a trial", 1, lost)]


@scenario
def everything_fails(out: Path, undisturbed: Path) -> list[Row]:
    ended = fires(out, Fault("raise", STEP, nth=1, times=10**6, argument="no GPU today"))
    assert ended.status == 1 and "all for the same reason" in ended.errors and "no GPU today" in ended.errors, ended
    assert not [trial for trial in trials(out) if trial.state == TrialState.RUNNING]
    failed = len(trials(out))
    # The cause removed, the same command finishes the study.
    go_on(out)
    sound(out, undisturbed, failed=failed)
    return [Row("every trial fails", "from the first on", failed, "gives up after 4, says why; resumes later")]


@scenario
def disk_full(out: Path, undisturbed: Path) -> list[Row]:
    """A small disk, filled up at the moment; then space is made, and the same command resumes."""
    rows = []
    for moment, fault in (
        ("at a checkpoint", Fault("fill disk", "trial checkpoint", nth=2)),
        ("at a prediction", Fault("fill disk", "candidate", nth=SURVEY + 1)),
        ("at a write to the study", Fault("fill disk", "tell")),
        ("at the report", Fault("fill disk", "results complete")),
    ):
        with small_disk(out.parent / moment.replace(" ", "-")) as disk:
            accident = Accident("disk full", moment, replace(fault, argument=str(disk)), 1, "free some space")
            rows.append(survive(disk / "study", undisturbed, accident, (disk / "ballast").unlink))
    return rows


@scenario
def folder_read_only(out: Path, undisturbed: Path) -> list[Row]:
    rows = []
    for moment, fault in (
        ("in the sweep", Fault("run", "trial started")),
        ("before the finalists", Fault("run", "sweep finished")),
    ):
        here = out.parent / moment.replace(" ", "-")
        locked = replace(fault, argument=f"chmod -R a-w {here}")
        accident = Accident("folder turned read-only", moment, locked, 1, "writable")
        restore = partial(subprocess.run, ["chmod", "-R", "u+w", here], check=True)
        rows.append(survive(here, undisturbed, accident, restore))
    return rows


@scenario
def checkpoint_damaged(out: Path, undisturbed: Path) -> list[Row]:
    """The newest checkpoint is cut short, or a byte of it flipped: the one before it is taken, and that is said."""
    rows = []
    for what in ("truncated", "one byte flipped"):
        here = out.parent / what.replace(" ", "-")
        # The second driver resumes the trial and saves each epoch; it dies with two checkpoints there.
        fires(here, Fault("kill driver", STEP, nth=11), options=ONE_AT_A_TIME)
        fires(here, Fault("kill", "checkpoint recorded", nth=4), options=ONE_AT_A_TIME)
        [orphan] = [trial for trial in trials(here) if trial.state == TrialState.RUNNING]
        newest = here / orphan.user_attrs["checkpoint"] / "state.pt"
        content = bytearray(newest.read_bytes())
        if what == "truncated":
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        ended = go_on(here, ONE_AT_A_TIME)
        assert "checkpoint before it is taken" in ended.errors, ended
        rows.append(Row("newest checkpoint damaged", what, 1, cost(sound(here, undisturbed))))
    return rows


@scenario
def prediction_damaged(out: Path, undisturbed: Path) -> list[Row]:
    """Fully retrained candidates are cut short or altered between two drivers: they are renamed and computed again."""
    fires(out, Fault("kill", "choice of the hypernetwork"))
    short, flipped = sorted((out / "predictions").glob("*.pt"), key=lambda path: path.stat().st_size)[-2:]
    short.write_bytes(short.read_bytes()[:1000])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    go_on(out)
    assert len(list((out / "predictions").glob("*.damaged"))) == 2
    lost = cost(sound(out, undisturbed))
    assert lost == "nothing", lost
    return [Row("prediction damaged", "truncated, one byte flipped", 2, "the two, renamed and computed again")]


@scenario
def database_locked(out: Path, undisturbed: Path) -> list[Row]:
    """Another program holds the database's lock for 30 seconds in the middle of the sweep."""

    def lock(process: subprocess.Popen, fired: Callable[[int], bool]) -> None:
        wait_for(lambda: fired(0), process)
        connection = sqlite3.connect(out / "study.db", timeout=60, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(30)
        assert process.poll() is None, "the driver did not wait"
        connection.execute("ROLLBACK")
        connection.close()

    ended = fires(out, Fault("mark", "report"), meanwhile=lock)
    assert ended.status == 0, ended
    return [Row("database locked by another program", "30 s in the sweep", 1, cost(sound(out, undisturbed)))]


@scenario
def clock_jumps_back(out: Path, undisturbed: Path) -> list[Row]:
    late = Fault("clock", "report", nth=3)
    return [survive(out, undisturbed, Accident("clock jumps back an hour", "in the sweep, everywhere", late))]


def main() -> int:
    """Run the scenarios and print the table of docs/RELIABILITY.md; exit status 1 if one is not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    broken, start = [], time.monotonic()
    print("| fault | moment | times | lost |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        undisturbed = Path(folder) / "undisturbed" / "study"
        go_on(undisturbed)
        for name in arguments.only:
            try:
                for row in SCENARIOS[name](Path(folder) / name / "study", undisturbed):
                    print(f"| {row.fault} | {row.moment} | {row.times} | {row.lost} |", flush=True)
            except Exception:
                broken.append(name)
                print(f"{name}: BROKEN\n{traceback.format_exc()}", flush=True)
    minutes, known = (time.monotonic() - start) / 60, versions()
    known = ", ".join(f"{name} {known[name]}" for name in ("python", "torch", "ray", "optuna"))
    print(f"\n{minutes:.0f} minutes, {date.today()}, {hardware()['cpus']} cores, {known}, commit {commit()}")
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
