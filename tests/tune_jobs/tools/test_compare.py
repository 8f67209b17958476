"""Two studies side by side: what differs, in pairs where there are pairs, and no more certain than the numbers are."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from edgenes.checkpoint import write_json
from tests.support.tiny_study import begin_study, finish_study, run_trials
from tune_jobs.files.curves import read_curve
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.compare import curves_of
from tune_jobs.tools.compare_page import CURVES, curves_figure


@pytest.fixture(scope="module")
def studies(finished, tmp_path_factory):
    """Folders of studies: the first, a longer one with another budget, one of another seed on other data."""
    place = tmp_path_factory.mktemp("studies")
    budget = begin_study(place / "budget", trials=4, hypernetwork_epochs=2)
    other = begin_study(place / "other", seed=1, data_seed=7, trials=3, hypernetwork_epochs=2, candidates=4)
    for saved in (budget, other):
        run_trials(saved)
    finish_study(budget)
    return {"first": finished, "budget": budget.folder, "other": other.folder}


def test_trials_of_equal_number_parameters_and_seed_are_pairs(studies, answered):
    answer = answered("compare", studies["first"], studies["budget"])
    assert answer["pairing"]["paired"] and answer["pairing"]["same_seed"]
    assert (answer["pairing"]["pairs"], answer["pairing"]["complete"]) == (3, [3, 4])
    assert "3 of the same number and parameters, the same seed each" in answer["pairing"]["text"]
    assert "0 of A and 1 of B have no partner and are left out" in answer["pairing"]["text"]
    values = [[t.values[0] for t in open_saved(studies[name]).study.trials[:3]] for name in ("first", "budget")]
    rows = {row["measure"]: row for row in answer["differences"]}
    assert answer["differences"][0] is rows["value"] and rows["value"]["n"] == [3, 3]
    assert rows["value"]["difference"] == pytest.approx(np.mean(np.subtract(values[1], values[0])))
    if rows["value"]["low"] is not None:
        reference = stats.ttest_rel(values[1], values[0]).confidence_interval()
        assert rows["value"]["low"] == pytest.approx(reference.low)
    last = [
        np.mean([read_curve(studies[name] / "trials" / f"{k:04d}.jsonl")[n - 1]["loss"] for k in range(3)])
        for name, n in (("first", 3), ("budget", 2))
    ]
    assert (rows["loss"]["mean_a"], rows["loss"]["mean_b"]) == (pytest.approx(last[0]), pytest.approx(last[1]))


def test_without_two_pairs_all_trials_are_compared_as_groups(studies, answered):
    answer = answered("compare", studies["first"], studies["other"])
    assert not answer["pairing"]["paired"]
    assert "3 of A and 3 of B: only 1 trial" in answer["pairing"]["text"]
    assert [(row["number"], row["paired"]) for row in answer["trials"]] == [
        (0, True),
        *((k, False) for k in (1, 1, 2, 2)),
    ]
    assert answer["differences"][0]["n"] == [3, 3]
    assert answer["results"] == [] and not answer["b"]["finished"]
    assert {"data", "hypernetwork_epochs", "candidates"} <= {row["setting"] for row in answer["settings"]}
    notes = " ".join(answer["notes"])
    assert "the data differ" in notes and "settings differ (" in notes


def test_a_copy_differs_in_its_environment_at_most(studies, tmp_path, answered):
    shutil.copytree(studies["first"], tmp_path / "copy")
    answer = answered("compare", studies["first"], tmp_path / "copy")
    assert answer["settings"] == []
    assert {row["conclusion"] for row in answer["differences"]} == {"equal"}
    assert answer["conclusion"].startswith("Value of the trials: equal (3 pairs).")
    path = tmp_path / "copy" / "environment.json"
    write_json(path, json.loads(path.read_text()) | {"platform": "another"})
    answer = answered("compare", studies["first"], tmp_path / "copy")
    assert [(row["setting"], row["b"]) for row in answer["settings"]] == [("platform", "another")]
    assert "ran in other environments" in " ".join(answer["notes"])


def test_settings_and_results_of_two_finished_studies(studies, answered):
    answer = answered("compare", studies["first"], studies["budget"])
    found = {row["setting"]: (row["a"], row["b"]) for row in answer["settings"]}
    assert found.pop("dataset") == tuple(str(studies[n] / "blobs.npz") for n in ("first", "budget"))
    assert found == {"hypernetwork_epochs": (3, 2), "trials": (3, 4), "finalists": (2, 1)}
    results = [json.loads((studies[name] / "result.json").read_text()) for name in ("first", "budget")]
    first = answer["results"][0]
    assert first["name"] == "EdgeNES ensemble" and len(answer["results"]) == 6
    assert [first["mean_a"], first["mean_b"]] == [result["test"]["accuracy"] for result in results]
    error = np.hypot(*(result["test"]["standard_error"] for result in results))
    assert first["standard_error"] == pytest.approx(error)
    assert "not over seeds" in answer["conclusion"]


def test_a_study_without_trials_has_nothing_to_compare(studies, tmp_path, told):
    said = told("compare", studies["first"], begin_study(tmp_path).folder)
    assert "No value to compare: both studies need a complete trial." in said


def test_text_and_page_show_settings_trials_differences_results_and_the_conclusion(studies, tmp_path, told):
    folder = tmp_path / "a <b> & c"
    shutil.copytree(studies["budget"], folder)
    lines = told("compare", studies["first"], folder, "--out", tmp_path / "page.html").splitlines()
    assert any(re.fullmatch(r" *hypernetwork_epochs +3 +2", line) for line in lines)
    assert sum(line.strip().startswith("value of the trial ") for line in lines) == 1
    assert sum(line.strip().startswith("EdgeNES ensemble ") for line in lines) == 1
    assert lines[-2].startswith("Conclusion. Value of the trials:") and lines[-1].endswith("page.html")
    page = (tmp_path / "page.html").read_text()
    assert [path.name for path in tmp_path.glob("*.html")] == ["page.html"]
    assert "a &lt;b&gt; &amp; c" in page and "a <b> & c" not in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page), "it needs no network"
    for title in ("What differs", "Trials", "Curves", "Results", "All trials"):
        assert f"<h2>{title}</h2>" in page
    assert page.count('class="plotly-graph-div"') == 1


def test_the_curves_are_those_recorded(studies):
    frames = {side: curves_of(open_saved(studies[name])) for side, name in (("A", "first"), ("B", "budget"))}
    curve = read_curve(studies["first"] / "trials" / "0001.jsonl")
    mine = frames["A"][frames["A"]["trial"] == 1]
    for metric in ("loss", "intermediate"):
        recorded = [record[metric] for record in curve if metric in record]
        assert mine[metric].dropna().tolist() == recorded and recorded
    figure = curves_figure(pd.concat(frames, names=["study"]).reset_index("study"))
    assert len(figure.data) == 4 * len(CURVES), "of both studies: the trials, and their median"
    [median] = [trace for trace in figure.data if trace.showlegend and trace.name.startswith("A: median")]
    assert list(median.y) == frames["A"].groupby("step")["loss"].median().dropna().tolist()


def test_a_study_is_not_compared_with_itself(studies, refused):
    assert "is given twice" in refused("compare", studies["first"], studies["first"])


def test_only_a_page_is_written(studies, tmp_path, refused):
    (tmp_path / "trials.csv").write_text("mine")
    message = refused("compare", studies["first"], studies["budget"], "--out", tmp_path / "trials.csv")
    assert "--out names the page to write" in message and (tmp_path / "trials.csv").read_text() == "mine"
