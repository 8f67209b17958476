"""The lock of a study, between real processes and as if between two hosts."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tune_jobs.errors import StudyError
from tune_jobs.study.lock import Presence, read_driver, study_lock

HOLD = """
import subprocess, sys
from tune_jobs.lock import study_lock
with study_lock(sys.argv[1]):
    child = subprocess.Popen(["sleep", "60"])  # as Ray's processes, it outlives a killed driver
    print(child.pid, flush=True)
    sys.stdin.read()
"""
# As a driver on another host whose lock this host does not see: it only keeps its file alive.
ELSEWHERE = """
import sys
from pathlib import Path
from tune_jobs.lock import Presence
presence = Presence(Path(sys.argv[1]), host="elsewhere", stale=float(sys.argv[2]))
presence.begin()
print("begun", flush=True)
sys.stdin.read()
"""


def start(script, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("place", ["{}/folder", "sqlite:///{}/folder/study.db", "journal:{}/folder/study.log"])
@pytest.mark.e2e
def test_a_second_driver_is_told_of_the_first_and_takes_over_when_that_is_killed(tmp_path, place):
    place = place.format(tmp_path)
    first, child = start(HOLD, place)
    try:
        with pytest.raises(StudyError, match=f"process {first.pid} on {os.uname().nodename}"), study_lock(place):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with study_lock(place) as presence:  # at once, with the first one's file and child still there
            assert read_driver(presence.file)["pid"] == os.getpid()
            presence.check()
    finally:
        end(first)
        os.kill(int(child), signal.SIGKILL)
    assert not presence.file.exists()


def test_one_process_cannot_drive_a_study_twice(tmp_path):
    with study_lock(tmp_path):
        with pytest.raises(StudyError, match=str(os.getpid())), study_lock(tmp_path):
            pass
        with study_lock(tmp_path / "another"):
            pass
    with study_lock(tmp_path):
        pass


def test_another_hosts_driver_is_respected_while_its_heart_beats_and_replaced_after(tmp_path):
    file = tmp_path / "driver.json"
    other, _ = start(ELSEWHERE, file, 0.6)
    try:
        time.sleep(0.9)  # longer than a dead driver is respected
        with pytest.raises(StudyError, match=f"process {other.pid} on elsewhere"), study_lock(tmp_path, stale=0.6):
            pass
    finally:
        end(other)
    time.sleep(0.7)
    with study_lock(tmp_path, stale=0.6) as presence:
        presence.check()
        assert read_driver(file)["host"] == os.uname().nodename


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_clock_that_jumped_neither_kills_a_driver_nor_keeps_a_dead_one_alive(tmp_path, jump):
    file = tmp_path / "driver.json"
    other, _ = start(ELSEWHERE, file, 1.0)
    try:
        stamp = time.time() + jump
        os.utime(file, (stamp, stamp))  # what the last heartbeat before the jump looks like after it
        with pytest.raises(StudyError, match="elsewhere"), study_lock(tmp_path, stale=1.0):
            pass
    finally:
        end(other)
    os.utime(file, (stamp, stamp))
    with study_lock(tmp_path, stale=1.0) as presence:
        presence.check()


def test_a_driver_that_slept_through_a_takeover_notices(tmp_path):
    with study_lock(tmp_path, stale=60) as sleeper:
        sleeper.check()
        other = Presence(sleeper.file, host="elsewhere")
        other.begin()
        with pytest.raises(StudyError, match="elsewhere"):
            sleeper.check()
    assert other.holds()  # the end of the first did not take the second one's file away
    other.end()


def test_the_heartbeat_stops_for_good_once_another_driver_is_there(tmp_path):
    file = tmp_path / "driver.json"
    first, second = Presence(file, stale=0.2), Presence(file, host="elsewhere", stale=60)
    first.begin()
    second.begin()
    deadline = time.monotonic() + 20
    while not first.lost and time.monotonic() < deadline:
        time.sleep(0.02)
    assert first.lost
    second.end()
    with pytest.raises(StudyError, match="no longer drives"):
        first.check()
    first.end()


def test_a_presence_file_of_nonsense_is_no_driver(tmp_path):
    for text in ("", "[1, 2]", '{"host": '):
        (tmp_path / "driver.json").write_text(text)
        with study_lock(tmp_path) as presence:
            assert set(json.loads(presence.file.read_text())) >= {"host", "pid", "started", "heartbeat"}


def test_places_without_a_file_are_refused(tmp_path):
    (tmp_path / "study.db").write_text("")
    for place, told in [
        ("postgresql://me:hunter2@host/db", r"me:\*\*\*@host"),
        (tmp_path / "study.db", "is a file"),
        (tmp_path / "study.db" / "below", "cannot be taken"),
    ]:
        with pytest.raises(StudyError, match=told), study_lock(place):
            pass
