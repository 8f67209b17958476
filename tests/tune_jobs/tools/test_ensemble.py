"""Another ensemble from a study's hypernetwork: the study's own comes back, other settings give others."""

import json
from dataclasses import replace

import pytest

from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError, DivergedError
from edgenes.metrics import accuracy, nll
from edgenes.selection import select_ensemble
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork
from tests.support.tiny_study import begin_study, run_trials
from tune_jobs.files import stored_trainer as store_module
from tune_jobs.files.layout import FINALISTS
from tune_jobs.stages.finalists import finalist_members, pool_of, with_every_seed, with_optimal
from tune_jobs.study import result as results
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.saved import open_saved
from tune_jobs.tools import ensemble as tool
from tune_jobs.tools.ensemble import parse_range


def own_pool(folder):
    """The context, the data and the pool from which the study chose."""
    saved = open_saved(folder)
    context, data = saved.context(), saved.data()
    number = json.loads((folder / FINALISTS).read_text())["chosen"]
    return context, data, pool_of(context, data, with_optimal(context, finalist_members(context, number)))


def digests(answer):
    return [member["digest"] for member in answer["members"]]


class TestChoice:
    def test_with_the_studys_settings_it_is_the_studys_ensemble_and_the_study_stays(self, study, result, answered):
        names = (
            "result.json",
            "hypernetwork/hypernetwork.pt",
            "ensemble/config.json",
            "ensemble/model.safetensors",
            "study.db",
            "config.json",
        )
        before = {name: (study / name).read_bytes() for name in names}
        answer = answered("ensemble", study)
        assert {name: (study / name).read_bytes() for name in names} == before
        for part in ("selection", "members", "validation", "test"):
            assert answer[part] == result[part]
        assert answer["cached"] == answer["selection"]["networks"] >= 3, "nothing is trained twice"
        assert answer["study"] == {part: result[part] for part in ("validation", "test")}

    def test_the_members_are_the_best_of_the_candidates_in_the_range(self, study, answered):
        options = ("--size", 2, "--candidates", 5, "--lambda", "1:2", "--criterion", "accuracy")
        answer = answered("ensemble", study, *options)
        saved = open_saved(study)
        context, data = saved.context(), saved.data()
        number = answer["asked"]["trial"]
        path = study / "hypernetwork" / "hypernetwork.pt"
        wide = replace(context, setting=replace(context.setting, candidates=5))
        drawn = wide.candidates(Hypernetwork.load(path), trial_seed(study_seed(saved.study), number), 1.0, 2.0)
        assert len(drawn) == answer["candidates"] == 5
        entries = with_optimal(context, with_every_seed(context, [(c.genotype, c.lam) for c in drawn]))
        pool = pool_of(context, data, entries)
        chosen = select_ensemble(pool.predictions, data.validation.labels, 2, "accuracy")
        assert digests(answer) == [entries[k].member.genotype.digest for k in chosen.members]
        for member in answer["members"]:
            assert member["lambda"] is None or 1 <= member["lambda"] <= 2
            assert member["shared"] == shared_edges(Genotype.from_dict(member["genotype"]), saved.optimal)

    def test_a_method_of_selection_may_be_named(self, study, answered):
        answer = answered("ensemble", study, "--selection", "weighted")
        assert answer["asked"]["selection"] == answer["selection"]["method"] == "weighted"
        _, data, pool = own_pool(study)
        labels = data.validation.labels
        chosen = select_ensemble(pool.predictions, labels, 2, "nll", "weighted", calibration="temperature")
        assert digests(answer) == [pool.entries[k].member.genotype.digest for k in chosen.members]
        saved = Ensemble.load(answer["folder"])
        assert tuple(answer["selection"]["weights"]) == saved.weights == chosen.weights
        assert saved.calibration == chosen.calibration
        assert answer["selection"]["score"] == pytest.approx(chosen.score)
        assert answer["validation"]["nll"] == pytest.approx(nll(chosen.combine(pool.predictions), labels))

    def test_members_chosen_under_shift_are_the_best_on_clean_and_corrupted_images(self, study, answered):
        answer = answered("ensemble", study, "--select-under", "shift", "--calibration", "none")
        context, clean, pool = own_pool(study)
        data, mixed = tool.with_corruptions(context, clean, pool)
        part, count = data.validation, len(clean.validation)
        assert len(part) == 2 * count and (part.images[:count] == clean.validation.images).all()
        assert mixed.predictions[:, :count] == pytest.approx(pool.predictions)
        chosen = select_ensemble(mixed.predictions, part.labels, 2, "nll")
        assert digests(answer) == [mixed.entries[k].member.genotype.digest for k in chosen.members]
        predicted = Ensemble.load(answer["folder"]).predict(part.images.transpose(0, 2, 3, 1))
        assert answer["validation"]["nll"] == pytest.approx(nll(predicted, part.labels), rel=1e-4)

    def test_the_best_of_all_sizes_and_no_calibration_may_be_asked_for(self, study, answered):
        answer = answered("ensemble", study, "--size", 3, "--best-prefix", "--calibration", "none")
        saved = Ensemble.load(answer["folder"])
        assert saved.calibration is None and len(saved.weights) == len(answer["members"]) <= 3
        assert answer["selection"]["score"] == pytest.approx(answer["validation"]["nll"])
        for size in (1, 2):
            other = answered("ensemble", study, "--size", size, "--calibration", "none")
            assert answer["validation"]["nll"] <= other["validation"]["nll"] + 1e-12

    def test_a_trial_may_be_named(self, study, result, answered):
        other = (result["chosen"]["number"] + 1) % 3
        answer = answered("ensemble", study, "--trial", other, "--lambda", "0:1.9")
        assert answer["asked"]["trial"] == other
        assert answer["selection"]["networks"] == 3, "without the optimal genotype's"
        drawn = {row["digest"] for row in open_saved(study).study.trials[other].user_attrs["candidates"]}
        assert {*digests(answer)} <= drawn

    def test_too_few_distinct_genotypes_are_said(self, study, told, refused):
        path = study / "hypernetwork" / "hypernetwork.pt"
        hypernetwork = Hypernetwork.load(path)
        for logits in (hypernetwork.alpha, hypernetwork.beta):
            logits.data[:] = 1e4 * logits.data[:1]
        hypernetwork.save(path)  # it gives one genotype now
        said = told("ensemble", study, "--size", 1, "--lambda", "2:2")
        assert "Only 1 of 3 distinct genotypes were found there." in said
        assert "only 1 distinct genotypes" in refused("ensemble", study, "--size", "2", "--lambda", "2:2")

    def test_a_candidate_that_diverges_is_left_out(self, study, monkeypatch, answered):
        train, calls = store_module.train_network, []

        def diverge_once(*arguments, **options):
            calls.append(arguments)
            if len(calls) == 1:
                raise DivergedError("the loss became nan")
            return train(*arguments, **options)

        monkeypatch.setattr(store_module, "train_network", diverge_once)
        answer = answered("ensemble", study, "--candidates", 6, "--lambda", "0:1.9")
        assert (answer["diverged"], answer["candidates"], answer["selection"]["networks"]) == (1, 6, 5)


