"""The study of the speed-up: its conclusions from known counts."""

import numpy as np
import pandas as pd
import pytest

from studies.speedup import (
    DARTS,
    EDGE,
    SpeedupConfig,
    by_epoch,
    conclusions,
    counts_frame,
    dots_frame,
    findings,
    ratios_frame,
    theory_frame,
)

NOISE = [0.0, 0.2, -0.2, 0.1, -0.1]


@pytest.fixture(scope="module")
def theory():
    return theory_frame(3, 4)


def counts(summed: float, darts: float = 2.0, paths: str = "architecture") -> pd.DataFrame:
    """Five epochs that update so many edges a step, the last one twice as many."""
    jobs, results = [], []
    for seed in range(5):
        edges = [summed + NOISE[seed]] * 4 + [2 * (summed + NOISE[seed])]
        columns = {"summed": edges, "distinct": [value / 2 for value in edges]}
        jobs.append({"weight_paths": paths, "seed": seed})
        results.append({EDGE: columns, DARTS: {"summed": [darts] * 3}})
    return counts_frame(jobs, results)


def said(theory: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    return conclusions(theory, ratios_frame(frame, 4), 3, 4)


def test_the_theorems_numbers_are_the_papers(theory):
    assert theory["edges / Lambda"].tolist() == pytest.approx([75 / 64, 0.75, 45 / 32, 1.0])


def test_ratios_are_of_means_over_epochs():
    ratios = ratios_frame(counts(3.0), 4)
    first = ratios.iloc[0]
    assert first["edges"] == pytest.approx(18 / 5) and first["ratio"] == pytest.approx(9 / 5)
    assert first["promised"] == pytest.approx(9 / 10) and first["distinct_ratio"] == pytest.approx(9 / 10)
    assert len(ratios) == 5


@pytest.mark.parametrize(
    ("summed", "words"),
    [(2.0, "fewer than promised"), (3.9, "within the interval"), (6.0, "more than promised")],
)
def test_the_conclusion_says_whether_the_promise_is_met(theory, summed, words):
    promise, counted, last = said(theory, counts(summed))
    assert "For 3 members and Lambda = 4, Theorem 1 promises" in promise and "1.17 times" in promise
    assert "U[0, Lambda] 0.75" in promise and "U{1..Lambda}, nested 1.41" in promise
    assert f"puts at 1.17: {words}." in counted and "architecture paths" in counted
    assert "not yet accuracy" in last


def test_a_search_without_an_edge_has_no_ratio(theory):
    frame = counts(2.0, darts=0.0)
    assert ratios_frame(frame, 4)["ratio"].isna().all()
    assert "That is unknown times DartsEns" in said(theory, frame)[1]
    assert not any("to DartsEns" in name for name in dots_frame(theory, ratios_frame(frame, 4))["what"])


def test_fair_paths_are_said_not_to_be_the_theorems(theory):
    both = pd.concat([counts(2.0), counts(0.5, 0.2, paths="fair")])
    sentences = said(theory, both)
    assert [("Fair paths do not follow lambda" in one) for one in sentences] == [False, False, False, True, False]
    shown = findings(both, 3, 4).sections[2].table
    assert list(shown["paths"]) == ["architecture", "fair"] and shown["edges a step"][0].startswith("2.4")


def test_means_of_epochs():
    assert by_epoch(np.array([1, 3, 5, 5]), 2) == [2, 5]


def test_all_presets_follow_paths():
    assert {SpeedupConfig.of(preset=preset).search.forward for preset in ("laptop", "paper", "darts")} == {"sampled"}
