"""What the progress display, the metrics and the logs learn of Tune's trials."""

import io
import pickle
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from rich.console import Console

from tune_jobs.progress.display import Progress
from tune_jobs.watch.stage_callback import StageCallback


class Watched:
    """A callback, and what it told."""

    def __init__(self):
        self.file, self.now = io.StringIO(), 0.0
        self.progress = Progress(Console(file=self.file, force_terminal=False), lambda: self.now)
        self.metrics, self.logs = Mock(), Mock()
        self.callback = StageCallback(
            self.progress,
            self.metrics,
            self.logs,
            "sweep",
            lambda trial: f"trial {trial.config['trial']}",
            lambda config: f"beta {config['beta']}",
        )


@pytest.fixture
def watched():
    return Watched()


def ray_trial(number, error_file=None, **last):
    return SimpleNamespace(config={"trial": number, "beta": 0.5}, last_result=last, error_file=error_file)


def test_everyone_learns_how_trials_end(watched, tmp_path):
    callback = watched.callback
    fault = tmp_path / "error.txt"
    fault.write_text("Failure # 1\nTraceback\nRuntimeError: out of memory\n\n")
    with watched.progress.stage("Sweep", 6):
        trial = ray_trial(0, status="complete", note="accuracy 0.97")
        callback.on_trial_start(0, [], trial)
        watched.now += 10
        callback.on_trial_result(0, [], trial, {"stage": "hypernetwork", "step": 2, "steps": 9})
        callback.on_trial_result(0, [], trial, {"step": 9, "steps": 9, "status": "complete", "pid": 1})
        callback.on_trial_complete(0, [], trial)
        callback.on_trial_complete(0, [], ray_trial(1, status="pruned", reason="infeasible", note="c 0.3"))
        callback.on_trial_complete(0, [], ray_trial(2, step=4, note="c 0.3"))  # stopped by the scheduler
        callback.on_trial_complete(0, [], ray_trial(3, status="failed", reason="NaN"))
        callback.on_trial_recover(0, [], ray_trial(4, str(fault)))
        callback.on_trial_error(0, [], ray_trial(4))
        callback.on_trial_complete(0, [], ray_trial(5, status="unwritable", reason="no space left"))
    left = "less than a minute left"
    assert watched.file.getvalue().splitlines()[1:-1] == [
        "trial 0 started: beta 0.5",
        "trial 0 at step 2 of 9: hypernetwork",
        "[1/6] trial 0 complete: accuracy 0.97 (10s, about 1 min left)",
        f"[2/6] trial 1 pruned: infeasible ({left})",
        f"[3/6] trial 2 pruned: c 0.3 ({left})",
        f"[4/6] trial 3 failed: NaN ({left})",
        "trial 4 will be tried again: RuntimeError: out of memory",
        f"[5/6] trial 4 failed: its worker died ({left})",
        "[6/6] trial 5 failed: no space left",
    ]
    ends = [call.args for call in watched.metrics.ended.call_args_list]
    statuses = ["complete", "pruned", "pruned", "failed", "failed", "unwritable"]
    assert ends == [("sweep", f"trial {k}", status) for k, status in enumerate(statuses)]
    failed = [call.args for call in watched.logs.ended.call_args_list if call.args[1]]
    assert failed == [("trial 3", True), ("trial 4", True)]
    assert watched.metrics.reported.call_count == watched.logs.reported.call_count == 2


def test_a_pickled_callback_does_nothing(watched):
    copy = pickle.loads(pickle.dumps(watched.callback))
    copy.on_trial_start(0, [], ray_trial(0))
    copy.on_trial_error(0, [], ray_trial(0))
    assert not watched.metrics.mock_calls
