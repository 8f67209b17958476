"""The end of a study without Ray: which hypernetwork wins, the ensemble it gives, and how T is read."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
from optuna.trial import create_trial

from edgenes.data.dataset import build_dataset
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.metrics import accuracy, nll
from edgenes.selection import cross_fitted
from edgenes.space.genotype import random_genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork
from tests.support.toys import blobs, seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench
from tune_jobs.files.layout import HYPERNETWORK, TEST_READS, file_digest, hypernetwork_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.report.comparison import NAMES, comparison
from tune_jobs.stages.ensemble import ensemble_job
from tune_jobs.stages.finalists import (
    choose_finalist,
    finalist_members,
    optimal_members,
    pool_of,
    random_members,
    retraining_jobs,
    with_optimal,
)
from tune_jobs.study import result as results
from tune_jobs.study.context import StudyContext
from tune_jobs.study.saved import context_of

_BLOBS = blobs()
DATA = build_dataset(
    "blobs",
    _BLOBS.class_names,
    *(_BLOBS.weights, _BLOBS.architecture, _BLOBS.validation),
    blobs(seed=1).validation,
)
SMALL = {
    **{"nodes": 2, "channels": 4, "cells": 1, "batch_size": 32, "final_epochs": 2, "candidates": 3},
    **{"survey": 10, "survey_epochs": 1},
}


def make_study(folder, **changes):
    """The context of a study, and two finalists whose hypernetworks are as initialised."""
    config = SweepConfig.of(**SMALL | {"ensemble_size": 2} | changes)
    context = context_of(config, Workplace(StudyFiles(folder)), random_genotype(config.space, seeded(0)), "cpu")
    finalists = []
    for number in (4, 7):
        hypernetwork = Hypernetwork(config.space, 3, False, "corrected", seeded(number))
        hypernetwork.save(folder / hypernetwork_path(number))
        finalists.append(create_trial(value=0.5))
        finalists[-1].number = number
    return context, finalists


def choose(context, trial):
    """Put the trial's hypernetwork where the chosen one belongs; returns its digest."""
    path = context.folder / HYPERNETWORK
    path.parent.mkdir()
    shutil.copyfile(context.hypernetwork(trial), path)
    return file_digest(path)


def members(context, finalists):
    return [entry for finalist in finalists for entry in finalist_members(context, finalist.number)]


def retrain(context, entries):
    for entry in entries:
        context.place.trainer(DATA).candidate(entry.member.config, entry.member.genotype)


