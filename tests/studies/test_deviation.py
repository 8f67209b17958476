"""The study of deviation: its conclusions from numbers that are known."""

import numpy as np
import pandas as pd
import pytest

from studies.deviation import OURS, POOLED, RANDOM, cell_frame, conclusions, differences, table, trend_sentences, trends


def frame(gain: float = 0.0, spread: float = 1.0, slope: float = 0.0):
    """Two genotypes a cell: the hypernetwork's are `gain` better, its spread `spread` times as large."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(5):
        for source, more, width in ((OURS, gain, spread), (RANDOM, 0.0, 1.0)):
            for shared in range(4):
                middle = 0.8 + more + slope * shared + 0.002 * rng.normal()
                half = 0.01 * width * (1 + 0.1 * rng.random())
                for accuracy in (middle - half, middle + half):
                    rows.append({"seed": seed, "source": source, "shared": shared, "accuracy": accuracy})
    return pd.DataFrame(rows)


def test_a_difference_is_said_with_its_sign():
    first, *each = conclusions(differences(cell_frame(frame(0.05)), "mean"), "mean")
    assert POOLED in first and "points above random deviation" in first
    assert len(each) == 4 and all("points above random deviation" in text for text in each)


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


def test_missing_cells_are_no_trouble():
    rows = frame()
    alone = cell_frame(rows[rows["source"] == RANDOM])
    assert "nothing is compared" in conclusions(differences(alone, "mean"), "mean")[0]
    assert "none" in set(table(alone)["0"]) and not any("hypernetwork" in name for name in trends(alone))
