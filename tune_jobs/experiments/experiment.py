"""The paper's experiments as jobs of Ray Tune runs: each job's result is a file, so that a study goes on where it was.

A study maps functions over jobs: `bench` has searches, networks and data, as a worker sees them. All it may ask for is
kept by content, in the study's folder and in the user's cache, so that no study computes what another has computed.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from edgenes.checkpoint import read_json, write_json
from edgenes.config import digest
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import CheckpointError, WriteError
from edgenes.methods.budget import Setting
from edgenes.methods.result import Member
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.training.bilevel import SEARCH_VERSION
from edgenes.training.retraining import TRAINING_VERSION, predict
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.errors import Interrupted, StudyError
from tune_jobs.execution.cluster import check_job_folder, ray_cluster, terminations
from tune_jobs.execution.run import Run, failure
from tune_jobs.execution.worker import outcome_of, send, use_resources
from tune_jobs.files.cache import cache_setting, open_cache
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import EXPERIMENT, JOBS, PREDICTIONS, RAY, RESULT, SEARCHES
from tune_jobs.files.lease import study_lock
from tune_jobs.files.search_store import SearchStore, StoredTrainer
from tune_jobs.files.study_files import Remote, StudyFiles, join_remote
from tune_jobs.messages import Report, Status
from tune_jobs.progress.display import Progress
from tune_jobs.report.findings import Findings, write_findings
from tune_jobs.study.folder import prepare_folder, write_errors
from tune_jobs.study.optuna_study import check_settings
from tune_jobs.study.result import read_test, test_reads
from tune_jobs.watch.callbacks import Watch

JOBS_VERSION = 1
"""Raise it with every change of the methods or of a study's jobs after which their results are no longer comparable."""
Job = dict[str, Any]
"""Plain values that a function of a study turns into plain values; "name" is its own in its stage."""


@dataclass(frozen=True)
class Bench:
    """What a job computes with, as a worker sees it: the trainer, the data without T, and the study's setting."""

    trainer: StoredTrainer
    setting: Setting
    store: PredictionStore

    @property
    def data(self) -> Dataset:
        """The data, without T."""
        return self.trainer.data

    def of_seed(self, seed: int) -> Setting:
        """The setting of one of the independent searches."""
        return self.setting.of_seed(seed)


@dataclass(frozen=True)
class _Workplace:
    """Where the jobs of a study leave and find their files."""

    folder: Path
    remote: Remote | None
    cache: str | None
    setting: Setting

    @property
    def files(self) -> StudyFiles:
        return StudyFiles(self.folder, self.remote)

    def on_this_node(self) -> "_Workplace":
        return replace(self, folder=self.files.on_this_node().folder)

    def bench(self, data: Dataset, say: Callable[[str], None]) -> Bench:
        cache = open_cache(self.cache)
        store = PredictionStore(self.files.below(PREDICTIONS), cache)
        trainer = StoredTrainer(data, SearchStore(self.files.below(SEARCHES), cache), store, say)
        return Bench(trainer, self.setting, store)


def _result_name(stage: str, job: Job) -> str:
    return f"{JOBS}/{stage}/{job['name'].replace(' ', '-')}.json"


def experiment_job(
    config: dict[str, Any],
    data: Dataset,
    stage: str,
    jobs: list[Job],
    function: Callable[..., dict[str, Any]],
    place: _Workplace,
    extra: dict[str, Any],
) -> None:
    """The trainable of every stage: `function(job, bench, **extra)` of job number config["job"], its result a file."""
    use_resources()
    place = place.on_this_node()
    job, steps = jobs[config["job"]], 0

    def say(text: str) -> None:
        nonlocal steps
        steps += 1
        send(Report(step=steps, steps=0, note=text))

    def run() -> Report:
        found = function(job, place.bench(data, say), **extra)
        name = _result_name(stage, job)
        about = {"job": job, "device": place.setting.search.device, "environment": environment()}
        write_json(place.files.folder / name, {**about, "result": found, "digest": digest(found)})
        place.files.publish(name)
        return Report(status=Status.COMPLETE, note=str(found.get("note", "")))

    send(replace(outcome_of(run), step=steps + 1, steps=steps + 1))


