"""How far a study is, told of studies that have begun, run, stopped, failed and finished."""

import json
import os
import socket
import sqlite3
import time

import optuna
import pytest

from edgenes.errors import CheckpointError
from tests.support.tiny_study import begin_study, change_options, run_trials
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import DRIVER
from tune_jobs.files.lease import STALE, study_lock
from tune_jobs.study.saved import open_saved
from tune_jobs.study.trials import IDENTIFIER, ORIGIN, origin
from tune_jobs.tools.commands import Clean, Doctor, Replay, Status
from tune_jobs.tools.folder import full_retrainings


def status(folder, **options):
    command = Status(study=folder, **options)
    answer = command.run()
    json.dumps(answer, allow_nan=False)
    assert command.status(answer) == 0
    return answer, command.text(answer)


def states(answer):
    return [stage["state"] for stage in answer["stages"]]


def test_a_finished_study(study):
    answer, text = status(study)
    result = json.loads((study / "result.json").read_text())
    assert answer["finished"] and answer["driver"] is None and states(answer) == ["done"] * 4
    assert answer["trials"] == {
        "planned": 3,
        "complete": 3,
        "pruned": 0,
        "failed": 0,
        "running": 0,
        "waiting": 0,
        "added": 0,
    }
    planned = len(full_retrainings(open_saved(study)))
    assert answer["retrainings"] == {"done": planned, "planned": planned}
    trials = open_saved(study).trials()
    best = trials[answer["best_of_sweep"]["number"]]
    assert answer["best_of_sweep"]["value"] == best.values[0]
    assert answer["best_of_sweep"]["standard_error"] == best.user_attrs["standard_error"]
    assert answer["best_of_sweep"]["control_error"] == best.user_attrs["control_error"]
    assert answer["result"]["test"] == result["test"]
    assert answer["test_reads"] == answer["results"] == 1
    files = [path for path in study.rglob("*") if path.is_file()]
    sizes = sum(path.stat().st_size for path in files), sum(answer["disk"]["parts"].values())
    assert sizes == (answer["disk"]["bytes"],) * 2
    assert [stage["seconds"] for stage in answer["stages"]] == [1.0, 75.0, 1.0, 1.0]
    test = f"{result['test']['accuracy']:.3f} ± "
    for words in (": finished", "3 of 3 trials (3 complete), 1m 15s", test, "1 for 1"):
        assert words in text


def test_a_study_that_has_not_begun_its_trials(tmp_path):
    folder = begin_study(tmp_path / "study").folder
    answer, text = status(folder)
    assert states(answer) == ["done", "stopped", "to do", "to do"]
    assert answer["trials"]["waiting"] == 1 and answer["best_of_sweep"] is None and answer["retrainings"] is None
    assert "stopped; the sweep's same command resumes it" in text
    (folder / "search" / "genotype.json").unlink()
    assert states(status(folder)[0]) == ["stopped", "to do", "to do", "to do"]


def test_a_study_in_mid_run_while_its_driver_writes(tmp_path):
    saved = begin_study(tmp_path / "study")
    run_trials(saved, stop_after=2)
    with open(saved.folder / "trials" / "0000.jsonl", "a") as file:
        file.write('{"step": 3, "no')  # half a line, as a reader may meet it
    with study_lock(saved.folder), sqlite3.connect(saved.folder / "study.db") as driver:
        driver.execute("BEGIN IMMEDIATE")
        driver.execute("UPDATE studies SET study_name = 'being written'")
        answer, text = status(saved.folder)
        driver.rollback()
    assert answer["driver"]["state"] == "alive" and answer["driver"]["pid"] == os.getpid()
    assert states(answer) == ["done", "running", "to do", "to do"]
    [running] = answer["running"]
    assert (running["trial"], running["step"], running["steps"]) == (0, 2, 6)
    assert f"driven by process {os.getpid()}" in text and "trial 0: step 2 of 6, hypernetwork, c " in text


def test_retrainings_are_counted_as_they_are_stored(study):
    (study / "result.json").unlink()
    keys = sorted(full_retrainings(open_saved(study)))
    (study / "predictions" / f"{keys[0]}.pt").write_bytes(b"damaged")
    (study / "predictions" / f"{keys[1]}.pt").unlink()
    answer, text = status(study)
    assert answer["retrainings"] == {"done": len(keys) - 2, "planned": len(keys)}
    assert states(answer) == ["done", "done", "stopped", "to do"]
    assert f"stopped, {len(keys) - 2} of {len(keys)} full retrainings" in text


def test_a_study_that_goes_on_shows_its_last_result(study):
    change_options(study, trials=5)
    answer, text = status(study)
    assert not answer["finished"] and states(answer) == ["done", "stopped", "to do", "to do"]
    assert "3 of 5 trials" in text and "of 3 trials, test accuracy" in text


