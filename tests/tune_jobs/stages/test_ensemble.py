"""The end of a study without Ray: which hypernetwork wins, the ensemble it gives, and how T is read."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from edgenes.data.dataset import build_dataset
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.metrics import accuracy
from edgenes.selection import cross_fitted
from edgenes.space.genotype import random_genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork
from tests.support.toys import blobs, seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import hypernetwork_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.report.comparison import NAMES, comparison
from tune_jobs.stages import ensemble as final
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.finalists import Finalist

_BLOBS = blobs()
DATA = build_dataset(
    "blobs",
    _BLOBS.class_names,
    *(_BLOBS.weights, _BLOBS.architecture, _BLOBS.validation),
    blobs(seed=1).validation,
)
SMALL = {"nodes": 2, "channels": 4, "cells": 1, "batch_size": 32, "final_epochs": 2, "candidates": 3}


def make_study(folder, **changes):
    """Settings and two finalists whose hypernetworks are as initialised."""
    config = SweepConfig(**SMALL | {"ensemble_size": 2} | changes)
    settings = TrialSettings(config, folder, random_genotype(config.space, seeded(0)), "cpu")
    finalists = []
    for number in (4, 7):
        hypernetwork = Hypernetwork(config.space, 3, False, "corrected", seeded(number))
        hypernetwork.save(folder / hypernetwork_path(number))
        finalists.append(Finalist(number, number, 0.5))
    return settings, finalists


def choose(settings, finalist):
    """Put the finalist's hypernetwork where the chosen one belongs; returns its digest."""
    path = settings.folder / final.HYPERNETWORK
    path.parent.mkdir()
    shutil.copyfile(settings.hypernetwork(finalist.number), path)
    return final.file_digest(path)


