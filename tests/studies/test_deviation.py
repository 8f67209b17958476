"""The study of deviation: its conclusions from numbers that are known."""

import numpy as np
import pandas as pd
import pytest

from studies.deviation import OURS, POOLED, RANDOM, cell_frame, conclusions, differences, table, trend_sentences, trends


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
    first, *each = conclusions(differences(cell_frame(frame(gain)), "mean"), "mean")
    assert POOLED in first and f"points {word} random deviation" in first
    assert len(each) == 4 and all(f"points {word} random deviation" in text for text in each)


def test_what_cannot_be_decided_is_said():
    (only,) = conclusions(differences(cell_frame(frame(0.0, noise=0.02)), "mean"), "mean")
    assert "Not distinguishable from random deviation" in only and only.count(" shared)") == 4


def test_the_spread_is_compared_by_itself():
    cells = cell_frame(frame(0.0, spread=0.3))
    assert differences(cells, "spread")[POOLED].conclusion == "B lower"
    assert differences(cells, "mean")[POOLED].conclusion == "not distinguishable"


@pytest.mark.parametrize("size", [2, 3])
def test_the_spread_of_few_genotypes_is_unbiased(size):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"seed": np.repeat(range(4000), size), "accuracy": rng.normal(size=4000 * size)})
    assert cell_frame(rows.assign(source=OURS, shared=0))["spread"].mean() == pytest.approx(1, abs=0.05)


def test_a_trend_is_by_edges_replaced():
    found = trends(cell_frame(frame(slope=0.02)))
    trend = found["Accuracy on V, random deviation"]
    assert trend.difference == pytest.approx(-0.02, abs=0.003) and trend.conclusion == "B lower"
    assert "2.0 points below 0" in trend_sentences(found)[1]
    assert "5 paired searches could have detected" in trend_sentences(trends(cell_frame(frame(noise=0.02))))[0]


def test_few_searches_and_missing_cells_are_no_trouble():
    rows = frame(seeds=1)
    cells = cell_frame(rows)
    assert "too little to tell" in conclusions(differences(cells, "mean"), "mean")[0]
    assert "too little to tell" in trend_sentences(trends(cells))[0]
    alone = cell_frame(rows[rows["source"] == RANDOM])
    assert "nothing is compared" in conclusions(differences(alone, "mean"), "mean")[0]
    assert "none" in set(table(alone)["0"]) and not any("hypernetwork" in name for name in trends(alone))
