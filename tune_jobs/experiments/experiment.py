"""The paper's experiments: functions mapped over jobs, and ensembles scored on T at the end."""

import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgenes.checkpoint import read_json, write_json
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import CheckpointError, WriteError
from edgenes.methods.budget import Setting
from edgenes.methods.trainer import Member
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.training.bilevel import SEARCH_VERSION
from edgenes.training.retraining import TRAINING_VERSION, predict
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.errors import StudyError
from tune_jobs.execution.cluster import check_job_folder, ray_cluster, terminations
from tune_jobs.execution.jobs import Bench, Function, Job, run_jobs, unfinished
from tune_jobs.execution.run import Run
from tune_jobs.files.cache import cache_setting
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import EXPERIMENT, PREDICTIONS, RAY, RESULT, SEARCHES
from tune_jobs.files.lease import study_lock
from tune_jobs.files.stored_trainer import network_of
from tune_jobs.files.workplace import Workplace
from tune_jobs.progress.display import Progress
from tune_jobs.report.findings import Findings, write_findings
from tune_jobs.study.folder import prepare_folder, study_files, write_errors
from tune_jobs.study.optuna_study import check_settings
from tune_jobs.study.result import read_test, test_reads
from tune_jobs.watch.loggers import check_loggers
from tune_jobs.watch.metrics import Metrics
from tune_jobs.watch.names import job_config

JOBS_VERSION = 3
"""Raise it with every change of the methods or of a study's jobs after which their results are no longer comparable."""


@dataclass
class Experiment:
    """One driver's work on an experiment: maps functions over jobs, and evaluates ensembles on T at the end."""

    config: ExperimentConfig
    run: Run
    place: Workplace
    setting: Setting
    """The budgets, of seed 0."""
    commits: set[str] = field(default_factory=set)
    """The commits of the code that computed the jobs."""

    def map(self, stage: str, function: Function, jobs: Sequence[Job], **shared: Any) -> list[dict[str, Any]]:
        """`function(job, bench, **shared)` of each job, those that have no result yet in parallel; results in order.

        Raises StudyError where a job failed, after the others have ended, and Interrupted if it was stopped.
        """
        results = run_jobs(self.run, self.place, self.setting, stage, function, jobs, **shared)
        self.commits |= results.commits
        if results.failed:
            raise StudyError(
                f"{len(results.failed)} of {results.stored.count(False)} jobs failed, the others are stored: "
                f"{results.failed[0].reason} Remove the cause and run the same command again, or give another --out "
                "for other settings."
            )
        return [result for result in results.found if result is not None]

    def evaluate(self, ensembles: dict[str, Sequence[Member]]) -> dict[str, dict[str, Any]]:
        """{"ensemble": scores on T, "members": [scores]} of each ensemble by name; to be called once, at the end.

        T chooses nothing: what is evaluated was chosen before. Each reading is noted in the study's test_reads.jsonl.
        """
        jobs = [
            {"name": name, "members": [member.to_dict() for member in members]} for name, members in ensembles.items()
        ]
        return dict(zip(ensembles, self.on_test(scored, jobs), strict=True))

    def on_test(self, function: Function, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """`function(job, bench, test=)` of each job, `test` being T; once, as `evaluate`."""
        missing, test = unfinished(self.place, "test", jobs), None
        if missing:
            purpose = f"{len(missing)} ensembles, all chosen before"
            test = read_test(self.run.data, self.place.files, purpose)
        return self.map("test", function, jobs, test=test)


def scored(job: Job, bench: Bench, test: Part) -> dict[str, Any]:
    """Scores on T of an ensemble and of its members."""
    predictions = []
    for member in map(Member.from_dict, job["members"]):
        found = bench.trainer.candidate(member.config, member.genotype)
        network = network_of(found.value, member.config, bench.data, member.genotype)
        predictions.append(np.exp(predict(network, test, bench.data, member.config.device).astype(np.float64)))
    return {
        "ensemble": summary(ensemble_probabilities(np.stack(predictions)), test.labels),
        "members": [summary(each, test.labels) for each in predictions],
    }


def run_experiment(
    config: ExperimentConfig, study: Callable[[Experiment], Findings], progress: Progress | None = None
) -> tuple[Findings, Path]:
    """Run an experiment, or resume it where it was interrupted; returns what it found and the page that shows it.

    Raises DataError, ConfigError, StudyError with what to do, Interrupted if it was stopped.
    """
    progress = progress or Progress()
    check_job_folder(config.out)
    check_loggers(config.execution.log)
    config = config.located()
    data, folder = config.load(), config.folder
    cache = cache_setting(config.execution.cache)
    prepare_folder(folder, EXPERIMENT)
    with study_lock(folder) as presence, write_errors(folder):
        identifier = _identify(config, data)
        files = study_files(folder, config.execution.storage_path, identifier)
        with ray_cluster(config.execution, job_config(folder, data.name), progress) as nodes, terminations():
            run = Run(config.execution, data, progress, presence.check, nodes, files, Metrics(folder.name))
            run.check_resources()
            progress.say(f"Data: {data.name}, {len(data.training)} training images, {len(data.validation)} for V.")
            setting = config.setting(run.device)
            run.measure(setting)
            experiment = Experiment(config, run, Workplace(files, cache), setting)
            findings = study(experiment)
            device = run.device
        with suppress(WriteError):
            files.shared.remove(RAY)
        for name in (SEARCHES, PREDICTIONS):  # the folder is then a whole study
            files.fetch_all(name, ".pt")
        reads = test_reads(folder)
        if reads > 1:
            again = f"T was read {reads} times: seeds were added after results on T had been seen, or a run was stopped"
            again += " while it read T, or a result on T was damaged."
            findings = replace(findings, conclusions=[*findings.conclusions, again])
        provenance = {"config": config.to_dict(), "data": data.digest, "device": device, "test_reads": reads}
        provenance |= {"job_commits": sorted(experiment.commits), **environment()}
        path = write_findings(folder, findings, provenance)
        write_json(folder / RESULT, {"conclusions": list(findings.conclusions), **provenance})
        return findings, path


def _identify(config: ExperimentConfig, data: Dataset) -> str:
    """Record what the experiment is, or check that it is the same; returns its identifier."""
    path = config.folder / EXPERIMENT
    versions = {"search": SEARCH_VERSION, "training": TRAINING_VERSION, "jobs": JOBS_VERSION}
    asked = {**config.defining(), "study": config.NAME, "data": data.digest, "versions": versions}
    asked = json.loads(json.dumps(asked))
    if path.exists():
        try:
            stored = read_json(path)
        except CheckpointError as error:
            raise StudyError(
                f"{error} It says which experiment this is: restore it from a copy, or start again with another --out, "
                "where what the cache holds is not trained again."
            ) from error
        known = stored.get("defining") if isinstance(stored, dict) else None
        if not isinstance(known, dict) or not isinstance(stored.get("identifier"), str):
            raise StudyError(f"{path} is no experiment's: give --out a folder that is new or empty.")
        check_settings(known, asked, str(config.folder), type(config).of().defining())
        return stored["identifier"]
    identifier = uuid.uuid4().hex
    write_json(path, {"defining": asked, "identifier": identifier, "config": config.to_dict(), **environment()})
    return identifier
