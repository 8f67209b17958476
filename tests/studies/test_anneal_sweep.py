"""The main job as a person runs it: a tiny real study, finished, extended, moved, refused."""

import json
import shlex
import shutil
import sys

import pytest
from optuna.trial import TrialState

from edgenes import Ensemble, Genotype, Hypernetwork, control_error, load_data
from studies.anneal_sweep import main, more_trials
from tests.faults.harness import SMOKE, inspect, trials
from tune_jobs.files.layout import TEST_READS


def test_the_command_says_what_it_does_and_what_comes_next(undisturbed):
    said = (undisturbed.parent / "output").read_text()
    for word in ("2 complete", "EdgeNES ensemble", "report", "optuna-dashboard", "--trials"):
        assert word in said


def test_a_study_leaves_an_ensemble_and_all_that_led_to_it(undisturbed):
    result = json.loads((undisturbed / "result.json").read_text())
    assert result["test_reads"] == 1 == len((undisturbed / TEST_READS).read_text().splitlines())
    assert {"mean_member", "best_member", "logistic_regression", "optimal_ensemble", "random_ensemble"} == set(
        result["baseline"]
    )
    assert set(result["seconds"]) == {"search", "sweep", "finalists", "ensemble"}
    assert len(result["members"]) == 2 and result["chosen"]["number"] in (0, 1)
    for name in ("config.json", "environment.json", "trials.csv", "report/index.html", "ensemble/README.md"):
        assert (undisturbed / name).stat().st_size > 100

    for name in ("weights", "control", "comparison", "members", "cells", "importances", "trials"):
        assert len((undisturbed / "report" / f"{name}.csv").read_text().splitlines()) > 1

    data = load_data("digits")
    probabilities = Ensemble.load(undisturbed / "ensemble").predict(data.test.images.transpose(0, 2, 3, 1))
    right = (probabilities.argmax(1) == data.test.labels).mean()
    assert right == pytest.approx(result["test"]["accuracy"], abs=1e-9)

    optimal = Genotype.from_json((undisturbed / "search" / "genotype.json").read_text())
    hypernetwork = Hypernetwork.load(undisturbed / "hypernetwork" / "hypernetwork.pt")
    assert control_error(hypernetwork, optimal) == result["control_error"]


def test_what_adds_trials_can_be_run_as_it_was_run_now(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["studies/anneal_sweep.py", "--trials", "2", "--out", "it's"])
    assert shlex.split(more_trials({"trials": 4}))[2:] == ["--out", "it's", "--trials", "4"]


def test_a_finished_study_says_so_and_changes_nothing(undisturbed, capsys):
    before = (undisturbed / "result.json").read_bytes()
    assert main([*SMOKE, "--out", str(undisturbed)]) == 0
    assert "finished" in capsys.readouterr().out
    assert (undisturbed / "result.json").read_bytes() == before


def test_a_study_that_was_killed_before_its_result_reads_no_test_image_again(undisturbed, ray_local, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "report")
    assert main([*SMOKE, "--out", str(out)]) == 0
    assert len((out / TEST_READS).read_text().splitlines()) == 1
    assert not inspect(out, undisturbed).problems


def test_another_setting_is_refused_and_more_trials_go_on(undisturbed, ray_local, tmp_path, capsys):
    out = tmp_path / "moved"  # a study can be moved
    shutil.copytree(undisturbed, out)
    assert main([*SMOKE, "--out", str(out), "--candidates", "4"]) == 1
    assert "candidates" in capsys.readouterr().err
    assert main([*SMOKE, "--out", str(out), "--trials", "3"]) == 0
    assert [trial.state for trial in trials(out)] == [TrialState.COMPLETE] * 3
    assert (out / "result-1.json").read_bytes() == (undisturbed / "result.json").read_bytes()
    before, after = (json.loads((out / name).read_text()) for name in ("result-1.json", "result.json"))
    same = after["chosen"]["number"] == before["chosen"]["number"]
    assert after["test_reads"] == (1 if same else 2), "T is read again for another ensemble only"


def test_another_study_retrains_nothing_it_finds_and_gives_the_same_numbers(undisturbed, ray_local, tmp_path, capsys):
    cache, out = shutil.copytree(undisturbed.parent / "cache", tmp_path / "cache"), tmp_path / "warm"
    assert main([*SMOKE, "--out", str(out), "--cache", str(cache)]) == 0
    shutil.rmtree(cache)  # its folder is whole without
    cold, warm = (json.loads((folder / "result.json").read_text()) for folder in (undisturbed, out))
    same = ("chosen", "control_error", "selection", "members", "validation", "test", "baseline", "optimal")
    assert {name: warm[name] for name in same} == {name: cold[name] for name in same}
    names = [sorted(path.name for path in folder.glob("predictions/*.pt")) for folder in (undisturbed, out)]
    assert names[0] == names[1]

    before, hits = cold["candidates"], warm["candidates"]
    assert before["sweep"]["shared"] == before["finalists"]["shared"] == before["finalists"]["found"] == 0
    for stage in ("sweep", "finalists"):
        assert hits[stage]["asked"] == hits[stage]["found"] == before[stage]["asked"] > 0
    assert hits["finalists"]["shared"] == hits["finalists"]["asked"]
    assert hits["sweep"]["shared"] == before["sweep"]["asked"] - before["sweep"]["found"], "the others were its own"
    assert "(100%) found in the cache" in capsys.readouterr().out
