"""The study of proxies: correlations and conclusions from numbers that are known."""

from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from edgenes.errors import DivergedError
from studies import proxy
from studies.proxy import (
    MEASURES,
    TRUTH,
    against_full,
    conclusions,
    correlations,
    dropped,
    table,
)
from tune_jobs.experiments.tables import against_zero
from tune_jobs.study.space import search_space


def frame(seeds: int, rows: int) -> pd.DataFrame:
    """Accuracies of which short and full see the truth well, and one-shot is all noise; searches differ a lot."""
    rng, found = np.random.default_rng(1), []
    for seed in range(seeds):
        truth = rng.normal(size=rows)
        measured = {"one_shot": rng.normal(size=rows), "short": truth + 0.3 * rng.normal(size=rows)}
        measured |= {"full": truth + 0.1 * rng.normal(size=rows), TRUTH: truth}
        found.append(pd.DataFrame({name: values + 100 * seed for name, values in measured.items()} | {"seed": seed}))
    whole = pd.concat(found, ignore_index=True)
    return whole.assign(**{f"images_{name}": 10.0 for name in MEASURES}, failed="")


def test_a_good_proxy_is_distinguished_from_noise_within_each_search():
    found = correlations({"genotypes": frame(6, 12)})
    assert len(found["genotypes", "one_shot"]) == 6
    assert abs(found["genotypes", "one_shot"].mean()) < 0.4  # pooled it would be almost 1
    short, full, chance, worse, *_ = conclusions(found)
    assert "short retraining of genotypes is 0." in short and "above chance" in short and "n = 6" in short
    assert "full retraining of genotypes is 0." in full and "after Holm" in full
    assert "Not distinguishable from chance" in chance and "6 searches could have detected" in chance
    assert "one-shot of genotypes is" in worse and "below full retraining" in worse


def test_both_questions_are_corrected_over_all_that_they_concern():
    found = correlations({"genotypes": frame(6, 12), "trials": frame(3, 12)})
    assert {one.comparisons for one in against_zero(found).values()} == {6}
    assert {one.comparisons for one in against_full(found).values()} == {4}


def test_one_search_has_no_verdict():
    chance, full = conclusions(correlations({"trials": frame(1, 40)}))
    assert "too little to tell" in chance and "too little to tell" in full


def test_ties_few_rows_and_missing_values_are_no_trouble():
    tied = frame(1, 20).round(0)
    expected = stats.spearmanr(tied["short"], tied[TRUTH]).statistic
    assert correlations({"trials": tied})["trials", "short"][0] == pytest.approx(expected)
    for rows in (frame(1, 6).assign(one_shot=0.5), frame(1, 2)):
        assert correlations({"trials": rows})["trials", "one_shot"].empty
    assert "too few rows" in conclusions(correlations({"trials": frame(1, 2)}))[0]
    two = frame(2, 8)
    two.loc[0, TRUTH] = np.nan
    found = correlations({"trials": two})
    assert len(found["trials", "short"]) == 2 and len(table(found, {"trials": two})) == 3


def test_trials_without_a_value_are_counted():
    lost = frame(1, 4)
    lost.loc[0, "failed"] = "2 distinct genotypes for an ensemble of 3"
    assert dropped(lost) == "3 of 4 trials have a value; 1 with 2 distinct genotypes for an ensemble of 3."


def test_a_search_that_diverges_fails_and_a_trial_has_no_value(monkeypatch):
    def diverging(*_):
        raise DivergedError("the penalty became nan")

    monkeypatch.setattr(proxy, "_trained", diverging)
    bench, params = MagicMock(), proxy.parameters(1, search_space("exact"), 0)[0]
    trial = {"seed": 0, "trial": 0, "params": params, "count": 3}
    assert proxy.measure(trial, bench)["failed"] == "the penalty became nan"
    with pytest.raises(DivergedError):
        proxy.measure({"seed": 0, "trial": None, "params": {}, "count": 4}, bench)
