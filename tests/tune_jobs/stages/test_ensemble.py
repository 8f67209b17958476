"""The end of a study without Ray: which hypernetwork wins, the ensemble it gives, and how T is read."""

import dataclasses
import json

import pytest

from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.metrics import accuracy, nll
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype, shared_edges
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench
from tune_jobs.files.layout import PREDICTIONS, TEST_READS
from tune_jobs.files.study_files import StudyFiles
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
from tune_jobs.study.saved import open_saved


@pytest.fixture(scope="module")
def saved(finished):
    return open_saved(finished)


@pytest.fixture(scope="module")
def context(saved):
    return saved.context()


@pytest.fixture(scope="module")
def data(saved):
    return saved.data()


def members(context, saved):
    """The candidates of all finalists."""
    return [entry for trial in saved.finalists() for entry in finalist_members(context, trial.number)]


class TestJobs:
    def test_each_retraining_comes_once_under_a_name_of_its_own(self, saved, context):
        shared = context.candidates_of(saved.finalists()[0].number)[0].genotype
        context = dataclasses.replace(context, seeds_per_candidate=2, optimal=shared)  # which a finalist has already
        entries = [*members(context, saved), *optimal_members(context), *random_members(context)]
        jobs = retraining_jobs([*entries, *members(context, saved)])
        assert (
            len(jobs) == len({job["name"] for job in jobs}) == len({entry.member for entry in entries}) < len(entries)
        )

    def test_members_of_an_ensemble_have_training_seeds_of_their_own(self, saved, context):
        """Networks that begin with the same weights and see the same batches would err alike."""
        context = dataclasses.replace(context, seeds_per_candidate=2)
        for entries in (members(context, saved), optimal_members(context), random_members(context)):
            distinct = {entry.member for entry in entries}
            assert len({member.config.seed for member in distinct}) == len(distinct)

    def test_the_random_genotypes_are_distinct_and_decided_by_the_seed(self, context):
        found = [entry.member.genotype for entry in random_members(context)]
        assert random_members(context) == random_members(context)
        # as many as candidates and seeds of the optimal genotype; and 5 in the place of the survey's 10 retrainings of
        # as many epochs on half the images
        assert len(set(found)) == len(found) == 5 + 5
        other = dataclasses.replace(context, setting=context.setting.of_seed(1))
        assert [entry.member.genotype for entry in random_members(other)] != found


class TestChoice:
    @pytest.mark.parametrize("criterion", ["nll", "accuracy"])
    def test_the_best_by_the_criterion_wins_each_time(self, saved, context, data, criterion):
        context = dataclasses.replace(context, setting=dataclasses.replace(context.setting, criterion=criterion))
        labels, finalists = data.validation.labels, saved.finalists()
        chosen, table = choose_finalist(context, data, finalists)
        for row, finalist in zip(table, finalists, strict=True):
            entries = [*finalist_members(context, finalist.number), *optimal_members(context)]
            distinct = list({entry.member: entry for entry in entries}.values())
            predictions = pool_of(context, data, distinct).predictions
            expected = cross_fitted(predictions, labels, 2, criterion, calibration="temperature")
            assert (row["accuracy"], row["nll"]) == (expected.accuracy, expected.nll)
            assert (row["trial"], row["networks"]) == (finalist.number, len(distinct))
        best = min(table, key=lambda row: row["nll"] if criterion == "nll" else -row["accuracy"])
        assert chosen == best["trial"]
        assert choose_finalist(context, data.without_test(), finalists) == (chosen, table)

    def test_a_tie_goes_to_the_finalist_that_comes_first(self, saved, context, data, monkeypatch):
        finalists = saved.finalists()
        drawn = context.candidates_of(finalists[0].number)
        monkeypatch.setattr(StudyContext, "candidates_of", lambda context, trial: drawn)
        for order in (finalists, finalists[::-1]):
            assert choose_finalist(context, data, order)[0] == order[0].number

    def test_finalists_with_failed_retrainings_cannot_win(self, study, data):
        saved = open_saved(study)
        context, finalists = saved.context(), saved.finalists()
        stored = pool_of(context, data, finalist_members(context, finalists[1].number)).records
        for path in (study / PREDICTIONS).glob("*.pt"):
            if path.stem not in {record.key for record in stored}:
                path.unlink()
        assert choose_finalist(context, data, finalists)[0] == finalists[1].number
        for path in (study / PREDICTIONS).glob("*.pt"):
            path.unlink()
        with pytest.raises(StudyError, match="no finalist has 2 retrained candidates"):
            choose_finalist(context, data, finalists)


