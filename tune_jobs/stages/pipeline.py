"""The stages of a study, each a Ray Tune run: search, sweep, finalists, final ensemble; resumable at each."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna

from edgenes.checkpoint import write_json
from edgenes.data.dataset import Dataset
from edgenes.errors import WriteError
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.cluster import check_job_folder, ray_cluster, terminations
from tune_jobs.execution.run import Run
from tune_jobs.files.cache import cache_setting
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import CONFIG, DATABASE, ENVIRONMENT, PREDICTIONS, RAY, RESULT, STAGES, TRIALS
from tune_jobs.files.lease import study_lock
from tune_jobs.moments import reached
from tune_jobs.progress.display import Progress
from tune_jobs.stages.ensemble import ensemble_stage
from tune_jobs.stages.estimate import prediction_bytes
from tune_jobs.stages.finalists import finalists_stage
from tune_jobs.stages.hits import sweep_hits
from tune_jobs.stages.search import read_genotype, search_stage
from tune_jobs.stages.sweep import finished_trials, sweep_stage
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.folder import prepare_folder, study_files, write_errors
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.postgres_lock import database_lock
from tune_jobs.study.result import archive_result, finished
from tune_jobs.study.saved import checked_trials, load_study_data, plain_config, stage_seconds, storage_url, study_name
from tune_jobs.study.space import search_space
from tune_jobs.watch.callbacks import Watch, optuna_command
from tune_jobs.watch.loggers import check_loggers


def open_optuna(config: SweepConfig, data: Dataset) -> optuna.Study:
    """The Optuna study of the configuration, created or reopened; raises StudyError where they differ."""
    url = storage_url(config)
    study = open_study(
        study_name(config),
        url,
        space=search_space(config.estimator),
        objectives=config.objectives,
        pruner=config.pruner,
        seed=config.seed,
        candidates=config.candidates,
        identity={**config.defining(), "data": data.digest},
    )
    checked_trials(study, url)
    return study


@contextmanager
def _timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to stages.json, over all drivers; a damaged one is told before the stage begins."""
    start, seconds = time.monotonic(), stage_seconds(folder)
    try:
        yield
    finally:
        seconds[stage] = round(seconds.get(stage, 0) + time.monotonic() - start, 2)
        with suppress(WriteError):  # a full disk has been met before, or is by the next who writes
            write_json(folder / STAGES, seconds)


def run_study(config: SweepConfig, progress: Progress) -> dict[str, Any]:
    """Run or go on with a study; returns the content of result.json.

    Raises DataError, ConfigError, StudyError with what to do, Interrupted if it was stopped.
    """
    check_job_folder(config.out)
    check_loggers(config)
    data = load_study_data(config)
    prepare_folder(config.folder, CONFIG, DATABASE)
    if config.genotype_file:
        read_genotype(config.genotype_file, config)
    with (
        study_lock(config.folder) as presence,
        write_errors(config.folder),
        database_lock(storage_url(config), study_name(config)) as check_database,
    ):
        study = open_optuna(config, data)
        if config.dashboard:
            progress.say(f"Optuna's dashboard: {optuna_command(config.folder, storage_url(config))}")
        # Where the cache is by default, each node finds by its own environment.
        config = dataclasses.replace(config, cache=cache_setting(config.cache))
        config = dataclasses.replace(config, storage=None)  # its password goes to no worker and into no file
        result = finished(config.folder, config.trials)
        if result is not None:
            progress.say(f"This study is finished ({result['trials']} trials); nothing to do. --trials adds more.")
            return result
        write_json(config.folder / CONFIG, plain_config(config, data.digest))
        write_json(config.folder / ENVIRONMENT, environment())
        files = study_files(config, study)

        def check() -> None:
            presence.check()
            check_database()

        with ray_cluster(config, progress) as nodes, terminations():  # after Ray has set its own handler
            run = Run(config, data, study, progress, check, nodes, files, Watch(config, study))
            run.check_resources()
            *_, predictions = prediction_bytes(config, data)
            progress.say(f"Data: {data.name}; {predictions}.")
            run.measure()
            with _timed(config.folder, "search"):
                optimal = search_stage(run)
            reached("search finished")
            run.settings = TrialSettings(config, config.folder, optimal, run.device, run.files.remote, config.cache)
            with _timed(config.folder, "sweep"):
                sweep_stage(run)
            reached("sweep finished")
            with _timed(config.folder, "finalists"):
                best, allowed, full = finalists_stage(run)
            reached("finalists finished")
            candidates = {"sweep": sweep_hits(study), "finalists": full}
            for stage, hits in candidates.items():
                progress.say(f"Candidates of the {stage}: {hits}.")
            with _timed(config.folder, "ensemble"):
                outcome = ensemble_stage(run, best)
            reached("ensemble finished")
            device = run.device
        with suppress(WriteError):
            run.files.shared.remove(RAY)
        for folder, suffix in ((TRIALS, ".pt"), (PREDICTIONS, ".pt")):  # the folder is then a whole study
            run.files.fetch_all(folder, suffix)
        trial = study.get_trials(deepcopy=False)[best.number]
        result = {
            "best_trial": {"number": trial.number, "params": trial.params, "value": trial.values[0]},
            "feasible": allowed,
            **outcome,
            "trials": finished_trials(study),
            "candidates": {stage: dataclasses.asdict(hits) for stage, hits in candidates.items()},
            "optimal": optimal.to_dict(),
            "seconds": stage_seconds(config.folder),
            "seed": config.seed,
            "device": device,
            "config": config.to_dict(),
            **environment(),
        }
        from tune_jobs.report.sweep_report import write_report  # plotly would delay the start

        reached("results complete")
        write_report(config.folder, study, result)
        reached("report written")
        archive_result(config.folder)
        write_json(config.folder / RESULT, result)  # last: it marks the study as finished
        return result
