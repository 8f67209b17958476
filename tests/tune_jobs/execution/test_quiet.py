"""Ray is silenced, but for what the user has set."""

import os

from tune_jobs.execution.quiet import quiet_ray


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TUNE_PRINT_ALL_TRIAL_ERRORS": "1"})
    quiet_ray(local=False)
    assert os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] == "1"
    assert os.environ["RAY_AIR_NEW_OUTPUT"] == "0"
    assert "RAY_AUTH_MODE" not in os.environ
    quiet_ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