class TestSaved:
    def test_the_ensemble_loads_and_its_card_says_what_was_asked(self, study, result, answered):
        before = results.test_reads(study)
        answer = answered("ensemble", study, "--size", 3, "--candidates", 4, "--lambda", "0.5:2")
        folder = study / "ensembles" / f"trial-{answer['asked']['trial']}-lambda-0.5-2-best-3-of-4-by-nll"
        assert answer["folder"] == str(folder)
        assert answer["test_reads"] == results.test_reads(study) == before + 1
        note = json.loads((study / "test_reads.jsonl").read_text().splitlines()[-1])
        assert note["purpose"] == f"ensemble ensembles/{folder.name}"
        saved = Ensemble.load(folder)
        test = open_saved(study).data().test
        assert accuracy(saved.predict(test.images.transpose(0, 2, 3, 1)), test.labels) == answer["test"]["accuracy"]
        own = Ensemble.load(study / "ensemble").card
        assert saved.card.keys() == own.keys() | {"asked"}
        assert saved.card["asked"] == answer["asked"]
        assert saved.card["hypernetwork"] == own["hypernetwork"] == answer["hypernetwork"]

    def test_an_ensemble_is_not_overwritten_and_nothing_is_read_or_trained(self, study, told, refused):
        text = told("ensemble", study, "--lambda", "0:1")
        names = [line.strip().partition("  ")[0] for line in text.splitlines() if line.count("±") == 2]
        assert names == ["ensemble", "member 1", "member 2", "the study's ensemble"]
        assert "read 2 times" in text
        for options in ("--lambda", "0:1"), ("--out", str(study / "ensemble")):
            reads, files = results.test_reads(study), sorted(study.rglob("*"))
            assert "is there already, and is not overwritten" in refused("ensemble", study, *options)
            assert (results.test_reads(study), sorted(study.rglob("*"))) == (reads, files)


class TestRefused:
    def test_a_study_without_a_hypernetwork(self, tmp_path, refused):
        saved = begin_study(tmp_path, trials=1)
        assert "has not chosen its hypernetwork yet: let its command run to the end" in refused("ensemble", tmp_path)
        run_trials(saved)
        assert "give --trial, one of 0, or let" in refused("ensemble", tmp_path)
        assert results.test_reads(tmp_path) == 0

    @pytest.mark.parametrize(
        "options, why",
        [
            (["--trial", "3"], "no trial 3: it has 3"),
            (["--size", "4"], "--size 4 is more than --candidates 3"),
            (["--size", "0"], "size must be a number of at least 1, got 0"),
            (["--selection", "bean"], "Did you mean 'beam'?"),
            (["--lambda", "2:9"], "--lambda must be LOW:HIGH within 0:2"),
        ],
    )
    def test_what_cannot_be(self, finished, options, why, refused):
        assert why in refused("ensemble", finished, *options)

    def test_a_trial_whose_hypernetwork_is_gone(self, study, refused):
        (study / "trials" / "0001-hypernetwork.pt").unlink()
        assert "trial 1 (COMPLETE) has no hypernetwork" in refused("ensemble", study, "--trial", "1")

    def test_ranges(self):
        assert [parse_range(text, 4) for text in (None, "2:4", "0.5:0.5")] == [(0, 4), (2, 4), (0.5, 0.5)]
        for text in ("", "2", "x:2", "1:2:3", "2:1", "-1:2", "0:5", "nan:2", "1:inf"):
            with pytest.raises(ConfigError, match="LOW:HIGH within 0:4"):
                parse_range(text, 4)