@dataclass
class Experiment:
    """One driver's work on an experiment: maps functions over jobs, and evaluates ensembles on T at the end."""

    config: ExperimentConfig
    run: Run
    place: _Workplace
    commits: set[str] = field(default_factory=set)
    """The commits of the code that computed the jobs."""

    @property
    def progress(self) -> Progress:
        """Where to say what goes on."""
        return self.run.progress

    @property
    def setting(self) -> Setting:
        """The budgets, of seed 0."""
        return self.place.setting

    def map(
        self, stage: str, function: Callable[..., dict[str, Any]], jobs: Sequence[Job], **extra: Any
    ) -> list[dict[str, Any]]:
        """`function(job, bench, **extra)` of each job, those that have no result yet in parallel; results in order.

        Raises StudyError where a job failed, after the others have ended, and Interrupted if it was stopped.
        """
        names = [job["name"] for job in jobs]
        if len(set(names)) < len(names):
            raise ValueError(f"jobs of the stage {stage} share a name")
        found = [self._stored(stage, job) for job in jobs]
        missing = [job for job, result in zip(jobs, found, strict=True) if result is None]
        if missing:
            title = stage[:1].upper() + stage[1:]
            with self.progress.stage(title, len(jobs), len(jobs) - len(missing), unit="job"):
                outcomes = self.run.tune(
                    stage,
                    experiment_job,
                    {"job": tune.grid_search(list(range(len(missing))))},
                    _named(missing),
                    {
                        "data": self.run.data_ref,
                        "stage": stage,
                        "jobs": missing,
                        "function": function,
                        "place": self.place,
                        "extra": extra,
                    },
                )
                for outcome in outcomes:
                    if outcome.status == Status.UNWRITABLE:
                        raise failure(outcome, "a job")
                failed = [outcome for outcome in outcomes if outcome.status == Status.FAILED]
                if failed:
                    raise StudyError(
                        f"{len(failed)} of {len(missing)} jobs failed, the others are stored: {failed[0].reason} "
                        "Run the same command again when that is mended; with other settings, give another --out."
                    )
                if any(outcome.status is None for outcome in outcomes):
                    raise Interrupted("stopped; all finished jobs are stored. Run the same command again to go on.")
            self.run.clean(stage)
            found = [self._stored(stage, job) for job in jobs]
        return found

    def _stored(self, stage: str, job: Job) -> dict[str, Any] | None:
        path = self.place.files.fetch(_result_name(stage, job))
        if not path.exists():
            return None
        with suppress(CheckpointError, KeyError, TypeError):
            stored = read_json(path)
            if stored["job"] == json.loads(json.dumps(job)) and stored["digest"] == digest(stored["result"]):
                self.commits.add(str(stored["environment"]["commit"]))
                return stored["result"]
        return None

    def evaluate(self, ensembles: dict[str, Sequence[Member]]) -> dict[str, dict[str, Any]]:
        """{"ensemble": scores on T, "members": [scores]} of each ensemble by name; to be called once, at the end.

        T chooses nothing: what is evaluated was chosen before. Each reading is noted in the study's test_reads.jsonl.
        """
        jobs = [
            {"name": name, "members": [member.to_dict() for member in members]} for name, members in ensembles.items()
        ]
        missing = [job for job in jobs if self._stored("test", job) is None]
        test = None
        if missing:
            test = ray.put(read_test(self.run.data, self.place.files, f"{len(missing)} ensembles, all chosen before"))
        results = self.map("test", on_test, jobs, test=test)
        return dict(zip(ensembles, results, strict=True))


def _named(jobs: list[Job]) -> Callable[[Any], str]:
    names = [job["name"] for job in jobs]

    def name_of(trial: Any) -> str:
        return names[trial.config["job"]] if "job" in trial.config else "job"

    return name_of


