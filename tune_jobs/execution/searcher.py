"""Ray Tune executes what an Optuna study asks.

The study is the only memory. A driver may die at any point: the next one finds the trials that were running, resumes
them from their checkpoints, and asks for the rest. Ray's own state is never restored.
"""

import contextlib
import logging
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher
from ray.tune.utils.util import unflatten_dict  # type: ignore[attr-defined]

from edgenes.errors import WriteError
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import RAY, curve_path
from tune_jobs.files.study_files import Remote, StudyFiles
from tune_jobs.messages import Report, Status, finite
from tune_jobs.moments import reached
from tune_jobs.study.asking import Asker
from tune_jobs.study.optuna_study import study_objectives, study_seed, trial_seed
from tune_jobs.study.space import CONSTRAINT, misfit, with_derived
from tune_jobs.study.trials import IDENTIFIER, ORIGIN, failed_trials, finished_trials, origin

MAX_ATTEMPTS = 10
_log = logging.getLogger(__name__)
_STATES = {Status.COMPLETE: TrialState.COMPLETE, Status.PRUNED: TrialState.PRUNED, Status.FAILED: TrialState.FAIL}


@dataclass
class _Running:
    """A trial in the hands of this driver."""

    trial: optuna.Trial
    attempt: int
    reported: set[int]  # steps whose intermediate value the study has
    last: Report = field(default_factory=Report)
    host: str | None = None
    control_error: float | None = None  # the newest that was finite
    pruned_step: int | None = None
    checkpoints: int = 0


