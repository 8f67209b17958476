"""Tells a progress display what Tune's trials do."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tune_jobs.messages import Report, Status
from tune_jobs.progress.display import Progress

_FAULT = 120  # characters: Ray's account of a dead worker runs to a paragraph


def _fault(trial: Trial) -> str:
    """The last line of what Tune wrote down about a trial's newest fault: the exception's own words."""
    if not trial.error_file or not Path(trial.error_file).exists():
        return "its worker died"
    lines = [line for line in Path(trial.error_file).read_text(errors="replace").splitlines() if line.strip()]
    return textwrap.shorten(lines[-1], _FAULT, placeholder=" ...") if lines else "its worker died"


class ProgressCallback(tune.Callback):
    """Passes starts, reports and ends of trials on to a `Progress`.

    A trial that ends without a status was stopped by the scheduler: pruned.

    Args:
        name: a trial's readable name, under which all is told of it.
        describe: a few words about a trial's configuration.
    """

    def __init__(self, progress: Progress, name: Callable[[Trial], str], describe: Callable[[dict[str, Any]], str]):
        self._progress: Progress | None = progress
        self._name = name
        self._describe = describe

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its callbacks with the experiment. A console cannot be pickled, and a copy has nobody to tell.
        return {"_progress": None, "_name": None, "_describe": None}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell that a trial began, or began again."""
        if self._progress:
            self._progress.started(self._name(trial), self._describe(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Tell a trial's step; how it ends is told when it has."""
        report = Report.from_dict(result)
        if self._progress and report.status is None and report.step is not None:
            self._progress.step(self._name(trial), report.step, report.steps or 0, report.note or report.stage or "")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell how a trial ended."""
        if self._progress:
            last = Report.from_dict(trial.last_result or {})
            status = Status.FAILED if last.status == Status.UNWRITABLE else last.status or Status.PRUNED
            self._progress.finished(self._name(trial), status, last.reason or last.note or "")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell that a trial was lost and will be tried again."""
        if self._progress:
            self._progress.say(f"{self._name(trial)} will be tried again: {_fault(trial)}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell that a trial was given up."""
        if self._progress:
            self._progress.finished(self._name(trial), Status.FAILED, _fault(trial))
