"""The main job as a person runs it: a tiny real study, killed and gone on with, finished, extended, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from edgenes import Ensemble, Genotype, Hypernetwork, control_error, load_data
from tune_jobs.curves import read_curve
from tune_jobs.final import TEST_READS

SCRIPT = Path(__file__).parents[1] / "studies" / "anneal_sweep.py"


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--smoke-test", "--sampler", "random", "--out", str(out), *options]


def run(out: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, *options), capture_output=True, text=True, timeout=300)


def children(pid: int) -> set[int]:
    """Ids of all processes below `pid`."""
    found, queue = set(), [pid]
    while queue:
        path = Path(f"/proc/{queue.pop()}/task")
        for task in path.glob("*/children") if path.exists() else ():
            for child in map(int, task.read_text().split()):
                found.add(child)
                queue.append(child)
    return found


def listening(pids: set[int]) -> set[str]:
    """Addresses, as /proc/net writes them, at which the processes listen for TCP connections."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].rpartition(":")[0]
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found.add(sockets.get(os.readlink(link)))
            except OSError:
                continue  # closed meanwhile
    return found - {None}


def kill_when(out: Path, happened) -> None:
    """Start the study and SIGKILL its driver, and what that had started, as soon as `happened()`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    driver = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=own)
    deadline = time.monotonic() + 240
    started: set[int] = set()
    while not happened():
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline
        started |= children(driver.pid)
        time.sleep(0.05)
    started |= children(driver.pid)
    # 127.0.0.1, and the same in IPv6's notation: nothing may listen to the outside
    assert listening(started) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening(started)
    driver.kill()
    driver.wait()
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def trials(out: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{out / 'study.db'}").trials


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for word in ("2 complete", "EdgeNES ensemble", "report", "optuna-dashboard", "--trials"):
        assert word in done.stdout
    return out


def test_a_study_leaves_an_ensemble_and_all_that_led_to_it(undisturbed):
    result = json.loads((undisturbed / "result.json").read_text())
    assert result["test_reads"] == 1 == len((undisturbed / TEST_READS).read_text().splitlines())
    assert {"mean_member", "best_member", "logistic_regression", "optimal_ensemble", "random_ensemble"} == set(
        result["baseline"]
    )
    assert set(result["seconds"]) == {"search", "sweep", "finalists", "ensemble"}
    assert len(result["members"]) == 2 and result["best_trial"]["number"] in (0, 1)
    for name in ("config.json", "environment.json", "trials.csv", "report/index.html", "ensemble/card.json"):
        assert (undisturbed / name).stat().st_size > 100

    for name in ("weights", "control", "comparison", "members", "cells", "importances", "trials"):
        assert len((undisturbed / "report" / f"{name}.csv").read_text().splitlines()) > 1

    data = load_data("digits")
    probabilities = Ensemble.load(undisturbed / "ensemble").predict(data.test.images.transpose(0, 2, 3, 1))
    right = (probabilities.argmax(1) == data.test.labels).mean()
    assert right == pytest.approx(result["test"]["accuracy"], abs=1e-9)

    optimal = Genotype.from_json((undisturbed / "search" / "genotype.json").read_text())
    hypernetwork = Hypernetwork.load(undisturbed / "hypernetwork" / "hypernetwork.pt")
    assert control_error(hypernetwork, optimal) == result["control_error"]


def test_a_finished_study_says_so_and_changes_nothing(undisturbed):
    before = (undisturbed / "result.json").read_bytes()
    done = run(undisturbed)
    assert done.returncode == 0 and "finished" in done.stdout
    assert (undisturbed / "result.json").read_bytes() == before


def test_another_setting_is_refused_and_more_trials_go_on(undisturbed, tmp_path):
    out = tmp_path / "moved"  # a study can be moved
    shutil.copytree(undisturbed, out)
    refused = run(out, "--candidates", "4")
    assert refused.returncode == 1 and "candidates" in refused.stderr and "Traceback" not in refused.stderr
    done = run(out, "--trials", "3")
    assert done.returncode == 0, done.stderr
    assert [trial.state for trial in trials(out)] == [TrialState.COMPLETE] * 3
    assert (out / "result-1.json").read_bytes() == (undisturbed / "result.json").read_bytes()
    assert json.loads((out / "result.json").read_text())["test_reads"] == 2


@pytest.mark.parametrize("stage", ["sweep", "finalists"])
def test_a_killed_driver_loses_nothing_and_repeats_nothing(undisturbed, tmp_path, stage):
    out = tmp_path / "study"
    if stage == "sweep":
        kill_when(out, lambda: any((out / "trials").glob("*.jsonl")))
    else:
        kill_when(out, lambda: len(list((out / "predictions").glob("*.pt"))) > 9 and (out / "trials.csv").exists())
    done = run(out)
    assert done.returncode == 0, done.stderr
    found = trials(out)
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 2
    expected = trials(undisturbed)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.params == theirs.params and mine.values == theirs.values
        steps = [record["step"] for record in read_curve(out / "trials" / f"{mine.number:04d}.jsonl")]
        assert steps == list(range(1, 16))  # 12 epochs, 3 candidates
    a, b = (json.loads((folder / "result.json").read_text()) for folder in (out, undisturbed))
    assert a["members"] == b["members"] and a["test"] == b["test"]
    assert {path.name for path in (out / "predictions").glob("*.pt")} == {
        path.name for path in (undisturbed / "predictions").glob("*.pt")
    }


def test_predictions_are_those_of_the_stored_weights(undisturbed):
    import torch

    records = [torch.load(path, weights_only=True) for path in (undisturbed / "predictions").glob("*.pt")]
    assert all(record["log_probabilities"].dtype == torch.float32 for record in records)
    total = np.concatenate([record["log_probabilities"].exp().sum(1).numpy() for record in records])
    np.testing.assert_allclose(total, 1, atol=1e-5)
