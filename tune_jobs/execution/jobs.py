"""Jobs over Ray Tune: a function is mapped over plain values, each result a file, so that a study resumes.

A function sees a `Bench`: data, trainer and setting, as its worker has them. What it trains is stored by content.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ray import tune

from edgenes.checkpoint import read_json, write_json
from edgenes.config import digest
from edgenes.data.dataset import Dataset
from edgenes.errors import CheckpointError
from edgenes.methods.budget import Setting
from edgenes.methods.trainer import Member, groups
from tune_jobs.errors import Interrupted, StudyError
from tune_jobs.execution.run import Run
from tune_jobs.execution.speed import Speed
from tune_jobs.execution.worker import outcome_of, send, use_resources
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import JOBS
from tune_jobs.files.stored_trainer import StoredTrainer
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.messages import Report, Status

Job = dict[str, Any]
"""Plain values that a function turns into plain values; "name" is its own in its stage."""
Function = Callable[..., dict[str, Any]]
"""`function(job, bench, **shared)` returns the job's result; "note" in it is shown when the job ends."""
Ahead = Callable[[StoredTrainer, Sequence[Member]], None]
"""How a trainer trains several networks at once."""


@dataclass(frozen=True)
class Bench:
    """What a job computes with: the trainer with the data without T, the setting, and the study's files."""

    trainer: StoredTrainer
    setting: Setting
    place: Workplace

    @property
    def data(self) -> Dataset:
        """The data, without T."""
        return self.trainer.data

    def of_seed(self, seed: int) -> Setting:
        """The setting of one of the independent searches."""
        return self.setting.of_seed(seed)


@dataclass(frozen=True)
class Results:
    """The results of a stage's jobs in order, None for a job that failed; the reports of those that failed."""

    found: list[dict[str, Any] | None]
    stored: list[bool]
    """Whether a job had its result before."""
    failed: list[Report]
    commits: set[str]
    """Commits of the code that computed the results."""


def run_jobs(
    run: Run,
    place: Workplace,
    setting: Setting,
    stage: str,
    function: Function,
    jobs: Sequence[Job],
    *,
    unit: str = "job",
    title: str | None = None,
    sound: Callable[[Job, dict[str, Any]], bool] = lambda job, result: True,
    ahead: Ahead | None = None,
    **shared: Any,
) -> Results:
    """`function(job, bench, **shared)` of each job, in parallel; a job whose stored result is `sound` is not run again.

    With `ahead` a worker takes a group of jobs, each with a network as its "member", and trains these at once first.

    Raises Interrupted if the run was stopped, and StudyError if a disk was full, after the other jobs have ended.
    """
    names = [job["name"] for job in jobs]
    if len(set(names)) < len(names):
        raise ValueError(f"jobs of the stage {stage} share a name")
    commits: set[str] = set()
    found = [_stored(place.files, stage, job, sound, commits) for job in jobs]
    missing = [job for job, result in zip(jobs, found, strict=True) if result is None]
    stored = [result is not None for result in found]
    if not missing:
        return Results(found, stored, [], commits)
    shares = [[job] for job in missing]
    if ahead is not None:
        members = {member: job for job in missing for member in [Member.from_dict(job["member"])]}
        threads = int(run.execution.cpus_per_trial)
        shares = [[members[one] for one in group] for group in groups(list(members), run.data, run.slots, threads)]
    named = {_name(share): len(share) for share in shares}
    with run.progress.stage(
        title or stage[:1].upper() + stage[1:], len(jobs), len(jobs) - len(missing), unit=unit, sizes=named
    ):
        reports = run.tune(
            stage,
            job_worker,
            {"job": tune.grid_search(list(range(len(shares))))},
            _name_of(list(named)),
            {
                "data": run.data_ref,
                "stage": stage,
                "shares": shares,
                "function": function,
                "ahead": ahead,
                "place": place,
                "setting": setting,
                "shared": shared,
            },
        )
        for report in reports:
            if report.status == Status.UNWRITABLE:
                raise StudyError(f"a {unit} failed: {report.reason}")
        if len(reports) < len(shares) or any(report.status is None for report in reports):
            raise Interrupted("stopped; what was finished is stored. Run the same command again to resume.")
    run.clean(stage)
    found = [_stored(place.files, stage, job, sound, commits) for job in jobs]
    failed = [report for report in reports if report.status == Status.FAILED]
    failed += [Report.from_dict(each) for report in reports for each in report.attributes.get("failed", [])]
    return Results(found, stored, failed, commits)


def unfinished(place: Workplace, stage: str, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that have no result yet."""
    return [job for job in jobs if _stored(place.files, stage, job, lambda job, result: True, set()) is None]


def job_worker(
    config: dict[str, Any],
    data: Dataset,
    stage: str,
    shares: list[list[Job]],
    function: Function,
    ahead: Ahead | None,
    place: Workplace,
    setting: Setting,
    shared: dict[str, Any],
) -> None:
    """The trainable of every stage: runs the jobs of share number config["job"] and writes their results to files."""
    use_resources()
    place = place.on_this_node()
    jobs, device, reported = shares[config["job"]], setting.search.device, 0
    speed = Speed(len(data.weights), device)

    def say(note: str, step: int = 0, steps: int = 0, metrics: dict[str, Any] | None = None) -> None:
        nonlocal reported
        reported += 1
        measured = {**metrics, **speed.measured()} if metrics else {}
        send(Report(step=step or reported, steps=steps, note=note, metrics=measured))
        speed.restart()

    trainer = place.trainer(data, say)

    def run(job: Job) -> Report:
        result = function(job, Bench(trainer, setting, place), **shared)
        name = _result_name(stage, job)
        about = {"job": job, "device": device, "environment": environment()}
        write_json(place.files.folder / name, {**about, "result": result, "digest": digest(result)})
        place.files.publish(name)
        return Report(status=Status.COMPLETE, note=str(result.get("note", "")))

    def run_all() -> Report:
        if ahead is not None:
            ahead(trainer, [Member.from_dict(job["member"]) for job in jobs])
        failed = []
        for job in jobs:
            ended = outcome_of(partial(run, job))
            if ended.status == Status.UNWRITABLE or len(jobs) == 1:
                return ended
            if ended.status == Status.FAILED:
                failed.append(ended)
        return Report(status=Status.COMPLETE, attributes={"failed": [each.to_dict() for each in failed]})

    ended = outcome_of(run_all)
    send(replace(ended, step=reported + 1, steps=reported + 1))


def _result_name(stage: str, job: Job) -> str:
    return f"{JOBS}/{stage}/{job['name'].replace(' ', '-')}.json"


def _stored(
    files: StudyFiles, stage: str, job: Job, sound: Callable[[Job, dict[str, Any]], bool], commits: set[str]
) -> dict[str, Any] | None:
    """The stored result of this very job, or None; the commit that computed it is added to `commits`."""
    path = files.fetch(_result_name(stage, job))
    if not path.exists():
        return None
    with suppress(CheckpointError, KeyError, TypeError):
        stored = read_json(path)
        result = stored["result"]
        same = stored["job"] == json.loads(json.dumps(job)) and stored["digest"] == digest(result)
        if same and sound(job, result):
            commits.add(str(stored["environment"]["commit"]))
            return result
    return None


def _name(share: list[Job]) -> str:
    """The name of a worker's share of the jobs."""
    return share[0]["name"] + (f" and {len(share) - 1} more" if len(share) > 1 else "")


def _name_of(names: list[str]) -> Callable[[Any], str]:
    def name_of(trial: Any) -> str:
        return names[trial.config["job"]] if "job" in trial.config else "job"

    return name_of
