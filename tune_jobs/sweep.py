"""The stages of a study, each a Ray Tune run: search, sweep, finalists, final ensemble; resumable at each."""

import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from sqlalchemy.exc import OperationalError

from edgenes.checkpoint import is_unwritable, write_atomically, write_json, write_text
from edgenes.data import Dataset
from edgenes.errors import ConfigError, EdgeNESError, Interrupted, StudyError, WriteError
from edgenes.genotype import Genotype
from tune_jobs.cache import cache_setting
from tune_jobs.config import SweepConfig
from tune_jobs.database_lock import database_lock
from tune_jobs.environment import environment
from tune_jobs.estimate import prediction_bytes
from tune_jobs.final import (
    FINALISTS,
    HYPERNETWORK,
    TEST_READS,
    Finalist,
    archive_result,
    choose_finalist,
    file_digest,
    final_training,
    finalist_entries,
    finished,
    retraining_jobs,
)
from tune_jobs.hits import Hits, sweep_hits
from tune_jobs.lock import DRIVER, study_lock
from tune_jobs.progress import Progress
from tune_jobs.ray_job import check_job_folder
from tune_jobs.remote import StudyFiles, join_remote
from tune_jobs.run import Run, failure, ray_cluster, terminations
from tune_jobs.saved import (
    CONFIG,
    GENOTYPE,
    LOGITS,
    checked_trials,
    load_study_data,
    plain_config,
    stage_seconds,
    storage_url,
    stored_genotype,
    study_name,
)
from tune_jobs.searcher import RAY, RecordCallback, StudyPruning, StudySearcher
from tune_jobs.storage import DATABASE, plain_reason
from tune_jobs.study import best_trial, common_failure, make_sampler, open_study, search_space, trials_frame
from tune_jobs.trainables import (
    candidate_retraining,
    ensemble_selection,
    genotype_search,
    newest_checkpoint,
    sweep_trial,
)
from tune_jobs.trial import TrialSettings
from tune_jobs.untrusted import check_folder
from tune_jobs.watch.loggers import check_loggers
from tune_jobs.watch.names import trial_name
from tune_jobs.watch.watch import Watch, optuna_command


def prepare_folder(folder: Path, *own: str) -> None:
    """Create the folder of a study, which is known by one of its `own` files.

    Raises StudyError if it cannot be written, something in it leads out of it, or it holds what is no study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)  # before the probe, which a link of its name would send elsewhere
        known = any((folder / name).exists() for name in own)
        if not known and any(not path.name.startswith(DRIVER) for path in folder.iterdir()):
            raise StudyError(
                f"{folder} holds other files and no study of this kind: give --out a folder that is new or empty."
            )
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"the study's folder {folder} cannot be written ({error.strerror}): choose another one with --out."
        ) from error


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


def search_stage(run: Run) -> Genotype:
    """Stage 1: the optimal genotype, searched once, or the user's own; kept in search/genotype.json."""
    path = run.files.fetch(GENOTYPE)
    if path.exists():
        return stored_genotype(run.folder, run.config)
    if run.config.genotype_file:
        genotype = read_genotype(run.config.genotype_file, run.config)
        write_text(path, genotype.to_json() + "\n")
        return genotype
    with run.progress.stage("Search", total=1, unit="search"):
        outcomes = run.tune(
            "search",
            genotype_search,
            {"checkpoint": newest_checkpoint(run.files.shared, "search")},
            lambda trial: "search",
            {
                "data": run.data_ref,
                "study": run.config,
                "files": run.files,
                "device": run.device,
                "cache": run.config.cache,
            },
        )
        if not outcomes or outcomes[0].get("status") != "complete":
            raise failure(outcomes[0] if outcomes else {}, "the search")
    run.clean("search")
    run.progress.say(outcomes[0]["summary"])
    if run.config.optimal == "darts":
        run.files.fetch(LOGITS)
    run.files.fetch(GENOTYPE)
    return stored_genotype(run.folder, run.config)


