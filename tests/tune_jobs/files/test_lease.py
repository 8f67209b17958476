"""The lease on a study, between real processes and as if between two hosts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune_jobs.errors import StudyError
from tune_jobs.files.layout import DRIVER
from tune_jobs.files.lease import Lease, read_driver, study_lock

HOLD = """
import subprocess, sys
from tune_jobs.files.lease import study_lock
with study_lock(sys.argv[1]):
    child = subprocess.Popen(["sleep", "60"])  # as Ray's processes, it outlives a killed driver
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def start(script, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    return process, process.stdout.readline().strip()


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def elsewhere(tmp_path):
    """The lease of a driver on another host, whose file lock this host does not see."""
    lease = Lease(tmp_path / DRIVER, stale=0.6)
    lease.host = "elsewhere"
    lease.take()
    yield lease
    lease.end()


@pytest.mark.e2e
def test_a_second_driver_is_told_of_the_first_and_takes_over_when_that_is_killed(tmp_path):
    first, child = start(HOLD, tmp_path)
    try:
        with pytest.raises(StudyError, match=f"process {first.pid} on {os.uname().nodename}"), study_lock(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with study_lock(tmp_path) as lease:  # at once, with the first one's file and child still there
            assert read_driver(tmp_path / DRIVER)["pid"] == os.getpid()
            lease.check()
    finally:
        end(first)
        os.kill(int(child), signal.SIGKILL)
    assert not (tmp_path / DRIVER).exists()


def test_one_process_cannot_drive_a_study_twice(tmp_path):
    with study_lock(tmp_path):
        with pytest.raises(StudyError, match=str(os.getpid())), study_lock(tmp_path):
            pass
        with study_lock(tmp_path / "another"):
            pass
    with study_lock(tmp_path):
        pass


@pytest.mark.parametrize("jump", [-86_400, 86_400])  # seconds by which the clock jumped since the last heartbeat
def test_another_hosts_driver_is_respected_while_its_heart_beats_and_replaced_after(tmp_path, elsewhere, jump):
    stamp = time.time() + jump
    os.utime(tmp_path / DRIVER, (stamp, stamp))
    with pytest.raises(StudyError, match="on elsewhere"), study_lock(tmp_path, stale=0.6):
        pass
    left = (tmp_path / DRIVER).read_bytes()
    elsewhere.end()
    (tmp_path / DRIVER).write_bytes(left)  # as a dead one leaves it
    os.utime(tmp_path / DRIVER, (stamp, stamp))
    with study_lock(tmp_path, stale=0.6) as lease:
        lease.check()
        assert read_driver(tmp_path / DRIVER)["host"] == os.uname().nodename


def test_a_driver_that_slept_through_a_takeover_notices_and_leaves_the_other_alone(tmp_path):
    with study_lock(tmp_path, stale=0.4) as sleeper:
        sleeper.check()
        other = Lease(tmp_path / DRIVER)
        other.host = "elsewhere"
        other.take()
        with pytest.raises(StudyError, match="elsewhere"):
            sleeper.check()
        stamp = (tmp_path / DRIVER).stat().st_mtime_ns
        time.sleep(0.3)  # three of the sleeper's heartbeats
        assert (tmp_path / DRIVER).stat().st_mtime_ns == stamp
    assert other.holds()
    other.end()
    with study_lock(tmp_path) as lease:
        (tmp_path / DRIVER).unlink()
        with pytest.raises(StudyError, match="was removed"):
            lease.check()


def test_a_file_of_nonsense_is_no_driver(tmp_path):
    for text in ("", "[1, 2]", '{"host": ', '{"pid": "x", "started": 3}', "\xff", "[" * 10**5):
        (tmp_path / DRIVER).write_text(text, encoding="latin-1")
        with study_lock(tmp_path):
            assert set(read_driver(tmp_path / DRIVER)) == {"host", "pid", "started", "heartbeat", "token"}


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"driver\.lock"), study_lock(tmp_path / "file"):
        pass
