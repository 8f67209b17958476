"""Passes what Ray Tune reports of trials on to the study: its pruner decides, curves and checkpoints are stored."""

from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.files.curves import CurveWriter
from tune_jobs.moments import reached


class StudyPruning(FIFOScheduler):
    """Runs trials in order, and stops those which the study's own pruner stops: they are PRUNED."""

    def __init__(self, searcher: StudySearcher):
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._searcher.judge(trial.trial_id, result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class RecordCallback(tune.Callback):
    """Writes each report to the trial's curve file, and newest checkpoints and attempts to the study."""

    def __init__(self, searcher: StudySearcher):
        self._searcher = searcher
        self._curves = CurveWriter()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        record = self._searcher.record(trial.trial_id)
        if record is not None:
            reached("curve")
            self._curves.append(*record)

    def on_checkpoint(self, iteration: int, trials: list, trial: Any, checkpoint: tune.Checkpoint, **info: Any) -> None:
        self._searcher.note_checkpoint(trial.trial_id, checkpoint)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._searcher.note_retry(trial.trial_id)
