"""The stages of a study, each a Ray Tune run: search, sweep, finalists, final ensemble; resumable at each."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from sqlalchemy.exc import OperationalError

from edgenes.checkpoint import is_unwritable, write_json, write_text
from edgenes.data import Dataset
from edgenes.errors import ConfigError, EdgeNESError, StudyError, WriteError
from edgenes.genotype import Genotype
from tune_jobs.config import SweepConfig
from tune_jobs.environment import environment
from tune_jobs.final import (
    Finalist,
    archive_result,
    choose_finalist,
    file_digest,
    final_training,
    finalist_entries,
    finished,
    retraining_jobs,
)
from tune_jobs.lock import study_lock
from tune_jobs.progress import Progress
from tune_jobs.progress_callback import ProgressCallback
from tune_jobs.report import write_report
from tune_jobs.saved import (
    CONFIG,
    GENOTYPE,
    checked_trials,
    load_study_data,
    plain_config,
    stage_seconds,
    storage_url,
    stored_genotype,
    study_name,
)
from tune_jobs.searcher import RecordCallback, StudyPruning, StudySearcher
from tune_jobs.storage import kept_from_children, plain_reason
from tune_jobs.study import best_trial, common_failure, make_sampler, open_study, search_space, trials_frame
from tune_jobs.trainables import candidate_retraining, ensemble_selection, genotype_search, sweep_trial
from tune_jobs.trial import TrialSettings
from tune_jobs.untrusted import check_folder


class Interrupted(StudyError):
    """The user or the scheduler stopped the study; everything finished is stored."""


def prepare_folder(folder: Path) -> None:
    """Create the study's folder; raises StudyError if it cannot be written, or something in it leads out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)  # before the probe, which a link of its name would send elsewhere
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