def final(context, trial, digest):
    """The final trial, as its worker runs it."""
    bench = Bench(context.place.trainer(DATA), context.setting, context.place)
    return ensemble_job({"trial": trial, "hypernetwork": digest}, bench, DATA.test, context, True, {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study all of whose retrainings are done, and its final ensemble."""
    context, finalists = make_study(tmp_path_factory.mktemp("study"))
    retrain(context, [*members(context, finalists), *optimal_members(context), *random_members(context)])
    chosen, table = choose_finalist(context, DATA, finalists)
    digest = choose(context, chosen)
    before = results.test_reads(context.folder)
    result = final(context, chosen, digest)
    return SimpleNamespace(**locals())


class TestJobs:
    def test_each_retraining_comes_once_under_a_name_of_its_own(self, tmp_path):
        context, finalists = make_study(tmp_path, seeds_per_candidate=2)
        shared = context.candidates_of(4)[0].genotype
        context = dataclasses.replace(context, optimal=shared)  # a baseline that a finalist has already
        entries = [*members(context, finalists), *optimal_members(context), *random_members(context)]
        jobs = retraining_jobs([*entries, *members(context, finalists)])
        assert (
            len(jobs) == len({job["name"] for job in jobs}) == len({entry.member for entry in entries}) < len(entries)
        )

    def test_members_of_an_ensemble_have_training_seeds_of_their_own(self, tmp_path):
        """Networks that begin with the same weights and see the same batches would err alike."""
        context, finalists = make_study(tmp_path, seeds_per_candidate=2)
        for entries in (members(context, finalists), optimal_members(context), random_members(context)):
            distinct = {entry.member for entry in entries}
            assert len({member.config.seed for member in distinct}) == len(distinct)

    def test_the_random_genotypes_are_distinct_and_decided_by_the_seed(self, tmp_path):
        context, _ = make_study(tmp_path)
        found = [entry.member.genotype for entry in random_members(context)]
        assert random_members(context) == random_members(context)
        # as many as candidates and seeds of the optimal genotype; a guided one has 10 short retrainings of 1 epoch on
        # half the images in the place of 2 more of 2 epochs on all
        assert len(set(found)) == len(found) == 5 + (2 if context.guided else 0)
        other = dataclasses.replace(context, setting=context.setting.of_seed(1))
        assert [entry.member.genotype for entry in random_members(other)] != found


class TestChoice:
    @pytest.mark.parametrize("criterion", ["nll", "accuracy"])
    def test_the_best_by_the_criterion_wins_each_time(self, trained, criterion):
        setting = dataclasses.replace(trained.context.setting, criterion=criterion)
        context, labels = dataclasses.replace(trained.context, setting=setting), DATA.validation.labels
        chosen, table = choose_finalist(context, DATA, trained.finalists)
        for row, finalist in zip(table, trained.finalists, strict=True):
            entries = [*finalist_members(context, finalist.number), *optimal_members(context)]
            predictions = pool_of(context, DATA, entries).predictions
            expected = cross_fitted(predictions, labels, 2, criterion, calibration="temperature")
            assert (row["accuracy"], row["nll"]) == (expected.accuracy, expected.nll)
            assert (row["trial"], row["networks"]) == (finalist.number, 5)
        best = min(table, key=lambda row: row["nll"] if criterion == "nll" else -row["accuracy"])
        assert chosen == best["trial"]
        assert choose_finalist(context, DATA.without_test(), trained.finalists) == (chosen, table)

    def test_a_tie_goes_to_the_finalist_that_comes_first(self, trained, monkeypatch):
        drawn = trained.context.candidates_of(trained.chosen)
        monkeypatch.setattr(StudyContext, "candidates_of", lambda context, trial: drawn)
        for order in (trained.finalists, trained.finalists[::-1]):
            assert choose_finalist(trained.context, DATA, order)[0] == order[0].number

    def test_finalists_with_failed_retrainings_cannot_win(self, tmp_path):
        context, finalists = make_study(tmp_path)
        with pytest.raises(StudyError, match="no finalist has 2 retrained candidates"):
            choose_finalist(context, DATA, finalists)
        retrain(context, members(context, finalists[1:]))
        assert choose_finalist(context, DATA, finalists)[0] == 7


class TestTest:
    def test_each_reading_is_noted_and_counted_a_damaged_line_too(self, tmp_path):
        assert results.test_reads(tmp_path) == 0
        for k in (1, 2):
            assert results.read_test(DATA, StudyFiles(tmp_path), f"purpose {k}") is DATA.test
            assert results.test_reads(tmp_path) == k
        notes = [json.loads(line) for line in (tmp_path / TEST_READS).read_text().splitlines()]
        assert [(note["purpose"], note["data"]) for note in notes] == [(f"purpose {k}", DATA.digest) for k in (1, 2)]
        (tmp_path / TEST_READS).write_bytes(b'{"time": "\xff')
        results.read_test(DATA, StudyFiles(tmp_path), "the second")
        assert results.test_reads(tmp_path) == 2

    def test_the_final_ensemble_reads_it_once_and_nothing_before_does(self, trained):
        assert trained.before == 0
        assert trained.result["test_reads"] == 1


class TestEnsemble:
    def test_the_saved_ensemble_has_the_scores_of_the_result(self, trained):
        ensemble = Ensemble.load(trained.context.folder / "ensemble")
        test = ensemble.predict(DATA.test.images.transpose(0, 2, 3, 1))
        assert trained.result["test"]["accuracy"] == accuracy(test, DATA.test.labels)
        assert len(trained.result["members"]) == 2
        json.dumps(trained.result, allow_nan=False)

    def test_members_are_candidates_of_the_finalist_or_the_optimal_genotype(self, trained):
        optimal = trained.context.optimal
        drawn = {c.genotype.digest: (c.lam, c.genotype) for c in trained.context.candidates_of(trained.chosen)}
        assert trained.result["selection"]["networks"] == 5
        for row in trained.result["members"]:
            lam, genotype = drawn.get(row["digest"], (None, optimal))
            assert (row["lambda"], row["digest"]) == (lam, genotype.digest)
            assert row["shared"] == shared_edges(genotype, optimal)

    def test_a_candidate_that_is_the_optimal_genotype_is_in_the_pool_once(self, tmp_path):
        context, _ = make_study(tmp_path)
        candidates = finalist_members(context, 4)
        context = dataclasses.replace(context, optimal=candidates[1].member.genotype)
        pool = with_optimal(context, candidates)
        assert pool[:3] == candidates and len({entry.member for entry in pool}) == len(pool) == 4

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_its_calibration_is_fitted_on_v_and_recorded_with_the_scores_of_both(self, trained, part):
        record, labels = trained.result["calibration"], getattr(DATA, part).labels
        saved = Ensemble.load(trained.context.folder / "ensemble")
        assert saved.calibration.to_dict() == {name: record[name] for name in ("scale", "shift")}
        assert record["scores"]["test"]["after"]["nll"] == trained.result["test"]["nll"]
        raw = Ensemble.of(list(saved.networks), saved.configs, DATA, weights=saved.weights)
        test = raw.predict(DATA.test.images.transpose(0, 2, 3, 1))
        assert record["scores"]["test"]["before"]["nll"] == pytest.approx(nll(test, DATA.test.labels), abs=1e-5)
        for when in ("before", "after"):
            rows = [row for row in record["reliability"] if (row["part"], row["when"]) == (part, when)]
            assert sum(row["images"] for row in rows) == len(labels)
            gaps = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
            assert record["scores"][part][when]["ece"] == pytest.approx(gaps / len(labels))

    def test_every_rival_of_the_comparison_is_there(self, trained):
        assert [row["name"] for row in comparison(trained.result)] == list(NAMES.values())
        best = trained.result["baseline"]["best_member"]
        assert best["validation"]["nll"] == min(row["validation"]["nll"] for row in trained.result["members"])

    def test_another_file_than_the_chosen_hypernetwork_is_refused_before_the_test_is_read(self, tmp_path):
        context, _ = make_study(tmp_path)
        choose(context, 4)
        with pytest.raises(CheckpointError, match="is not the hypernetwork that was chosen"):
            final(context, 4, file_digest(context.hypernetwork(7)))
        assert results.test_reads(tmp_path) == 0


def test_results_are_numbered_in_the_order_they_came(tmp_path):
    for k in range(3):
        (tmp_path / "result.json").write_text(str(k))
        results.archive_result(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"result-1.json": "0", "result-2.json": "1", "result-3.json": "2"}