def on_test(job: Job, bench: Bench, test: Any) -> dict[str, Any]:
    """Scores on T of an ensemble and of its members."""
    part: Part = ray.get(test) if isinstance(test, ray.ObjectRef) else test
    predictions = []
    for member in map(Member.from_dict, job["members"]):
        record = bench.trainer.retrain(member.config, member.genotype)
        network = bench.store.network(record, member.config, bench.data, member.genotype)
        predictions.append(np.exp(predict(network, part, bench.data, member.config.device).astype(np.float64)))
    return {
        "ensemble": summary(ensemble_probabilities(np.stack(predictions)), part.labels),
        "members": [summary(each, part.labels) for each in predictions],
    }


def run_experiment(
    config: ExperimentConfig, study: Callable[[Experiment], Findings], progress: Progress
) -> tuple[Findings, Path]:
    """Run or go on with an experiment; returns what it found and the page that shows it.

    Raises DataError, ConfigError, StudyError with what to do, Interrupted if it was stopped.
    """
    check_job_folder(config.out)
    data = config.load()
    execution = replace(config.execution, cache=cache_setting(config.cache))
    prepare_folder(config.folder, EXPERIMENT)
    with study_lock(config.folder) as presence, write_errors(config.folder):
        identifier = _identify(config, data)
        remote = (
            join_remote(config.storage_path, config.folder.name, identifier)
            if config.storage_path is not None
            else None
        )
        files = StudyFiles(config.folder, remote)
        with ray_cluster(execution, progress) as nodes, terminations():
            run = Run(execution, data, None, progress, presence.check, nodes, files, Watch(execution, None))
            run.check_resources()
            progress.say(f"Data: {data.name}, {len(data.training)} training images, {len(data.validation)} for V.")
            place = _Workplace(config.folder, remote, execution.cache, config.setting(run.device))
            experiment = Experiment(config, run, place)
            findings = study(experiment)
            device = run.device
        with suppress(WriteError):
            files.shared.remove(RAY)
        for name in (SEARCHES, PREDICTIONS):  # the folder is then a whole study
            files.fetch_all(name, ".pt")
        reads = test_reads(config.folder)
        if reads > 1:
            again = f"T was read {reads} times: seeds were added after results on T had been seen, or a run was stopped"
            again += " while it read T, or a result on T was damaged."
            findings = replace(findings, conclusions=[*findings.conclusions, again])
        provenance = {"config": config.to_dict(), "data": data.digest, "device": device, "test_reads": reads}
        provenance |= {"job_commits": sorted(experiment.commits), **environment()}
        path = write_findings(config.folder, findings, provenance)
        write_json(config.folder / RESULT, {"conclusions": list(findings.conclusions), **provenance})
        return findings, path


def _identify(config: ExperimentConfig, data: Dataset) -> str:
    """Note what the experiment is, or check that it is the same; returns its identifier."""
    path = config.folder / EXPERIMENT
    versions = {"search": SEARCH_VERSION, "training": TRAINING_VERSION, "jobs": JOBS_VERSION}
    asked = {**config.defining(), "study": config.NAME, "data": data.digest, "versions": versions}
    asked = json.loads(json.dumps(asked))
    if path.exists():
        try:
            stored = read_json(path)
        except CheckpointError as error:
            raise StudyError(
                f"{error} It says what the experiment is: put it back from a copy, or begin anew with another --out, "
                "where what the common cache holds is not trained again."
            ) from error
        known = stored.get("defining") if isinstance(stored, dict) else None
        if not isinstance(known, dict) or not isinstance(stored.get("identifier"), str):
            raise StudyError(f"{path} is no experiment's: give --out a folder that is new or empty.")
        check_settings(known, asked, str(config.folder))
        return stored["identifier"]
    identifier = uuid.uuid4().hex
    write_json(path, {"defining": asked, "identifier": identifier, "config": config.to_dict(), **environment()})
    return identifier