def read_genotype(path: Path, config: SweepConfig) -> Genotype:
    """The user's optimal genotype; raises ConfigError if it is no genotype of the study's space."""
    try:
        genotype = Genotype.from_json(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"--optimal must be darts, halving or a genotype file; {path} cannot be read: {error.strerror}."
        ) from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"--optimal must be darts, halving or a genotype file; {path}: {error}") from error
    if genotype.space != config.space:
        raise ConfigError(
            f"the genotype in {path} has {genotype.space.nodes} nodes with {genotype.space.inputs_per_node} inputs, "
            f"the study has {config.nodes} with {config.inputs_per_node}: give --nodes and --inputs-per-node alike."
        )
    return genotype


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


def _done(study: optuna.Study) -> int:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def sweep_stage(run: Run) -> None:
    """Stage 2: Optuna's trials, until the budget of complete and pruned ones is reached."""
    config, study = run.config, run.study
    if _done(study) < config.trials:
        startup = max(4, config.trials // 4)
        cap = max(4, config.trials // 2) + len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,)))
        searcher = StudySearcher(
            study,
            search_space(config.estimator),
            budget=config.trials,
            max_failures=cap,
            make_sampler=lambda seed: make_sampler(config.sampler, seed, startup),
            files=run.files,
            check=run.check,
            before_tell=run.watch.album(run.settings.optimal),
        )
        with run.progress.stage("Sweep", config.trials, min(_done(study), config.trials), replaces_failed=True):
            run.tune(
                "sweep",
                sweep_trial,
                {},
                trial_name,
                {"data": run.data_ref, "settings": run.settings},
                callbacks=[RecordCallback(searcher), BestCallback(study, run.progress)],
                search_alg=searcher,
                scheduler=StudyPruning(searcher),
                num_samples=-1,
            )
            write_text(run.folder / "trials.csv", trials_frame(study).to_csv(index=False))
            if searcher.unwritable:
                raise StudyError(f"the sweep stopped: {searcher.unwritable}")
            done = _done(study)
            failed = len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,)))
            if done < config.trials and failed >= cap:
                shared = common_failure(study)
                raise StudyError(
                    f"the sweep gave up: {failed} trials failed"
                    + (f", all for the same reason: {shared}" if shared else "; see trials.csv for the reasons.")
                )
            if done < config.trials:
                raise Interrupted(
                    f"stopped with {done} of {config.trials} trials finished; all are stored. "
                    "Run the same command again to go on."
                )
        run.clean("sweep")
    else:
        write_text(run.folder / "trials.csv", trials_frame(study).to_csv(index=False))


def finalists_stage(run: Run) -> tuple[Finalist, bool, Hits]:
    """Stage 3: retrain the finalists' candidates fully, in parallel, and choose the best hypernetwork on V."""
    config, settings = run.config, run.settings
    entries = finalist_entries(run.study, config)
    if not entries:
        raise StudyError(
            "no trial of the sweep is complete: every one was pruned. Lower --ensemble-size, leave out "
            "--prune-infeasible or --pruner, or add --trials."
        )
    _, allowed = best_trial(run.study)
    if not allowed:
        run.progress.say("No trial is feasible: the one with the least control error is taken.")
    jobs = retraining_jobs(settings, entries)
    data = run.data.without_test()
    store = settings.store
    keys = [store.key(final_training(settings, job.repeat), data, job.genotype) for job in jobs]
    missing = [job for job, key in zip(jobs, keys, strict=True) if store.find(key, weights=True) is None]
    hits = Hits(len(jobs), len(jobs) - len(missing))
    if missing:
        with run.progress.stage("Finalists", len(jobs), len(jobs) - len(missing), unit="retraining"):
            outcomes = run.tune(
                "finalists",
                candidate_retraining,
                {"job": tune.grid_search(list(range(len(missing))))},
                lambda trial: f"retraining {trial.config['job'] + 1}" if "job" in trial.config else "retraining",
                {"data": run.data_ref, "settings": settings, "jobs": [job.to_dict() for job in missing]},
            )
            failed = [outcome for outcome in outcomes if outcome.get("status") == "failed"]
            for outcome in outcomes:
                if outcome.get("status") == "unwritable":
                    raise failure(outcome, "a retraining")
            if any(not outcome.get("status") for outcome in outcomes):
                raise Interrupted("stopped while retraining the finalists. Run the same command again to go on.")
            hits += Hits.of(outcomes)
            for outcome in failed:
                run.progress.say(f"a retraining failed: {outcome['reason']}")
        run.clean("finalists")
    best, table = choose_finalist(settings, data, entries)
    chosen = settings.hypernetwork(best.number).read_bytes()
    write_atomically(run.folder / HYPERNETWORK, lambda file: file.write(chosen))
    run.files.publish(HYPERNETWORK)
    write_json(run.folder / FINALISTS, {"chosen": best.number, "finalists": table})
    return best, allowed, hits


