"""A study of a second without Ray: the real searcher records real trials, run in this process."""

import shutil

import numpy as np
import optuna

from edgenes.checkpoint import read_json, save_checkpoint, write_json, write_text
from edgenes.methods.survey import survey
from edgenes.space.genotype import random_genotype
from tests.support.toys import blobs, seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.jobs import Bench
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.files.curves import CurveWriter
from tune_jobs.files.environment import environment
from tune_jobs.files.layout import CONFIG, FINALISTS, GENOTYPE, HYPERNETWORK, PREDICTOR, file_digest
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.messages import Report, Status
from tune_jobs.stages.ensemble import ensemble_job
from tune_jobs.stages.finalists import all_members, choose_finalist
from tune_jobs.stages.pipeline import open_optuna
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.samplers import make_sampler
from tune_jobs.study.saved import SavedStudy, open_saved, plain_config, storage_url
from tune_jobs.study.space import search_space
from tune_jobs.study.trials import IDENTIFIER, choice, feasible
from tune_jobs.tools.machine import threads
from tune_jobs.watch.pictures import Album

TINY = {
    **{"nodes": 2, "search_channels": 2, "channels": 2, "cells": 1, "batch_size": 32, "sampler": "random"},
    **{"trials": 2, "finalists": 1, "hypernetwork_epochs": 3, "short_epochs": 1, "final_epochs": 1},
    **{"candidates": 3, "ensemble_size": 2, "survey": 10, "survey_epochs": 1},
}


def begin_study(folder, seed=0, data_seed=0, **changes) -> SavedStudy:
    """A study as its driver leaves it after the search: no trial has begun. The survey's losses are made up."""
    train, test = blobs(200, seed=data_seed).weights, blobs(seed=data_seed + 1).weights
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / "blobs.npz"
    images = {"x_train": train.images[:, 0], "x_test": test.images[:, 0]}
    np.savez(path, y_train=train.labels, y_test=test.labels, **images)
    config = SweepConfig.of(**TINY | {"dataset": str(path), "out": folder, "seed": seed} | changes)
    data = config.load()
    study = open_optuna(config, data, storage_url(config))
    write_json(folder / CONFIG, plain_config(config, data.digest, study.user_attrs[IDENTIFIER]))
    write_json(folder / "environment.json", environment())
    if config.guided:
        predictor = survey(
            config.setting("cpu"), lambda _, found: [(one, 1 + one.genotype.digest.count("a")) for one in found]
        )
        predictor.save(folder / PREDICTOR)
    write_text(folder / GENOTYPE, random_genotype(config.space, seeded(2)).to_json())
    return open_saved(folder, config.storage)


def change_options(folder, **options) -> SavedStudy:
    """Alter the options in a study's config.json, as a driver with other arguments does."""
    stored = read_json(folder / CONFIG)
    write_json(folder / CONFIG, {**stored, "options": stored["options"] | options})
    return open_saved(folder)


@threads(1)
def run_trials(saved: SavedStudy, stop_after=None, dies=False, pruner=None) -> None:
    """Run the study's trials as searcher and workers do.

    After step `stop_after` the process of a trial is gone: the trial stays RUNNING, or FAILs if the process `dies`
    for good. `pruner` replaces the study's.
    """
    config, study = saved.config, saved.study
    if pruner is not None:
        study.pruner = pruner
    searcher = StudySearcher(
        study,
        search_space(config.search.estimator),
        budget=config.trials,
        max_failures=1,
        make_sampler=lambda seed: make_sampler(config.sampler, seed),
        files=StudyFiles(saved.folder),
        before_tell=Album(config, saved.optimal),
    )
    data, curves, context = saved.data().without_test(), CurveWriter(), saved.context()

    class Gone(Exception):
        pass

    def report(seen, _state=None):
        stop = searcher.judge("ray", seen.to_dict())
        curves.append(*searcher.record("ray"))
        if stop or seen.step == stop_after:
            raise Gone

    while isinstance(asked := searcher.suggest("ray"), dict):
        try:
            report(run_trial(context, data, asked["trial"], asked["seed"], asked["params"], report))
        except Gone:
            if stop_after is not None and not dies:
                return
            searcher.on_trial_complete("ray", error=dies)
            continue
        except ArithmeticError as error:
            searcher.judge("ray", Report(status=Status.FAILED, reason=str(error), traceback="Traceback").to_dict())
        searcher.on_trial_complete("ray")


def begun_study(folder) -> SavedStudy:
    """A study whose driver died in its first trial, at step 2, with two checkpoints that hold no more than an epoch."""
    saved = begin_study(folder)
    run_trials(saved, stop_after=2)
    for epoch in (0, 1):
        place = saved.folder / "ray" / "sweep-1" / "trial-0-ab" / f"checkpoint_{epoch:06d}"
        save_checkpoint(place / "state.pt", "trial", {"epoch": epoch})
    running = optuna.Trial(saved.study, saved.trials()[0]._trial_id)
    running.set_user_attr("checkpoint", str(place.relative_to(saved.folder)))
    return saved


@threads(1)
def finish_study(saved: SavedStudy) -> dict:
    """Retrain the finalists, choose the hypernetwork and the ensemble, and leave a result, which is returned."""
    config, context, data = saved.config, saved.context(), saved.data()
    finalists = saved.finalists()
    trainer = context.place.trainer(data)
    for entry in all_members(context, finalists, baselines=True):
        trainer.candidate(entry.member.config, entry.member.genotype)
    best, table = choose_finalist(context, data, finalists)
    path = saved.folder / HYPERNETWORK
    path.parent.mkdir()
    shutil.copyfile(context.hypernetwork(best), path)
    write_json(saved.folder / FINALISTS, {"chosen": best, "finalists": table})
    job = {"name": "final ensemble", "trial": best, "hypernetwork": file_digest(path)}
    bench = Bench(trainer, context.setting, context.place)
    outcome = ensemble_job(job, bench, data.test, context, True, {"config": config.to_dict()})
    result = {
        **choice(saved.study, best),
        "feasible": feasible(saved.study.trials[best]),
        **outcome,
        "trials": config.trials,
        "optimal": saved.optimal.to_dict(),
        "seconds": {"search": 1.0, "sweep": 1.0, "finalists": 1.0, "ensemble": 1.0},
        "seed": config.seed,
        "device": "cpu",
        "config": config.to_dict(),
        **environment(),
    }
    write_json(saved.folder / "result.json", result)
    return result
