"""A sweep from data to ensemble: search, sweep, finalists, ensemble; it resumes at each stage."""

import dataclasses
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from edgenes.checkpoint import write_json
from edgenes.data.dataset import Dataset
from edgenes.ensemble import Ensemble
from edgenes.errors import DataError, WriteError
from tune_jobs.config.genotype_file import read_genotype
from tune_jobs.config.passwords import redact
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.cluster import check_job_folder, ray_cluster, terminations
from tune_jobs.execution.run import Run
from tune_jobs.files.cache import cache_setting
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import (
    CONFIG,
    DATABASE,
    ENSEMBLE_FOLDER,
    ENVIRONMENT,
    PREDICTIONS,
    RAY,
    RESULT,
    STAGES,
    TRIALS,
)
from tune_jobs.files.lease import study_lock
from tune_jobs.files.workplace import Workplace
from tune_jobs.moments import reached
from tune_jobs.progress.display import Progress
from tune_jobs.stages.ensemble import ensemble_stage
from tune_jobs.stages.estimate import prediction_bytes
from tune_jobs.stages.finalists import finalists_stage, sweep_hits
from tune_jobs.stages.search import search_stage
from tune_jobs.stages.sweep import sweep_stage
from tune_jobs.stages.warm_start import earlier_study, take_search, teach
from tune_jobs.study.enqueued import enqueued
from tune_jobs.study.folder import HOME, check_owner, home_of, identify, prepare_folder, study_files, write_errors
from tune_jobs.study.limits import planned_trials
from tune_jobs.study.optuna_study import METRICS, open_study
from tune_jobs.study.postgres_lock import database_lock
from tune_jobs.study.result import archive_result, finished
from tune_jobs.study.saved import (
    check_version,
    context_of,
    plain_config,
    stage_seconds,
    storage_url,
    study_name,
)
from tune_jobs.study.space import search_space
from tune_jobs.study.storage import storage_reference
from tune_jobs.study.trials import IDENTIFIER, choice, finished_trials
from tune_jobs.watch.loggers import check_loggers, log_result
from tune_jobs.watch.metrics import Metrics
from tune_jobs.watch.names import job_config, optuna_command


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: its folder, and the content of its result.json."""

    folder: Path
    values: dict[str, Any]

    @cached_property
    def ensemble(self) -> Ensemble:
        """The ensemble of the best hypernetwork's candidates."""
        return Ensemble.load(self.folder / ENSEMBLE_FOLDER)


def run_sweep(config: SweepConfig, data: Dataset | None = None, progress: Progress | None = None) -> SweepResult:
    """Run a study of the annealing, or resume it where it was interrupted.

    `data` is used in place of the configuration's data set; a study that has begun resumes only with the same data.
    Raises DataError, ConfigError, StudyError with what to do, Interrupted if it was stopped.
    """
    progress = progress or Progress()
    check_job_folder(config.out)
    check_loggers(config.execution.log)
    for params in config.enqueued:
        enqueued(params, search_space(config.search.estimator))
    earlier = earlier_study(config)
    if data is None:
        config = config.located()
        data = config.load()
    else:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, dataset=data.name))
        config.networks.check_images(data.image_size)
        if data.test is None:
            raise DataError("the data have no test part, on which the ensemble is scored at the end: give one.")
    folder = config.folder
    config = dataclasses.replace(config, storage=storage_reference(config.storage, folder))
    prepare_folder(folder, CONFIG, DATABASE)
    check_version(folder)
    if config.genotype_file:
        read_genotype(config.genotype_file, config.space)
    url, name = storage_url(config), study_name(config)
    cache = cache_setting(config.execution.cache)
    with study_lock(folder) as presence, write_errors(folder), database_lock(url, name) as check_database:
        study = open_optuna(config, data, url)
        if config.execution.dashboard:
            progress.say(f"Optuna's dashboard: {optuna_command(folder, url)}")
        result = finished(folder, planned_trials(config, study, stage_seconds(folder).get("sweep", 0)))
        if result is not None:
            ended = "; ".join(filter(None, (f"{result['trials']} trials", result.get("ended"))))
            more = "A larger limit" if result.get("ended") else "--trials"
            progress.say(f"This study is finished ({ended}); nothing to do. {more} adds more.")
            return SweepResult(folder, result)
        identifier = study.user_attrs[IDENTIFIER]
        write_json(folder / CONFIG, plain_config(config, data.digest, identifier))
        study.set_user_attr(HOME, home_of(folder))
        write_json(folder / ENVIRONMENT, environment())
        files = study_files(folder, config.execution.storage_path, identifier)
        if earlier is not None:
            progress.say(teach(study, config, earlier, data.digest))
            if taken := take_search(files, config, earlier, data.digest):
                progress.say(taken)

        def check() -> None:
            presence.check()
            check_database()

        job = job_config(folder, data.name)
        with ray_cluster(config.execution, job, progress) as nodes, terminations():  # after Ray has set its own handler
            run = Run(config.execution, data, progress, check, nodes, files, Metrics(folder.name, study))
            run.check_resources()
            *_, predictions = prediction_bytes(config, data)
            progress.say(f"Data: {data.name}; {predictions}.")
            result = _stages(run, config, study, Workplace(files, cache))
        with suppress(WriteError):
            files.shared.remove(RAY)
        for place in (TRIALS, PREDICTIONS):  # the folder is then a whole study
            files.fetch_all(place, ".pt")
        result |= {"seconds": stage_seconds(folder), "config": config.to_dict(), **environment()}
        from tune_jobs.report.sweep_report import write_report  # plotly would delay the start

        log_result(config.execution.log, folder, result)
        reached("results complete")
        write_report(folder, study, result)
        reached("report written")
        archive_result(folder)
        write_json(folder / RESULT, result)  # last: it marks the study as finished
        return SweepResult(folder, result)


