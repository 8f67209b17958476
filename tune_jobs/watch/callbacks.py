"""What looks on while one driver runs a study: its job's name, metrics, pictures and logs."""

import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from edgenes.space.genotype import Genotype
from tune_jobs.config.passwords import has_password
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.environment import commit
from tune_jobs.files.layout import ARTIFACTS
from tune_jobs.messages import Report
from tune_jobs.progress.display import Progress
from tune_jobs.study.optuna_study import METRICS, study_objectives
from tune_jobs.watch.loggers import Logs, log_result
from tune_jobs.watch.metrics import Metrics
from tune_jobs.watch.names import named
from tune_jobs.watch.stage_callback import StageCallback


class Watch:
    """The callbacks and names of a study's stages; Ray has been started. An experiment has no Optuna study."""

    def __init__(self, folder: Path, log: Sequence[str] = (), study: optuna.Study | None = None):
        self._folder, self._log = folder, log
        self._study = study
        self._metrics = Metrics(folder.name, study)
        if study is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([METRICS[name] for name in study_objectives(study)])

    def trainable(self, trainable: Callable, stage: str, name_of: Callable[[Any], str], reused: bool) -> type:
        """The trainable of a stage, its actors named after study, stage and trial."""
        return named(trainable, self._folder.name, stage, name_of, reused)

    def callback(
        self,
        progress: Progress,
        stage: str,
        name_of: Callable[[Any], str],
        describe: Callable[[dict[str, Any]], str],
    ) -> StageCallback:
        """The callback of a stage's run."""
        return StageCallback(progress, self._metrics, Logs(self._log, self._folder, stage), stage, name_of, describe)

    def log_result(self, result: Mapping[str, Any]) -> None:
        """Log the final ensemble's scores."""
        log_result(self._log, self._folder, result)

    def album(self, config: SweepConfig, optimal: Genotype) -> Callable[[optuna.Trial, Report], None]:
        """What gives the sweep's trials their pictures and notes; the study has its own note from then on."""
        # Only now: plotly, boto3 and optuna-dashboard would delay a study's start.
        from tune_jobs.watch.pictures import Album, note_once, study_note

        note_once(self._study, study_note(config, commit()))
        return Album(config, optimal)

    def note_choice(self, numbers: Mapping[str, int]) -> None:
        """Name the best trial of the sweep and the chosen one in the study."""
        from tune_jobs.watch.pictures import note_choice

        note_choice(self._study, numbers)


def optuna_command(folder: Path, storage: str) -> str:
    """The command line that shows the study in optuna-dashboard, with its pictures."""
    here = Path(sys.executable)  # `python` alone may be another one than the environment's
    here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    artifacts = f"--artifact-dir {shlex.quote(str(folder / ARTIFACTS))}"
    if has_password(storage):
        private = "(in it: [optuna_dashboard] storage = URL; a password has no place in a command)"
        return f"{here.with_name('optuna-dashboard')} {artifacts} --from-config FILE   {private}"
    return f"{here.with_name('optuna-dashboard')} {shlex.quote(storage)} {artifacts}"