def ensemble_stage(run: Run, best: Finalist) -> dict[str, Any]:
    """Stage 4: the final trial, which consumes the best hypernetwork, reads T once and saves the ensemble."""
    config = {"hypernetwork": file_digest(run.folder / HYPERNETWORK)}
    with run.progress.stage("Ensemble", total=1, unit="ensemble"):
        outcomes = run.tune(
            "ensemble",
            ensemble_selection,
            config,
            lambda trial: "final ensemble",
            {"data": run.data_ref, "test": run.data.test, "settings": run.settings, "finalist": best},
        )
        if not outcomes or outcomes[0].get("status") != "complete":
            raise failure(outcomes[0] if outcomes else {}, "the final ensemble")
    run.clean("ensemble")
    for name in ("ensemble/ensemble.pt", "ensemble/card.json", TEST_READS):
        run.files.fetch(name, fresh=True)
    return json.loads(outcomes[0]["result"])


@contextmanager
def _timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to stages.json, over all drivers; a damaged one is told before the stage begins."""
    start, seconds = time.monotonic(), stage_seconds(folder)
    try:
        yield
    finally:
        seconds[stage] = round(seconds.get(stage, 0) + time.monotonic() - start, 2)
        with suppress(WriteError):  # a full disk has been met before, or is by the next who writes
            write_json(folder / "stages.json", seconds)


def study_files(config: SweepConfig, study: optuna.Study) -> StudyFiles:
    """The study's files: those of its folder, and of --storage-path where that is given.

    Raises ConfigError or StudyError if there can be none, or another study's are there.
    """
    if config.storage_path is None:
        return StudyFiles(config.folder)
    identifier = study.user_attrs.get("files")
    if identifier is None:
        identifier = uuid.uuid4().hex
        study.set_user_attr("files", identifier)
    return StudyFiles(config.folder, join_remote(config.storage_path, config.folder.name, identifier))


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
        write_json(config.folder / "environment.json", environment())
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
            run.settings = TrialSettings(config, config.folder, optimal, run.device, run.files.remote, config.cache)
            with _timed(config.folder, "sweep"):
                sweep_stage(run)
            with _timed(config.folder, "finalists"):
                best, allowed, full = finalists_stage(run)
            candidates = {"sweep": sweep_hits(study), "finalists": full}
            for stage, hits in candidates.items():
                progress.say(f"Candidates of the {stage}: {hits}.")
            with _timed(config.folder, "ensemble"):
                outcome = ensemble_stage(run, best)
            device = run.device
        with suppress(WriteError):
            run.files.shared.remove(RAY)
        for folder, suffix in (("trials", ".pt"), ("predictions", ".pt")):  # the folder is then a whole study
            run.files.fetch_all(folder, suffix)
        trial = study.get_trials(deepcopy=False)[best.number]
        result = {
            "best_trial": {"number": trial.number, "params": trial.params, "value": trial.values[0]},
            "feasible": allowed,
            **outcome,
            "trials": _done(study),
            "candidates": {stage: dataclasses.asdict(hits) for stage, hits in candidates.items()},
            "optimal": optimal.to_dict(),
            "seconds": stage_seconds(config.folder),
            "seed": config.seed,
            "device": device,
            "config": config.to_dict(),
            **environment(),
        }
        from tune_jobs.report import write_report  # plotly would delay the start

        write_report(config.folder, study, result)
        archive_result(config.folder)
        write_json(config.folder / "result.json", result)  # last: it marks the study as finished
        return result


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk, or a database that stays locked, under this driver is a StudyError, not a traceback."""
    try:
        yield
    except EdgeNESError:
        raise
    except Exception as error:
        cause: BaseException | None = error  # Ray and Optuna wrap what they met
        while cause is not None and not (is_unwritable(cause) or isinstance(cause, OperationalError)):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise StudyError(
            f"the study in {folder} could not be written: {plain_reason(cause, '')}. All that was finished is stored; "
            "free some space, or make the folder writable, and run the same command again."
        ) from error