def retrain(settings, jobs):
    for job in jobs:
        training = final.final_training(settings, job.repeat)
        settings.store.retrained(training, DATA, job.genotype, weights=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study all of whose retrainings are done, and its final ensemble."""
    settings, finalists = make_study(tmp_path_factory.mktemp("study"))
    retrain(settings, final.retraining_jobs(settings, finalists))
    chosen, table = final.choose_finalist(settings, DATA, finalists)
    digest = choose(settings, chosen)
    before = final.test_reads(settings.folder)
    result = final.final_ensemble(settings, DATA, chosen, digest)
    return SimpleNamespace(**locals())


class TestJobs:
    def test_each_retraining_comes_once_and_the_finalists_come_first(self, tmp_path):
        settings, finalists = make_study(tmp_path, seeds_per_candidate=2)
        shared = finalists[0].candidates(settings)[0].genotype
        settings = dataclasses.replace(settings, optimal=shared)  # a baseline that a finalist has already
        jobs = final.retraining_jobs(settings, [*finalists, finalists[0]])
        pairs = [(job.genotype, job.repeat) for job in jobs]
        assert len(set(pairs)) == len(pairs)
        wanted = {(c.genotype, r) for f in finalists for c in f.candidates(settings) for r in range(2)}
        assert set(pairs[: len(wanted)]) == wanted
        baselines = {(settings.optimal, r) for r in range(2)}
        baselines |= {(g, r) for g in final.random_baseline(settings) for r in range(2)}
        assert set(pairs) == wanted | baselines
        assert jobs[0].label.startswith("trial 4, lambda ")

    def test_without_baselines_only_the_finalists_are_retrained(self, tmp_path):
        settings, finalists = make_study(tmp_path, baselines=False)
        jobs = final.retraining_jobs(settings, finalists)
        assert {job.genotype for job in jobs} == {c.genotype for f in finalists for c in f.candidates(settings)}

    def test_the_random_genotypes_are_distinct_and_decided_by_the_seed(self, tmp_path):
        settings, _ = make_study(tmp_path)
        found = final.random_baseline(settings)
        assert len(set(found)) == 3 and found == final.random_baseline(settings)
        other = dataclasses.replace(settings, config=dataclasses.replace(settings.config, seed=1))
        assert final.random_baseline(other) != found


class TestChoice:
    def test_the_best_cross_fitted_ensemble_wins_each_time(self, trained):
        labels = DATA.validation.labels
        for row, finalist in zip(trained.table, trained.finalists, strict=True):
            pool = final.finalist_pool(trained.settings, DATA, finalist)
            assert row["value"] == cross_fitted(pool.predictions, labels, 2, "nll").accuracy
            assert (row["trial"], row["networks"]) == (finalist.number, 3)
        assert trained.chosen.number == max(trained.table, key=lambda row: row["value"])["trial"]
        again = final.choose_finalist(trained.settings, DATA, trained.finalists)
        assert again == (trained.chosen, trained.table)

    def test_a_tie_goes_to_the_finalist_that_comes_first(self, trained):
        twin = dataclasses.replace(trained.chosen, value=0.4)
        for order in ([trained.chosen, twin], [twin, trained.chosen]):
            assert final.choose_finalist(trained.settings, DATA, order)[0] == order[0]

    def test_finalists_with_failed_retrainings_cannot_win(self, tmp_path):
        settings, finalists = make_study(tmp_path, baselines=False)
        with pytest.raises(StudyError, match="no finalist has 2 retrained candidates"):
            final.choose_finalist(settings, DATA, finalists)
        retrain(settings, final.retraining_jobs(settings, finalists[1:]))
        assert final.choose_finalist(settings, DATA, finalists)[0] == finalists[1]


class TestTest:
    def test_each_reading_is_noted_and_counted(self, tmp_path):
        assert final.test_reads(tmp_path) == 0
        for k in (1, 2):
            assert final.read_test(DATA, StudyFiles(tmp_path), f"purpose {k}") is DATA.test
            assert final.test_reads(tmp_path) == k
        notes = [json.loads(line) for line in (tmp_path / final.TEST_READS).read_text().splitlines()]
        assert [(note["purpose"], note["data"]) for note in notes] == [
            ("purpose 1", DATA.digest),
            ("purpose 2", DATA.digest),
        ]

    def test_the_final_ensemble_reads_it_once_and_nothing_before_does(self, trained):
        assert trained.before == 0
        assert trained.result["test_reads"] == 1

    def test_the_choice_does_not_depend_on_it(self, trained):
        without = DATA.without_test()
        assert final.choose_finalist(trained.settings, without, trained.finalists)[0] == trained.chosen


class TestEnsemble:
    def test_the_saved_ensemble_has_the_scores_of_the_result(self, trained):
        ensemble = Ensemble.load(trained.settings.folder / "ensemble")
        test = ensemble.predict(DATA.test.images.transpose(0, 2, 3, 1))
        assert trained.result["test"]["accuracy"] == accuracy(test, DATA.test.labels)
        assert len(trained.result["members"]) == 2
        json.dumps(trained.result, allow_nan=False)

    def test_members_are_candidates_of_the_finalist(self, trained):
        drawn = {c.genotype.digest: c for c in trained.chosen.candidates(trained.settings)}
        for row in trained.result["members"]:
            candidate = drawn[row["digest"]]
            assert row["lambda"] == candidate.lam
            assert row["shared"] == shared_edges(candidate.genotype, trained.settings.optimal)

    def test_every_rival_of_the_comparison_is_there(self, trained):
        assert [row["name"] for row in comparison(trained.result)] == list(NAMES.values())
        best = trained.result["baseline"]["best_member"]
        assert best["validation"]["nll"] == min(row["validation"]["nll"] for row in trained.result["members"])

    def test_another_file_than_the_chosen_hypernetwork_is_refused_before_the_test_is_read(self, tmp_path):
        settings, finalists = make_study(tmp_path)
        choose(settings, finalists[0])
        with pytest.raises(CheckpointError, match="is not the hypernetwork that was chosen"):
            final.final_ensemble(settings, DATA, finalists[0], final.file_digest(settings.hypernetwork(7)))
        assert final.test_reads(tmp_path) == 0


class TestArchive:
    def test_results_are_numbered_in_the_order_they_came(self, tmp_path):
        final.archive_result(tmp_path)
        assert list(tmp_path.iterdir()) == []
        for k in range(3):
            (tmp_path / "result.json").write_text(str(k))
            final.archive_result(tmp_path)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "result-1.json": "0",
            "result-2.json": "1",
            "result-3.json": "2",
        }


def test_a_line_that_was_cut_off_or_damaged_still_counts_as_a_read(tmp_path):
    (tmp_path / final.TEST_READS).write_bytes(b'{"time": "\xff')
    final.read_test(DATA, StudyFiles(tmp_path), "the second")
    assert final.test_reads(tmp_path) == 2