class StudySearcher(Searcher):
    """Hands the study's trials to Ray Tune and records in the study how they ended.

    `budget` counts COMPLETE and PRUNED trials that ran here; `max_failures` is the number of those that FAILed at
    which the sweep is given up. A trial of a person's own whose values cannot be is a FAIL, and counts as none.
    `make_sampler(seed)` builds the sampler of one suggestion. A trial that lost its process MAX_ATTEMPTS times
    without a new checkpoint in between is a FAIL; most of these were the driver's deaths, since Ray itself gives up a
    trial whose worker died three times. `files` are the study's; `check` runs before each suggestion and raises if
    another driver has taken the study; `before_tell` gets each trial and its last report while the trial can still be
    written. Once `ended()` is true no further trial begins; those that run may still change that.

    `unwritable` is the reason if a disk is full or read-only: no further trial starts, and those that failed to write
    stay RUNNING, for the next driver to resume.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, BaseDistribution],
        *,
        budget: int,
        max_failures: int,
        make_sampler: Callable[[int], BaseSampler],
        files: StudyFiles,
        check: Callable[[], None] = lambda: None,
        ended: Callable[[], bool] = lambda: False,
        before_tell: Callable[[optuna.Trial, Report], None] = lambda trial, report: None,
    ):
        super().__init__()
        self._files = files
        self._shared = files.shared
        self._study = study
        self._space = dict(space)
        self._budget = budget
        self._max_failures = max_failures
        self._asker = Asker(study, space, make_sampler)
        self._check, self._ended, self._before_tell = check, ended, before_tell
        self._seed, self._objectives = study_seed(study), study_objectives(study)
        self._identifier = study.user_attrs.get(IDENTIFIER)
        self.unwritable: str | None = None
        self._running: dict[str, _Running] = {}
        # Only what a dead driver left: the trials that this one asks for are RUNNING as well.
        self._orphans = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def __reduce__(self):
        # Ray pickles the searcher into its state file, where neither a connection nor a password belongs.
        return _refuse_restore, ()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A config {trial, seed, attempt, checkpoint, params}; None to wait, FINISHED at the budget or the cap."""
        self._check()
        if self.unwritable:
            return Searcher.FINISHED
        if failed_trials(self._study) >= self._max_failures:
            return Searcher.FINISHED
        while self._orphans:
            trial = self._asker.again(self._orphans.pop(0))
            if not self._refused(trial):
                return self._hand_out(trial_id, trial)
        done = finished_trials(self._study)
        ended = self._ended()
        if done >= self._budget or (ended and not self._running):
            return Searcher.FINISHED
        # A running trial may still fail and leave the study short, or be better, so this is no end yet.
        if ended or done + len(self._running) >= self._budget:
            return None
        while True:
            reached("ask")
            trial = self._asker.next()
            if not self._refused(trial):
                return self._hand_out(trial_id, trial)

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Remember a report and pass its intermediate value on to the study; True if its pruner stops the trial."""
        reached("report")
        running = self._running.get(trial_id)
        if running is None:
            return False
        running.last = Report.from_dict(unflatten_dict(result))  # Tune gives its scheduler flat results
        running.host = result.get("hostname")
        error = finite(running.last.control_error)
        running.control_error = running.control_error if error is None else error
        if len(self._study.directions) > 1:
            return False
        value, step = finite(running.last.intermediate), running.last.intermediate_step
        if value is None or step in running.reported:  # a resumed trial repeats what followed its checkpoint
            return False
        running.trial.report(value, step)
        running.reported.add(step)
        if running.last.status or not running.trial.should_prune():
            return False
        running.pruned_step = step
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial ended, by its last report. Ray calls again, with `error`, if this raised."""
        running = self._running.get(trial_id)
        if running is None:
            return
        if running.last.status == Status.UNWRITABLE:
            self.unwritable = self.unwritable or str(running.last.reason)
            del self._running[trial_id]
            return
        self._tell(running.trial, self._outcome(running, error))
        del self._running[trial_id]

    def record(self, trial_id: str) -> tuple[Path, dict[str, Any]] | None:
        """The curve file of a trial and the line of its last report in it; None if there is nothing to record."""
        running = self._running.get(trial_id)
        if running is None or running.last.step is None:
            return None
        line = running.last.record() | {"attempt": running.attempt}
        return curve_path(self._files.folder, running.trial.number), line

    def note_checkpoint(self, trial_id: str, checkpoint: tune.Checkpoint) -> None:
        """Store where the newest checkpoint of a trial lies among the files that driver and workers share."""
        running = self._running.get(trial_id)
        if running is None:
            return
        reached("checkpoint reported")
        before = running.trial.user_attrs.get("checkpoint")
        name, step = self._shared.name_of(checkpoint.path), running.last.step
        running.trial.set_user_attr("checkpoint", name)
        if step is not None and step > running.trial.user_attrs.get("checkpoint_step", -1):
            running.trial.set_user_attr("checkpoint_step", int(step))
            if running.trial.user_attrs.get("stalled_attempts"):  # each write waits for the disk
                running.trial.set_user_attr("stalled_attempts", 0)
        running.checkpoints += 1
        if running.checkpoints <= 2:  # Ray keeps this driver's two newest; beside the first, those of a driver before
            earlier = [before] if before and running.checkpoints == 1 else []
            _remove_earlier(self._shared, running.trial.number, {posixpath.dirname(each) for each in (name, *earlier)})
        reached("checkpoint recorded")

    def note_retry(self, trial_id: str) -> None:
        """Count an attempt that Ray makes by itself after a worker died."""
        running = self._running.get(trial_id)
        if running is not None:
            running.attempt = self._count_attempt(running.trial)

    def _outcome(self, running: _Running, error: bool) -> Report:
        """How a trial ended, with a status."""
        last = replace(running.last, control_error=running.control_error)
        if running.pruned_step is not None:
            return replace(
                last,
                status=Status.PRUNED,
                reason=f"pruned by the study's pruner at step {running.pruned_step}",
                attributes={**last.attributes, "pruned_step": running.pruned_step},
            )
        if error and last.status is None:
            return replace(
                last,
                status=Status.FAILED,
                reason="worker died: its process ended, or lost its node, more often than allowed; out of memory?",
                attributes={"hardware": {"host": running.host}},
            )
        return running.last.settled()

    def _tell(self, trial: optuna.Trial, ended: Report) -> None:
        reached("tell")
        # After `tell` the trial can no longer be written, so everything else comes first.
        self._before_tell(trial, ended)
        failed, error = ended.status == Status.FAILED, finite(ended.control_error)
        numbers = {**ended.attributes, "value": ended.value, "control": error}
        values = [numbers[name] for name in self._objectives] if ended.status == Status.COMPLETE else None
        beside = {"control_error": error, "warnings": ended.warnings or None}
        beside |= {"reason": ended.reason, "traceback": ended.traceback}
        if error is not None and not failed and CONSTRAINT not in trial.constraints:
            trial.set_constraint(CONSTRAINT, error - CONTROL_LIMIT)
            # optuna-dashboard reads the list of Optuna before 5.0; its public setter is gone.
            trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [error - CONTROL_LIMIT])
        for key, value in {**ended.attributes, **beside}.items():
            if value is not None:
                trial.set_user_attr(key, value)
        self._study.tell(trial, values, _STATES[ended.status], skip_if_finished=True)
        for warning in ended.warnings:
            _log.warning("Trial %d: %s", trial.number, warning)
        if failed:
            _log.warning("Trial %d failed: %s", trial.number, ended.reason)
        reached("trial told")

    def _hand_out(self, trial_id: str, trial: optuna.Trial) -> dict[str, Any]:
        stored = self._asker.draw(trial)
        params = with_derived(stored.params)
        for name in params.keys() - stored.params.keys():
            trial.set_user_attr(name, params[name])
        if ORIGIN not in stored.user_attrs:
            trial.set_user_attr(ORIGIN, origin(self._identifier, trial.number))
        running = _Running(trial, self._count_attempt(trial), set(stored.intermediate_values))
        self._running[trial_id] = running
        reached("trial started")
        return {
            "trial": trial.number,
            "seed": trial_seed(self._seed, trial.number),
            "attempt": running.attempt,
            "checkpoint": self._checkpoint(trial),
            "params": params,
        }

    def _count_attempt(self, trial: optuna.Trial) -> int:
        attempt = trial.user_attrs.get("attempts", 0) + 1
        trial.set_user_attr("attempts", attempt)
        trial.set_user_attr("stalled_attempts", trial.user_attrs.get("stalled_attempts", 0) + 1)
        return attempt

    def _refused(self, trial: optuna.Trial) -> bool:
        """Whether the trial is a FAIL at once: its values cannot be, or it has lost too many processes."""
        stored = self._asker.stored(trial)
        reason = misfit(stored, self._space)
        if stored.user_attrs.get("stalled_attempts", 0) >= MAX_ATTEMPTS:
            reason = f"lost its process {MAX_ATTEMPTS} times without a new checkpoint in between"
        if reason is not None:
            self._tell(trial, Report(status=Status.FAILED, reason=reason))
        return reason is not None

    def _checkpoint(self, trial: optuna.Trial) -> str | None:
        noted = trial.user_attrs.get("checkpoint")
        if noted is None or self._shared.holds(str(noted)):  # nothing outside of the study's files is read
            return noted
        _log.warning("Trial %d starts over: its checkpoint %s is not among the study's files.", trial.number, noted)
        return None


def _remove_earlier(shared: Remote, trial: int, keep: set[str]) -> None:
    """Remove what drivers before kept of a trial under Ray's folder: all its folders but those to keep."""
    with contextlib.suppress(WriteError):  # what is left costs space and no more
        for run in shared.entries(RAY):
            for place in shared.entries(run):
                if posixpath.basename(place).startswith(f"trial-{trial}-") and place not in keep:
                    shared.remove(place)


def _refuse_restore() -> None:
    raise StudyError(
        "A sweep is not restored from Ray's files, and does not run through a Ray Client connection: the study "
        "is its memory. Start the same command again, on the cluster itself or as a Ray job."
    )
