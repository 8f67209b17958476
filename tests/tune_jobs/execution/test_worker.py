"""What a trainable makes of its run: outcomes, warnings, and the checkpoint it resumes from."""

import errno
import logging

import pytest
import torch

from edgenes.checkpoint import save_checkpoint
from edgenes.errors import DivergedError, WriteError
from tune_jobs.execution.worker import outcome_of, resume_state
from tune_jobs.files.study_files import Remote
from tune_jobs.messages import Report


def raiser(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (DivergedError("loss became nan in epoch 3"), "failed", "loss became nan in epoch 3"),
        (RuntimeError("no kernel"), "failed", "RuntimeError: no kernel"),
        (WriteError("cannot write x"), "unwritable", "cannot write x"),
        (OSError(errno.ENOSPC, "No space left on device"), "unwritable", "No space left"),
        (OSError(errno.EROFS, "Read-only file system"), "unwritable", "Read-only"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "failed", "No such file"),
    ],
)
def test_what_is_raised_is_an_outcome_with_the_machine_it_happened_on(error, status, reason):
    outcome = outcome_of(raiser(error))
    assert outcome.status == status and reason in outcome.reason
    assert type(error).__name__ in outcome.traceback
    assert outcome.attributes["hardware"]["cpus"] >= 1


def test_warnings_of_the_run_come_with_its_outcome_and_only_those():
    log = logging.getLogger("edgenes.training.memory")

    def run():
        log.warning("half the batch of %d", 64)
        log.info("not this")
        return Report(value=0.5)

    assert outcome_of(run) == Report(value=0.5, warnings=["half the batch of 64"])
    log.warning("nor this")
    assert outcome_of(Report).warnings == []


PLACE = "ray/sweep-1/trial-0-x"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.e2e)])
def shared(request, tmp_path):
    """What driver and workers share, with three checkpoints of a trial in it."""
    url = str(tmp_path)
    if request.param == "s3":
        url = request.getfixturevalue("s3_url").replace("/prefix", f"/{tmp_path.name}")
    shared = Remote(url)
    for number in range(3):
        save_checkpoint(tmp_path / "state.pt", "trial", {"epoch": torch.tensor(number)})
        shared.write(f"{PLACE}/checkpoint_00000{number}/state.pt", (tmp_path / "state.pt").read_bytes())
    return shared


def damage(shared, number):
    name = f"{PLACE}/checkpoint_00000{number}/state.pt"
    content = bytearray(shared.read(name))
    content[len(content) // 2] ^= 1
    shared.write(name, bytes(content))


def resumed(shared, number):
    noted = None if number is None else f"{PLACE}/checkpoint_00000{number}"
    outcome = outcome_of(lambda: Report(attributes=resume_state(noted, shared, "cpu") or {}))
    return outcome.attributes.get("epoch"), outcome.warnings


def test_the_noted_checkpoint_is_taken_and_not_a_newer_one_that_nobody_noted(shared):
    assert resumed(shared, 1) == (1, [])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_that_is_said(shared):
    damage(shared, 2)
    epoch, [warning] = resumed(shared, 2)
    assert epoch == 1
    assert "checkpoint_000002" in warning and "damaged" in warning and "before it is taken" in warning


def test_without_a_sound_checkpoint_a_trial_begins_again(shared):
    assert resumed(shared, None) == (None, [])
    for number in range(3):
        damage(shared, number)
    epoch, warnings = resumed(shared, 2)
    assert epoch is None and len(warnings) == 3