class TestTest:
    def test_each_reading_is_noted_and_counted_a_damaged_line_too(self, data, tmp_path):
        assert results.test_reads(tmp_path) == 0
        for k in (1, 2):
            assert results.read_test(data, StudyFiles(tmp_path), f"purpose {k}") is data.test
            assert results.test_reads(tmp_path) == k
        notes = [json.loads(line) for line in (tmp_path / TEST_READS).read_text().splitlines()]
        assert [(note["purpose"], note["data"]) for note in notes] == [(f"purpose {k}", data.digest) for k in (1, 2)]
        (tmp_path / TEST_READS).write_bytes(b'{"time": "\xff')
        results.read_test(data, StudyFiles(tmp_path), "the second")
        assert results.test_reads(tmp_path) == 2

    def test_the_final_ensemble_reads_it_once_and_nothing_before_does(self, finished, result):
        assert results.test_reads(finished) == result["test_reads"] == 1


class TestEnsemble:
    def test_the_saved_ensemble_has_the_scores_of_the_result(self, finished, data, result):
        ensemble = Ensemble.load(finished / "ensemble")
        test = ensemble.predict(data.test.images.transpose(0, 2, 3, 1))
        assert result["test"]["accuracy"] == accuracy(test, data.test.labels)
        assert len(result["members"]) == 2

    def test_members_are_candidates_of_the_finalist_or_the_optimal_genotype(self, context, result):
        candidates = context.candidates_of(result["chosen"]["number"])
        drawn = {(None, context.optimal.digest), *((each.lam, each.genotype.digest) for each in candidates)}
        for row in result["members"]:
            assert (row["lambda"], row["digest"]) in drawn
            assert row["shared"] == shared_edges(Genotype.from_dict(row["genotype"]), context.optimal)

    def test_a_candidate_that_is_the_optimal_genotype_is_in_the_pool_once(self, saved, context):
        candidates = finalist_members(context, saved.finalists()[0].number)
        context = dataclasses.replace(context, optimal=candidates[1].member.genotype)
        pool = with_optimal(context, candidates)
        assert pool[:3] == candidates and len({entry.member for entry in pool}) == len(pool) == 4

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_its_calibration_is_fitted_on_v_and_recorded_with_the_scores_of_both(self, finished, data, result, part):
        record, labels = result["calibration"], getattr(data, part).labels
        saved = Ensemble.load(finished / "ensemble")
        assert saved.calibration.to_dict() == {name: record[name] for name in ("scale", "shift")}
        assert record["scores"]["test"]["after"]["nll"] == result["test"]["nll"]
        raw = Ensemble.of(list(saved.networks), saved.configs, data, weights=saved.weights)
        test = raw.predict(data.test.images.transpose(0, 2, 3, 1))
        assert record["scores"]["test"]["before"]["nll"] == pytest.approx(nll(test, data.test.labels), abs=1e-5)
        for when in ("before", "after"):
            rows = [row for row in record["reliability"] if (row["part"], row["when"]) == (part, when)]
            assert sum(row["images"] for row in rows) == len(labels)
            gaps = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
            assert record["scores"][part][when]["ece"] == pytest.approx(gaps / len(labels))

    def test_every_rival_of_the_comparison_is_there(self, result):
        assert [row["name"] for row in comparison(result)] == list(NAMES.values())
        best = result["baseline"]["best_member"]
        assert best["validation"]["nll"] == min(row["validation"]["nll"] for row in result["members"])

    def test_another_file_than_the_chosen_hypernetwork_is_refused_before_the_test_is_read(self, study, data, result):
        context = open_saved(study).context()
        bench = Bench(context.place.trainer(data), context.setting, context.place)
        job = {"trial": result["chosen"]["number"], "hypernetwork": "another digest"}
        with pytest.raises(CheckpointError, match="is not the hypernetwork that was chosen"):
            ensemble_job(job, bench, data.test, context, True, {})
        assert results.test_reads(study) == 1


def test_results_are_numbered_in_the_order_they_came(tmp_path):
    for k in range(3):
        (tmp_path / "result.json").write_text(str(k))
        results.archive_result(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"result-1.json": "0", "result-2.json": "1", "result-3.json": "2"}