def test_a_study_that_a_limit_ended_is_finished(study):
    change_options(study, trials=9, hours=0.01)
    answer, text = status(study)
    assert answer["finished"] and states(answer) == ["done"] * 4
    assert "done, 3 of 9 trials" in text and "ended early: --hours 0.01 are over" in text
    change_options(study, trials=9, hours=1)
    assert not status(study)[0]["finished"]


def test_trials_of_others_are_counted_apart_and_never_the_best(study):
    saved = open_saved(study)
    best = status(study)[0]["best_of_sweep"]
    other = saved.study.trials[0]
    saved.study.add_trial(optuna.trial.create_trial(params=other.params, distributions=other.distributions, value=9.0))
    answer, text = status(study)
    assert answer["trials"]["complete"] == 3 and answer["trials"]["added"] == 1 and answer["best_of_sweep"] == best
    assert "1 added by others" in text


def test_failures_and_prunings_are_counted_by_reason(study):
    saved = open_saved(study)
    ended = [("FAIL", "loss 1\nis NaN"), ("PRUNED", "slow"), ("FAIL", "other"), ("FAIL", "loss 27\nis NaN")]
    for state, reason in ended:
        trial = saved.study.ask()
        trial.set_user_attr("reason", reason)
        trial.set_user_attr(ORIGIN, origin(saved.study.user_attrs[IDENTIFIER], trial.number))
        saved.study.tell(trial, state=optuna.trial.TrialState[state])
    answer, text = status(study)
    assert answer["failures"] == [{"reason": "loss 1\nis NaN", "trials": [3, 6]}, {"reason": "other", "trials": [5]}]
    assert answer["prunings"] == [{"reason": "slow", "trials": [4]}]
    assert "2 x loss 1 is NaN" in text and "1 x slow" in text


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damage_is_a_problem_that_is_told_and_no_end(study, content):
    for name in ("result.json", "stages.json", "search/genotype.json", "test_reads.jsonl"):
        (study / name).write_bytes(content)
    answer, text = status(study)
    assert answer["trials"]["complete"] == 3 and f"doctor {study}" in text
    assert len(answer["problems"]) == 3 + (content == b"\xff\xfe")  # torn lines of the list are passed over


def test_a_study_that_cannot_be_opened_is_an_error(study):
    (study / "study.db").write_bytes(b"")
    with pytest.raises(StudyError, match=r"study\.db is empty"):
        status(study)
    assert (study / "study.db").read_bytes() == b"", "who only reads fills nothing in"
    (study / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        status(study)


def test_trials_that_optuna_cannot_read_are_an_error_of_every_command(study):
    with sqlite3.connect(study / "study.db") as connection:
        connection.execute("UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'nll'")
    connection.close()
    for command in (Status(study=study), Clean(study=study, dry_run=True), Replay(study=study, trial=0)):
        with pytest.raises(StudyError, match="the trials of the study cannot be read"):
            command.run()
    assert "cannot be read" in Doctor(study=study).run()["findings"][0]["what"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a study that has not begun its trials."""
    return begin_study(tmp_path_factory.mktemp("begun") / "study").folder


HERE, NOBODY = socket.gethostname(), 2**22 + 1  # above Linux's largest process id


@pytest.mark.parametrize(
    "host, pid, age, state, words",
    [
        (HERE, os.getpid(), 3, "alive", f"driven by process {os.getpid()} on {HERE}"),
        (HERE, os.getpid(), STALE + 5, "silent", "no sign of life for"),
        (HERE, NOBODY, 3, "dead", f"its driver, process {NOBODY}, died"),
        (HERE, 10**30, 3, "dead", f"its driver, process {10**30}, died"),  # a stranger's record
        ("elsewhere", NOBODY, 3, "alive", f"driven by process {NOBODY} on elsewhere"),
        ("elsewhere", 1, 300, "silent", "no sign of life for 5m 0"),  # and some seconds on a busy machine
        ("elsewhere", 1, -3600, "silent", "no sign of life for"),  # its clock was put back an hour
    ],
    # no process id in a name
    ids=["alive", "silent", "dead", "impossible", "alive elsewhere", "silent elsewhere", "clock put back"],
)
def test_the_driver_is_alive_dead_or_silent(begun, host, pid, age, state, words):
    record = {"host": host, "pid": pid, "started": "2026-01-01T00:00:00+00:00", "heartbeat": 15}
    (begun / DRIVER).write_text(json.dumps(record))
    os.utime(begun / DRIVER, (time.time() - age,) * 2)
    answer, text = status(begun)
    assert answer["driver"]["state"] == state and words in text
