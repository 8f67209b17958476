"""A finished study on blobs, made within seconds and without a cluster: the searcher is called as Tune calls it."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from toys import blobs, seeded

from edgenes.checkpoint import write_json, write_text
from edgenes.genotype import random_genotype
from tune_jobs import final
from tune_jobs.config import SweepConfig
from tune_jobs.curves import CurveWriter
from tune_jobs.environment import environment
from tune_jobs.saved import CONFIG, GENOTYPE, load_study_data, open_saved, plain_config, storage_url, study_name
from tune_jobs.study import feasible, make_sampler, open_study, search_space, trials_frame
from tune_jobs.tools.folder import current_finalists
from tune_jobs.trial import TrialSettings, run_trial

SMALL = {
    **{"nodes": 2, "search_channels": 4, "channels": 4, "cells": 1, "batch_size": 32, "sampler": "random"},
    **{"trials": 3, "finalists": 2, "hypernetwork_epochs": 8, "short_epochs": 1, "final_epochs": 2},
    **{"candidates": 3, "ensemble_size": 2},
}


def write_blobs(path: Path) -> Path:
    """The blobs as an .npz."""
    train, test = blobs(), blobs(seed=1).validation
    parts = (train.weights, train.architecture, train.validation)
    images, labels = np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    np.savez(path, x_train=images[:, 0], y_train=labels, x_test=test.images[:, 0], y_test=test.labels)
    return path


class Driver:
    """Drives a study in `folder`: `begin`, `trial` one after the other, `finish`."""

    def __init__(self, folder: Path, data: Path, **changes):
        self.config = SweepConfig(dataset=str(data), out=folder, **{**SMALL, **changes})
        self.folder = folder
        self.data = load_study_data(self.config)
        identity = {**self.config.defining(), "data": self.data.digest}
        self.study = open_study(
            study_name(self.config),
            storage_url(self.config),
            space=search_space(self.config.estimator),
            seed=self.config.seed,
            identity=identity,
        )
        folder.mkdir(exist_ok=True)
        write_json(folder / CONFIG, plain_config(self.config, self.data.digest))
        write_json(folder / "environment.json", environment())
        optimal = random_genotype(self.config.space, seeded(0))
        write_text(folder / GENOTYPE, optimal.to_json() + "\n")
        self.settings = TrialSettings(self.config, folder, optimal, "cpu")
        from tune_jobs.searcher import StudySearcher  # Ray, which the commands do without

        self.searcher = StudySearcher(
            self.study,
            search_space(self.config.estimator),
            budget=self.config.trials,
            max_failures=9,
            make_sampler=lambda seed: make_sampler("random", seed),
            folder=folder,
        )
        self.curves = CurveWriter()

    def trial(self, stop_after: int | None = None) -> None:
        """One trial, left RUNNING after `stop_after` reports."""
        asked = self.searcher.suggest("t")
        reports = 0

        class Stopped(Exception):
            pass

        def report(metrics, state):
            nonlocal reports
            self.searcher.judge("t", metrics)
            self.curves.append(*self.searcher.record("t", metrics))
            reports += 1
            if reports == stop_after:
                raise Stopped

        try:
            outcome = run_trial(
                self.settings, self.data.without_test(), asked["trial"], asked["seed"], asked["params"], report
            )
        except Stopped:
            return
        self.curves.append(*self.searcher.record("t", outcome))
        self.searcher.on_trial_complete("t", outcome)

    def finish(self) -> dict:
        """Finalists, ensemble and result, as the sweep's last stages make them; the report is a stub."""
        folder, settings = self.folder, self.settings
        saved = open_saved(folder, self.config.storage)
        entries = current_finalists(saved)
        for job in final.retraining_jobs(settings, entries):
            training = final.final_training(settings, job.repeat)
            settings.store.retrained(training, self.data, job.genotype, weights=True)
        best, table = final.choose_finalist(settings, self.data, entries)
        chosen = folder / "hypernetwork" / "hypernetwork.pt"
        chosen.parent.mkdir(exist_ok=True)
        shutil.copyfile(best.path, chosen)
        write_json(chosen.with_name("finalists.json"), {"chosen": best.number, "finalists": table})
        outcome = final.final_ensemble(settings, self.data, best, chosen, final.file_digest(chosen))
        write_json(folder / "stages.json", {"search": 1.0, "sweep": 2.5, "finalists": 3.0, "ensemble": 4.0})
        trial = self.study.trials[best.number]
        result = {
            "best_trial": {"number": trial.number, "params": trial.params, "value": trial.values[0]},
            "feasible": feasible(trial),
            **outcome,
            "trials": sum(t.state.name in ("COMPLETE", "PRUNED") for t in self.study.trials),
            "optimal": settings.optimal.to_dict(),
            "seconds": json.loads((folder / "stages.json").read_text()),
            "seed": self.config.seed,
            "device": "cpu",
            "config": {**self.config.to_dict(), "storage": None},
            **environment(),
        }
        write_text(folder / "trials.csv", trials_frame(self.study).to_csv(index=False))
        write_text(folder / "report" / "index.html", "<!doctype html><title>a stub</title>\n")
        final.archive_result(folder)
        write_json(folder / "result.json", result)
        return result


@functools.cache
def finished_once() -> Path:
    """A finished study, made once a process: copy it before you change it."""
    place = Path(tempfile.mkdtemp(prefix="small-study-"))
    driver = Driver(place / "study", write_blobs(place / "blobs.npz"))
    for _ in range(driver.config.trials):
        driver.trial()
    driver.finish()
    return place / "study"


def copy_finished(folder: Path) -> Path:
    """A copy of a finished study in `folder`."""
    return Path(shutil.copytree(finished_once(), folder))
