"""What Tune's trials do in one stage, for the progress display, the metrics and the logs."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tune_jobs.messages import Report, Status
from tune_jobs.progress.display import Progress
from tune_jobs.watch.loggers import Logs
from tune_jobs.watch.metrics import Metrics


class StageCallback(tune.Callback):
    """Passes starts, reports and ends of trials on.

    A trial that ends without a status was stopped by the scheduler: pruned.

    Args:
        name: a trial's readable name.
        describe: a few words about a trial's configuration.
    """

    def __init__(
        self,
        progress: Progress,
        metrics: Metrics,
        logs: Logs,
        stage: str,
        name: Callable[[Trial], str],
        describe: Callable[[dict[str, Any]], str],
    ):
        self._progress, self._metrics, self._logs = progress, metrics, logs
        self._stage, self._name, self._describe = stage, name, describe

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # Ray pickles its callbacks with the experiment. Consoles and connections stay here; a copy does nothing.
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = self._name(trial)
        self._progress.started(name, self._describe(trial.config))
        self._metrics.started(self._stage, name)
        self._logs.started(name, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        name, report = self._name(trial), Report.from_dict(result)
        if report.status is None and report.step is not None:
            self._progress.step(name, report.step, report.steps or 0, report.note or report.stage or "")
        self._metrics.reported(self._stage, name, report)
        self._logs.reported(name, report)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last = Report.from_dict(trial.last_result or {})
        failed = len(last.attributes.get("failed", []))
        self._ended(trial, last.status or Status.PRUNED, last.reason or last.note or "", failed)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._ended(trial, Status.FAILED, _fault(trial))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._progress.say(f"{self._name(trial)} will be tried again: {_fault(trial)}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._metrics.fade()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._logs.close()

    def _ended(self, trial: Trial, status: Status, note: str, failed: int = 0) -> None:
        name = self._name(trial)
        self._progress.finished(name, Status.FAILED if status == Status.UNWRITABLE else status, note, failed)
        self._metrics.ended(self._stage, name, status)
        self._logs.ended(name, status == Status.FAILED)


def _fault(trial: Trial) -> str:
    """The last line of what Tune wrote down about a trial's newest fault: the exception's own words."""
    if not trial.error_file or not Path(trial.error_file).exists():
        return "its worker died"
    lines = [line for line in Path(trial.error_file).read_text(errors="replace").splitlines() if line.strip()]
    # Ray's account of a dead worker runs to a paragraph.
    return textwrap.shorten(lines[-1], 120, placeholder=" ...") if lines else "its worker died"
