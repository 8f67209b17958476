"""The study of deviation: its conclusions from numbers that are known, and the command as a person runs it."""

import json

import numpy as np
import pandas as pd
import pytest

from studies.deviation import (
    POOLED,
    SOURCES,
    cell_frame,
    conclusions,
    differences,
    found_told,
    table,
    trend,
    trend_told,
)
from tests.support.small_study import run
from tune_jobs.report.statistics import corrected

OURS, RANDOM = SOURCES.values()


def frame(gain: float = 0.0, spread: float = 1.0, slope: float = 0.0, seeds: int = 5, noise: float = 0.002):
    """Two genotypes a cell: the hypernetwork's are `gain` better, its spread `spread` times as large."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for source, more, width in ((OURS, gain, spread), (RANDOM, 0.0, 1.0)):
            for shared in range(4):
                middle = 0.8 + more + slope * shared + noise * rng.normal()
                half = 0.01 * width * (1 + 0.1 * rng.random())
                for accuracy in (middle - half, middle + half):
                    rows.append({"seed": seed, "source": source, "shared": shared, "accuracy": accuracy})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("gain", "word"), [(0.05, "above"), (-0.05, "below")])
def test_a_difference_is_said_with_its_sign(gain, word):
    cells = cell_frame(frame(gain))
    first, *each = conclusions(differences(cells, "mean"), "mean")
    assert f"the hypernetwork is 5.0 points {word} random deviation" in first or f"points {word} random" in first
    assert len(each) == 4 and all(f"points {word} random deviation" in text for text in each)


def test_what_cannot_be_told_is_said():
    first, rest = conclusions(differences(cell_frame(frame(0.0, noise=0.02)), "mean"), "mean")
    assert "not distinguishable from random deviation" in first and rest.count(" shared ") == 4
    assert "not distinguishable at this budget" in rest


def test_the_spread_is_compared_by_itself():
    cells = cell_frame(frame(0.0, spread=0.3))
    assert differences(cells, "spread")[POOLED].conclusion == "B lower"
    assert differences(cells, "mean")[POOLED].conclusion == "not distinguishable"


def test_the_spread_of_two_and_of_three_estimates_the_same():
    rng = np.random.default_rng(0)
    found = {}
    for size in (2, 3):
        keys = {"source": OURS, "shared": 0}
        rows = [{"seed": k, **keys, "accuracy": value} for k in range(4000) for value in rng.normal(size=size)]
        found[size] = cell_frame(pd.DataFrame(rows))["spread"].mean()
    assert found[2] == pytest.approx(1, abs=0.05) and found[3] == pytest.approx(1, abs=0.05)


def test_a_trend_is_told_by_edges_replaced():
    cells = cell_frame(frame(slope=0.02))
    falling = trend(cells, RANDOM, "mean")
    assert falling.difference == pytest.approx(-0.02, abs=0.003) and falling.conclusion == "B lower"


def test_a_trend_that_cannot_be_told_is_said_with_what_could_have_been():
    (same,) = corrected({"": trend(cell_frame(frame(noise=0.02)), OURS, "mean")}).values()
    said = trend_told(same, OURS, "mean")
    assert "no trend is distinguishable" in said and "5 searches could have detected" in said


def test_few_searches_and_missing_cells_are_no_trouble():
    rows = frame(seeds=1)
    cells = cell_frame(rows)
    assert "too little to tell" in conclusions(differences(cells, "mean"), "mean")[0]
    assert "too little to tell a trend" in trend_told(trend(cells, OURS, "mean"), OURS, "mean")
    alone = cell_frame(rows[rows["source"] == RANDOM])
    assert "nothing is compared" in conclusions(differences(alone, "mean"), "mean")[0]
    assert "none" in set(table(alone)["0"])
    assert trend(alone, OURS, "mean") is None
    assert "no trend to tell" in trend_told(None, OURS, "mean")
    control = pd.DataFrame([{"seed": 0, "shared": k, "argmax": False, "samples": 0.0} for k in range(4)])
    assert "the hypernetwork gave 0" in found_told(alone, control, 2)


@pytest.mark.e2e
def test_the_command_ends_with_a_conclusion_and_a_report(tmp_path):
    done = run("deviation", tmp_path / "study")
    assert done.status == 0, done.errors
    report = tmp_path / "study" / "report"
    rows = pd.read_csv(report / "deviation.csv")
    assert rows["accuracy"].between(0, 1).all() and set(rows["shared"]) == {0, 1, 2, 3, 4}
    assert (rows.groupby(["seed", "source", "shared"])["genotype"].nunique() <= 2).all()
    assert not (tmp_path / "study" / "test_reads.jsonl").exists()
    assert len(json.loads((tmp_path / "study" / "result.json").read_text())["conclusions"]) >= 7
    assert "Table 2" in (report / "index.html").read_text()
