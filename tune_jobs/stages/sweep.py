"""Stage 2: Optuna's trials."""

import time
from typing import Any

import optuna
from ray import tune

from edgenes.checkpoint import write_text
from edgenes.data.dataset import Dataset
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import Interrupted, StudyError
from tune_jobs.execution.recording import RecordCallback, StudyPruning
from tune_jobs.execution.run import Run
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.execution.worker import CHECKPOINT_SECONDS, Reporter, outcome_of, resume_state, send, use_resources
from tune_jobs.files.environment import commit
from tune_jobs.files.layout import TRIALS_TABLE
from tune_jobs.messages import Report
from tune_jobs.progress.display import Progress
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.context import StudyContext
from tune_jobs.study.limits import ended_early, limit
from tune_jobs.study.samplers import make_sampler
from tune_jobs.study.saved import stage_seconds
from tune_jobs.study.space import search_space
from tune_jobs.study.trials import best_trial, common_failure, failed_trials, finished_trials, trials_frame
from tune_jobs.watch.names import trial_name


def _best_text(study: optuna.Study) -> str | None:
    best = best_trial(study)
    if best is None:
        return None
    trial, allowed = best
    error, spread = trial.user_attrs.get("control_error"), trial.user_attrs.get("standard_error", 0)
    weak = "" if allowed else " (no feasible trial yet)"
    return f"trial {trial.number}: {trial.values[0]:.3f} ± {spread:.3f}, control error {error:.2f}{weak}"


class BestCallback(tune.Callback):
    """Shows the best trial so far."""

    def __init__(self, study: optuna.Study, progress: Progress):
        self._show = lambda: progress.best(_best_text(study) or "none yet")

    def __getstate__(self):
        return {}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._show()


def sweep_stage(run: Run, config: SweepConfig, study: optuna.Study, context: StudyContext) -> str | None:
    """Stage 2: Optuna's trials, until the budget of complete and pruned ones is reached, or a limit.

    Returns which limit ended it before --trials, in words.
    """
    begin = time.monotonic() - stage_seconds(run.folder).get("sweep", 0)

    def seconds() -> float:
        return time.monotonic() - begin

    if finished_trials(study) < config.trials and not ended_early(config, study, seconds()):
        # Only now: plotly, boto3 and optuna-dashboard would delay a study's start.
        from tune_jobs.watch.pictures import Album, note_once, study_note

        note_once(study, study_note(config, commit()))
        startup = max(4, config.trials // 4)
        cap = max(4, config.trials // 2) + failed_trials(study)
        searcher = StudySearcher(
            study,
            search_space(config.search.estimator),
            budget=config.trials,
            max_failures=cap,
            make_sampler=lambda seed: make_sampler(config.sampler, seed, startup),
            files=run.files,
            check=run.check,
            ended=lambda: limit(config, study, seconds()) is not None,
            before_tell=Album(config, context.optimal),
        )
        with run.progress.stage(
            "Sweep", config.trials, min(finished_trials(study), config.trials), replaces_failed=True
        ):
            run.tune(
                "sweep",
                sweep_trial,
                {},
                trial_name,
                {"data": run.data_ref, "context": context},
                callbacks=[RecordCallback(searcher), BestCallback(study, run.progress)],
                search_alg=searcher,
                scheduler=StudyPruning(searcher),
                num_samples=-1,
            )
            write_text(run.folder / TRIALS_TABLE, trials_frame(study).to_csv(index=False))
            if searcher.unwritable:
                raise StudyError(f"the sweep stopped: {searcher.unwritable}")
            done, failed = finished_trials(study), failed_trials(study)
            short = done < config.trials and not ended_early(config, study, seconds())
            if short and failed >= cap:
                shared = common_failure(study)
                raise StudyError(
                    f"the sweep gave up: {failed} trials failed"
                    + (f", all for the same reason: {shared}" if shared else f"; see {TRIALS_TABLE} for the reasons.")
                )
            if short:
                raise Interrupted(
                    f"stopped with {done} of {config.trials} trials finished; all are stored. "
                    "Run the same command again to resume."
                )
        run.clean("sweep")
    else:
        write_text(run.folder / TRIALS_TABLE, trials_frame(study).to_csv(index=False))
    ended = ended_early(config, study, seconds())
    if ended is not None:
        done = finished_trials(study)
        words = f"The sweep ended after {done} of {config.trials} trials: {ended}."
        run.progress.say(f"{words} A larger limit continues it.")
    return ended


def sweep_trial(config: dict[str, Any], data: Dataset, context: StudyContext) -> None:
    """One trial of the sweep; config holds "trial", "seed", "attempt", "params", "checkpoint" (or None)."""
    use_resources()
    context = context.on_this_node()
    shared = context.place.files.shared
    # A trial that has lost its process once saves each epoch: one that is killed again and again gets further.
    reporter = Reporter(shared, CHECKPOINT_SECONDS if config["attempt"] == 1 else 0)

    def report(seen: Report, state: dict[str, Any] | None) -> None:
        reporter(seen, state, last=seen.step == context.setting.hypernetwork.epochs)

    def run() -> Report:
        resume = resume_state(config.get("checkpoint"), shared, context.device)
        return run_trial(context, data, config["trial"], config["seed"], config["params"], report, resume)

    send(outcome_of(run))
