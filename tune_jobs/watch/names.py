"""Readable names on Ray's dashboard: of job, actors and trials; and the command that starts Optuna's dashboard."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray._raylet import setproctitle  # type: ignore[attr-defined]
from ray.job_config import JobConfig
from ray.tune.trainable.function_trainable import wrap_function

from tune_jobs.config.passwords import has_password
from tune_jobs.files.environment import commit
from tune_jobs.files.layout import ARTIFACTS


def job_config(folder: Path, dataset: str) -> JobConfig:
    """What Ray knows of the driver's job: the study, its folder, the data, and the commit of the code."""
    return JobConfig(
        metadata={
            "study": folder.name,
            "folder": str(folder),
            "dataset": dataset,
            "commit": commit() or "not known",
        }
    )


def trial_name(trial: Any) -> str:
    """The readable name of a trial of the sweep, or of a trainable that runs it; workers import it."""
    number = trial.config.get("trial")
    return "trial" if number is None else f"trial {number}"


def named(trainable: Callable, study: str, stage: str, name_of: Callable[[Any], str], reused: bool) -> type:
    """A function trainable as a class whose actors are called `STUDY STAGE`, with the trial's name if not `reused`.

    An actor's name is fixed when it begins. One that runs trial after trial says in its process title which it is
    at; the dashboard's page of the cluster, `ray list workers` and `ps` show it.
    """

    class Named(wrap_function(trainable)):  # type: ignore[misc]
        def __repr__(self) -> str:
            return f"{study} {stage}" if reused else self._title

        @property
        def _title(self) -> str:
            return " ".join(dict.fromkeys((study, stage, name_of(self))))  # the search is called so twice

        def step(self) -> dict[str, Any]:
            # Ray itself sets a title at the begin and the end of each step, so that an idle actor does not keep it.
            setproctitle(f"ray::{self._title}")
            return super().step()

    Named.__name__ = Named.__qualname__ = trainable.__name__
    return Named


def optuna_command(folder: Path, storage: str) -> str:
    """The command line that shows the study in optuna-dashboard, with its pictures."""
    here = Path(sys.executable)  # `python` alone may be another one than the environment's
    here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    artifacts = f"--artifact-dir {shlex.quote(str(folder / ARTIFACTS))}"
    if has_password(storage):
        private = "(in it: [optuna_dashboard] storage = URL; a password has no place in a command)"
        return f"{here.with_name('optuna-dashboard')} {artifacts} --from-config FILE   {private}"
    return f"{here.with_name('optuna-dashboard')} {shlex.quote(storage)} {artifacts}"
