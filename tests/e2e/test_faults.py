"""Faults in real studies as processes; tests/faults/soak.py has all the others."""

import re
import shutil
import signal
import subprocess

import optuna
from optuna.trial import TrialState

from studies.anneal_sweep import main
from tests.faults.harness import PREDICT, SMOKE, STEP, Fault, drive, go_on, inspect, trials, wait_for
from tests.faults.supervise import descendants
from tests.support.servers import LOOPBACK, listening
from tune_jobs.study.result import test_reads as reads_of_test


def test_a_driver_killed_and_then_stopped_loses_nothing_and_repeats_no_trial(undisturbed, tmp_path):
    out = tmp_path / "study"
    killed = drive(out, Fault("kill driver", STEP, nth=20))
    assert (killed.status, killed.fired) == (137, [True])
    stopped = drive(out, Fault("signal driver", PREDICT, nth=4, argument=[signal.SIGTERM]))
    assert (stopped.status, stopped.fired) == (130, [True])
    assert "same command" in stopped.errors
    go_on(out)
    assert inspect(out, undisturbed).problems == []
    assert reads_of_test(out) == 1


def test_a_dead_worker_and_a_trial_that_diverges_cost_nothing_else_and_a_second_driver_is_refused(
    undisturbed, tmp_path, capsys
):
    out = tmp_path / "study"
    seen = []

    def meanwhile(process: subprocess.Popen, fired) -> None:
        wait_for(lambda: fired(0), process)
        first = descendants(process.pid)
        status = main([*SMOKE, "--out", str(out)])
        seen.append((status, capsys.readouterr().err.replace("\n", " "), listening(first), first))

    ended = drive(
        out,
        Fault("kill", STEP, nth=5),
        Fault("nan", STEP, "after", nth=40),
        options=(*SMOKE, "--max-concurrent", "1"),
        meanwhile=meanwhile,
    )
    assert (ended.status, ended.fired) == (0, [True, True]), ended.errors
    sweep = ended.output[ended.output.index("Sweep: 2 trials") : ended.output.index("✓ Sweep")].splitlines()
    assert all(re.match(r"Sweep|trial \d|\[\d/2\] trial \d|best so far", line) for line in sweep), "Ray says nothing"
    assert any("tried again: The actor is dead because its worker process has died." in line for line in sweep)
    assert re.fullmatch(r"Trial \d failed: .*\n", ended.errors)
    [(status, errors, addresses, processes)] = seen
    assert status == 1 and any(f"process {pid} on" in errors for pid in processes)
    assert addresses and addresses <= LOOPBACK
    assert inspect(out, undisturbed, failed=1).problems == []
    [failed] = [trial for trial in trials(out) if trial.state == TrialState.FAIL]
    assert "became nan in epoch" in failed.user_attrs["reason"]
    assert "DivergedError" in failed.user_attrs["traceback"] and failed.user_attrs["hardware"]["cpus"] >= 1


def test_the_comparison_finds_what_is_wrong(undisturbed, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(undisturbed, out)
    assert inspect(out, undisturbed).problems == []
    next((out / "predictions").glob("*.pt")).unlink()
    (out / "trials" / "0000.jsonl").write_text("")
    (out / "ray").mkdir()
    optuna.load_study(study_name=None, storage=f"sqlite:///{out / 'study.db'}").ask()
    problems = " ".join(inspect(out, undisturbed).problems)
    for word in ("curve of trial 0: []", "stored predictions differ", "ray was left behind", "left {"):
        assert word in problems
