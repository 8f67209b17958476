"""What a trainable makes of its run: outcomes, warnings, and the checkpoint it goes on from."""

import errno
import logging

import pytest
import torch

from edgenes.checkpoint import save_checkpoint
from edgenes.errors import DivergedError, WriteError
from tune_jobs.trainables import outcome_of, resume_state


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
    assert outcome["status"] == status and reason in outcome["reason"]
    assert type(error).__name__ in outcome["traceback"]
    assert outcome["attributes"]["hardware"]["cpus"] >= 1


def test_warnings_of_the_run_come_with_its_outcome_and_only_those():
    log = logging.getLogger("edgenes.memory")

    def run():
        log.warning("half the batch of %d", 64)
        log.info("not this")
        return {"status": "complete"}

    assert outcome_of(run) == {"status": "complete", "warnings": ["half the batch of 64"]}
    log.warning("nor this")
    assert outcome_of(lambda: {"status": "complete"})["warnings"] == []


@pytest.fixture
def checkpoints(tmp_path):
    for number in range(3):
        save_checkpoint(tmp_path / f"checkpoint_00000{number}" / "state.pt", "trial", {"epoch": torch.tensor(number)})
    return tmp_path


def damage(place):
    path = place / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resumed(noted):
    outcome = outcome_of(lambda: {"state": resume_state(noted, "cpu")})
    return outcome["state"] and int(outcome["state"]["epoch"]), outcome["warnings"]


def test_the_noted_checkpoint_is_taken_and_not_a_newer_one_that_nobody_noted(checkpoints):
    assert resumed(str(checkpoints / "checkpoint_000001")) == (1, [])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_that_is_said(checkpoints):
    damage(checkpoints / "checkpoint_000002")
    epoch, [warning] = resumed(str(checkpoints / "checkpoint_000002"))
    assert epoch == 1
    assert "checkpoint_000002" in warning and "damaged" in warning and "before it is taken" in warning


def test_without_a_sound_checkpoint_a_trial_begins_anew(checkpoints):
    assert resumed(None) == (None, [])
    for number in range(3):
        (checkpoints / f"checkpoint_00000{number}" / "state.pt").write_bytes(b"PK")
    epoch, warnings = resumed(str(checkpoints / "checkpoint_000002"))
    assert epoch is None and len(warnings) == 3
