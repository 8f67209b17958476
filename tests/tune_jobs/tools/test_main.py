"""The command line: exit statuses, JSON for programs, words for people, and never a traceback."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgenes.parsing import printable
from tune_jobs.tools.commands import Status

ROOT = Path(__file__).parents[3]


def test_every_command_answers_in_json_and_in_words_whatever_the_name(study, tmp_path, tool):
    name = "a%20b?c=d#e new\nline 'é' \" -[red]{0}{}"
    there, archive, arrived = study.rename(tmp_path / name), tmp_path / f"{name}.tar", tmp_path / f"{name}2"
    commands = [
        *(("status", there), ("doctor", there), ("export", there, archive)),
        *(("import", archive, arrived), ("clean", there, "--dry-run"), ("clean", there)),
    ]
    for words in commands:
        status, out, err = tool(*words, "--json")
        assert status == 0 and err == "" and isinstance(json.loads(out), dict), words
    assert {*tmp_path.iterdir()} == {there, archive, arrived}, "nothing is made beside them"
    archive.unlink()
    shutil.rmtree(arrived)
    for words in commands:
        status, out, err = tool(*words)
        assert status == 0 and err == "" and printable(str(tmp_path)) in out, words


def test_mistakes_are_told_in_one_line_with_exit_status_1(study, tmp_path, tool):
    tar, nothing = tmp_path / "no.tar", tmp_path / "nothing"
    mistakes = [
        *((command, folder) for command in ("status", "doctor", "clean", "ensemble") for folder in (nothing, tmp_path)),
        ("export", nothing, tar),
        ("replay", nothing, 0),
        ("compare", study, nothing),
        ("export", study, tmp_path / "no" / "folder.tar"),
        ("import", tar, tmp_path / "new"),
        ("import", study / "config.json", tmp_path / "new"),
        ("import", study, tmp_path / "new"),
        ("import", tar, study),
        ("status", study, "--storage", f"sqlite:///{tmp_path}/none.db"),
        ("status", study, "--storage", "postgresql://user:secret@localhost/x"),
    ]
    for words in mistakes:
        status, out, err = tool(*words)
        assert status == 1 and out == "" and err.startswith("error: ") and "secret" not in err, words
        assert "there is no study" in err or nothing not in words, words
    assert sorted(os.listdir(tmp_path)) == ["study"]


def test_a_terminal_obeys_no_name_of_a_stranger(study, tool):
    (study / "driver.json").write_text(json.dumps({"host": "\x1b]0;\nowned\x07\ud800", "pid": 1, "heartbeat": 0.1}))
    os.utime(study / "driver.json", (0, 0))
    status, out, err = tool("status", study)
    assert status == 0 and "on ]0; owned" in out and "\x1b" not in out + err


def test_a_name_of_colons_is_no_emoji(tmp_path, tool):
    assert ":smile:" in tool("status", tmp_path / ":smile:")[2]


@pytest.mark.e2e
def test_an_answer_that_nobody_takes_is_no_traceback(study):
    words = [sys.executable, "-m", "tune_jobs", "status", str(study)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode != 0 and "No space left" in done.stderr and "Traceback" not in done.stderr
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=ascii_only)
    assert done.returncode == 0 and "\\xb1" in done.stdout and done.stderr == ""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*words, "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writer)
    assert done.returncode != 0 and done.stderr == ""


def test_json_has_null_for_numbers_that_it_does_not_know(answered, monkeypatch):
    monkeypatch.setattr(Status, "run", lambda self: {"values": [math.inf, (math.nan, 1.5)]})
    assert answered("status", "study") == {"values": [None, [None, 1.5]]}