def open_optuna(config: SweepConfig, data: Dataset, url: str) -> optuna.Study:
    """The Optuna study of the configuration, created or reopened; raises StudyError where they differ."""

    def claim(study: optuna.Study) -> None:
        identify(study, check_owner(study, config.folder, redact(url), inside=config.storage is None))

    study = open_study(
        study_name(config),
        url,
        space=search_space(config.search.estimator),
        objectives=config.objectives,
        pruner=config.pruner,
        seed=config.seed,
        candidates=config.budget.candidates,
        identity={**config.defining(), "data": data.digest},
        defaults=SweepConfig().defining(),
        enqueue=[enqueued(params, search_space(config.search.estimator)) for params in config.enqueued],
        claim=claim,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([METRICS[name] for name in config.objectives])
    return study


def _stages(run: Run, config: SweepConfig, study: optuna.Study, place: Workplace) -> dict[str, Any]:
    """The four stages; returns what they decide of result.json."""
    folder, setting = run.folder, config.setting(run.device)
    run.measure(setting, config.trains_supernet)
    with _timed(folder, "search"):
        optimal = search_stage(run, place, setting, config)
    reached("search finished")
    context = context_of(config, place, optimal, run.device)
    with _timed(folder, "sweep"):
        ended = sweep_stage(run, config, study, context)
    reached("sweep finished")
    with _timed(folder, "finalists"):
        best, allowed, full = finalists_stage(run, context, study, config.finalists, config.baselines)
    named = choice(study, best)
    from tune_jobs.watch.pictures import note_choice  # plotly and boto3 would delay the start

    note_choice(study, {name: trial["number"] for name, trial in named.items()})
    reached("finalists finished")
    candidates = {"sweep": sweep_hits(study), "finalists": full}
    for stage, hits in candidates.items():
        run.progress.say(f"Retrainings of the {stage}: {hits}.")
    with _timed(folder, "ensemble"):
        outcome = ensemble_stage(run, context, best, config.baselines, {"config": config.to_dict()})
    reached("ensemble finished")
    return {
        **named,
        "ended": ended,
        "feasible": allowed,
        **outcome,
        "trials": finished_trials(study),
        "candidates": {stage: dataclasses.asdict(hits) for stage, hits in candidates.items()},
        "optimal": optimal.to_dict(),
        "seed": config.seed,
        "device": run.device,
    }


@contextmanager
def _timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to stages.json, over all drivers."""
    start, seconds = time.monotonic(), stage_seconds(folder)
    try:
        yield
    finally:
        seconds[stage] = round(seconds.get(stage, 0) + time.monotonic() - start, 2)
        with suppress(WriteError):  # a full disk has been met before, or is by the next who writes
            write_json(folder / STAGES, seconds)