def _check_reachable(address: str) -> None:
    """Raise StudyError at once if nothing answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "local", "auto": Ray knows where
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise StudyError(f"no Ray cluster at {address}: {error}. Start it, or correct --address.") from error


@contextmanager
def ray_cluster(config: SweepConfig, progress: Progress) -> Iterator[dict[str, float]]:
    """Join or start Ray; yields its resources. Address: `--address`, else RAY_ADDRESS, else this machine."""
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": config.dashboard}
    _check_reachable(address)
    try:
        with kept_from_children():  # Ray's processes need no storage
            context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StudyError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}. Check --address.") from error
    try:
        if context.dashboard_url:
            progress.say(f"Ray dashboard: http://{context.dashboard_url}")
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


@dataclasses.dataclass
class Run:
    """One driver's work on a study: what its stages need."""

    config: SweepConfig
    data: Dataset
    study: optuna.Study
    progress: Progress
    check: Callable[[], None]
    resources: dict[str, float]
    settings: TrialSettings | None = None

    @property
    def folder(self) -> Path:
        return self.config.folder

    @property
    def gpus(self) -> float:
        """GPUs of a trial."""
        asked = self.config.gpus_per_trial
        available = self.resources.get("GPU", 0)
        if asked is None:
            return 1.0 if available >= 1 and self.config.device != "cpu" else 0.0
        return asked

    @property
    def device(self) -> str:
        """Where trials compute."""
        if self.config.device != "auto":
            return self.config.device
        return "cuda" if self.gpus > 0 else "cpu"

    def check_resources(self) -> None:
        """Raise ConfigError where a trial asks for more than the cluster has: it would wait for ever."""
        for name, asked in (("CPU", self.config.cpus_per_trial), ("GPU", self.gpus)):
            available = self.resources.get(name, 0)
            if asked > available:
                raise ConfigError(
                    f"a trial asks for {asked:g} {name}s and the cluster has {available:g}: lower "
                    f"--{name.lower()}s-per-trial, or join a larger cluster with --address."
                )
        if self.device == "cuda" and self.gpus == 0:
            raise ConfigError("--device cuda needs GPUs: the cluster has none, or --gpus-per-trial is 0.")

    @property
    def slots(self) -> int:
        """Trials at once: as many as fit, at most --max-concurrent."""
        fit = self.resources["CPU"] // self.config.cpus_per_trial
        if self.gpus > 0:
            fit = min(fit, self.resources["GPU"] // self.gpus)
        return max(1, min(int(fit), self.config.max_concurrent or 10**6))

    def tune(
        self,
        stage: str,
        trainable: Callable,
        space: dict[str, Any],
        name_of: Callable[[Any], str],
        parameters: dict[str, Any],
        callbacks: list[tune.Callback] | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """One Ray Tune run under `ray/`, a folder of its own a driver; returns each trial's last report."""
        self.check()
        folder = self.folder / "ray"
        name = next(f"{stage}-{k}" for k in itertools.count(1) if not (folder / f"{stage}-{k}").exists())
        resources = {"CPU": self.config.cpus_per_trial, "GPU": self.gpus}
        trainable = tune.with_resources(tune.with_parameters(trainable, **parameters), resources)
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                reuse_actors=self.gpus == 0,
                trial_name_creator=name_of,
                trial_dirname_creator=lambda trial: f"{name_of(trial)}-{trial.trial_id}".replace(" ", "-"),
                max_concurrent_trials=self.slots,
                **options,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(folder),
                verbose=0,
                callbacks=[*(callbacks or []), ProgressCallback(self.progress, name_of, _describe)],
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
        outcomes = [_outcome(result) for result in tuner.fit()]
        if "search_alg" not in options:  # a searcher has recorded those of its trials, and said them
            for warning in dict.fromkeys(text for outcome in outcomes for text in outcome.get("warnings", ())):
                self.progress.say(warning)
        return outcomes

    def clean(self, stage: str) -> None:
        """Remove Ray's files of a finished stage: what the study needs is elsewhere."""
        for path in (self.folder / "ray").glob(f"{stage}-*"):
            shutil.rmtree(path, ignore_errors=True)


def _outcome(result: tune.Result) -> dict[str, Any]:
    """A trial's last report; one whose worker died too often has failed, and is not merely interrupted."""
    outcome = result.metrics or {}
    if result.error is not None and "status" not in outcome:
        outcome = {**outcome, "status": "failed", "reason": "its worker died more often than allowed; out of memory?"}
    return outcome


def _failure(outcome: dict[str, Any], what: str) -> StudyError:
    if not outcome.get("status"):
        return Interrupted(f"{what} was interrupted. Run the same command again to go on.")
    return StudyError(f"{what} failed: {outcome.get('reason')}")


def search_stage(run: Run) -> Genotype:
    """Stage 1: the optimal genotype, searched once, or the user's own; kept in search/genotype.json."""
    path = run.folder / GENOTYPE
    if path.exists():
        return stored_genotype(run.folder, run.config)
    if run.config.optimal != "darts":
        genotype = read_genotype(Path(run.config.optimal), run.config)
        write_text(path, genotype.to_json() + "\n")
        return genotype
    with run.progress.stage("Search", total=1, unit="search"):
        outcomes = run.tune(
            "search",
            genotype_search,
            {},
            lambda trial: "search",
            {
                "data": run.data.without_test(),
                "study": run.config,
                "folder": run.folder,
                "device": run.device,
            },
        )
        if not outcomes or outcomes[0].get("status") != "complete":
            raise _failure(outcomes[0] if outcomes else {}, "the search")
    run.clean("search")
    run.progress.say(outcomes[0]["summary"])
    return stored_genotype(run.folder, run.config)


def read_genotype(path: Path, config: SweepConfig) -> Genotype:
    """The user's optimal genotype; raises ConfigError if it is no genotype of the study's space."""
    try:
        genotype = Genotype.from_json(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"--optimal must be darts or a genotype file; {path} cannot be read: {error.strerror}."
        ) from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"--optimal must be darts or a genotype file; {path}: {error}") from error
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


class _BestCallback(tune.Callback):
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
            folder=run.folder,
            check=run.check,
        )
        with run.progress.stage("Sweep", config.trials, min(_done(study), config.trials), replaces_failed=True):
            run.tune(
                "sweep",
                sweep_trial,
                {},
                _trial_name,
                {"data": run.data.without_test(), "settings": run.settings},
                callbacks=[RecordCallback(searcher), _BestCallback(study, run.progress)],
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


def _describe(config: dict[str, Any]) -> str:
    params = config.get("params")
    return f"c {params['c_start']:.3g} to {params['c_end']:.3g}, {params['pivots']} pivots" if params else ""


def _trial_name(trial: Any) -> str:
    number = trial.config.get("trial")
    return "trial" if number is None else f"trial {number}"


def finalists_stage(run: Run) -> tuple[Finalist, bool]:
    """Stage 3: retrain the finalists' candidates fully, in parallel, and choose the best hypernetwork on V."""
    config, settings = run.config, run.settings
    entries = finalist_entries(run.study, config, run.folder)
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
    if missing:
        with run.progress.stage("Finalists", len(jobs), len(jobs) - len(missing), unit="retraining"):
            outcomes = run.tune(
                "finalists",
                candidate_retraining,
                {"job": tune.grid_search(list(range(len(missing))))},
                lambda trial: f"retraining {trial.config['job'] + 1}" if "job" in trial.config else "retraining",
                {"data": data, "settings": settings, "jobs": [job.to_dict() for job in missing]},
            )
            failed = [outcome for outcome in outcomes if outcome.get("status") == "failed"]
            for outcome in outcomes:
                if outcome.get("status") == "unwritable":
                    raise _failure(outcome, "a retraining")
            if any(not outcome.get("status") for outcome in outcomes):
                raise Interrupted("stopped while retraining the finalists. Run the same command again to go on.")
            for outcome in failed:
                run.progress.say(f"a retraining failed: {outcome['reason']}")
        run.clean("finalists")
    best, table = choose_finalist(settings, data, entries)
    target = run.folder / "hypernetwork"
    target.mkdir(exist_ok=True)
    shutil.copyfile(best.path, target / "hypernetwork.pt.new")
    os.replace(target / "hypernetwork.pt.new", target / "hypernetwork.pt")
    write_json(target / "finalists.json", {"chosen": best.number, "finalists": table})
    return best, allowed


def ensemble_stage(run: Run, best: Finalist) -> dict[str, Any]:
    """Stage 4: the final trial, which consumes the best hypernetwork, reads T once and saves the ensemble."""
    path = run.folder / "hypernetwork" / "hypernetwork.pt"
    config = {"hypernetwork": str(path), "digest": file_digest(path)}
    with run.progress.stage("Ensemble", total=1, unit="ensemble"):
        outcomes = run.tune(
            "ensemble",
            ensemble_selection,
            config,
            lambda trial: "final ensemble",
            {"data": run.data, "settings": run.settings, "finalist": best},
        )
        if not outcomes or outcomes[0].get("status") != "complete":
            raise _failure(outcomes[0] if outcomes else {}, "the final ensemble")
    run.clean("ensemble")
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


def run_study(config: SweepConfig, progress: Progress) -> dict[str, Any]:
    """Run or go on with a study; returns the content of result.json.

    Raises DataError, ConfigError, StudyError with what to do, Interrupted if it was stopped.
    """
    data = load_study_data(config)
    prepare_folder(config.folder)
    if config.optimal != "darts":
        read_genotype(Path(config.optimal), config)
    with study_lock(config.folder) as presence, _write_errors(config.folder):
        study = open_optuna(config, data)
        config = dataclasses.replace(config, storage=None)  # its password goes to no worker and into no file
        result = finished(config.folder, config.trials)
        if result is not None:
            progress.say(f"This study is finished ({result['trials']} trials); nothing to do. --trials adds more.")
            return result
        write_json(config.folder / CONFIG, plain_config(config, data.digest))
        write_json(config.folder / "environment.json", environment())
        with ray_cluster(config, progress) as resources, _terminations():  # after Ray has set its own handler
            run = Run(config, data, study, progress, presence.check, resources)
            run.check_resources()
            with _timed(config.folder, "search"):
                optimal = search_stage(run)
            run.settings = TrialSettings(config, config.folder, optimal, run.device)
            with _timed(config.folder, "sweep"):
                sweep_stage(run)
            with _timed(config.folder, "finalists"):
                best, allowed = finalists_stage(run)
            with _timed(config.folder, "ensemble"):
                outcome = ensemble_stage(run, best)
            device = run.device
        shutil.rmtree(config.folder / "ray", ignore_errors=True)
        trial = study.get_trials(deepcopy=False)[best.number]
        result = {
            "best_trial": {"number": trial.number, "params": trial.params, "value": trial.values[0]},
            "feasible": allowed,
            **outcome,
            "trials": _done(study),
            "optimal": optimal.to_dict(),
            "seconds": stage_seconds(config.folder),
            "seed": config.seed,
            "device": device,
            "config": config.to_dict(),
            **environment(),
        }
        write_report(config.folder, study, result)
        archive_result(config.folder)
        write_json(config.folder / "result.json", result)  # last: it marks the study as finished
        return result


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
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


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM, as SLURM sends it, stops the study as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
