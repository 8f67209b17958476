"""The study of proxies: correlations and conclusions from numbers that are known, and the command as it is run."""

import json
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from edgenes.errors import DivergedError
from studies import proxy
from studies.proxy import (
    MEASURES,
    TRUTH,
    ProxyConfig,
    against_chance,
    against_full,
    conclusions,
    correlation,
    costs,
    dropped,
    matrix,
)
from tests.support.small_study import run
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
    return whole.assign(**{f"{unit}_{name}": 10.0 for unit in ("images", "seconds") for name in MEASURES}, failed="")


def test_a_good_proxy_is_told_from_noise():
    one_shot, short, full = conclusions({"genotypes": frame(6, 12)})
    assert "6 searches: better than chance (p" in short and "6 searches: better than chance (p" in full
    assert "not distinguishable from chance at this budget" in one_shot and "6 searches could have detected" in one_shot
    assert "below the full retraining's own, it ranks worse (p" in one_shot and "after Holm" in one_shot


def test_one_search_has_no_interval_and_no_verdict():
    one_shot, short, full = conclusions({"trials": frame(1, 40)})
    assert correlation(frame(1, 40), "short", TRUTH).low is None
    assert all("(n = 1), 1 search: too little to tell" in text for text in (one_shot, short, full))


def test_both_questions_are_corrected_over_all_that_they_are_asked_of():
    frames = {"genotypes": frame(6, 12), "trials": frame(3, 12)}
    assert {one.comparisons for one in against_chance(frames).values()} == {6}
    assert {one.comparisons for one in against_full(frames).values()} == {4}


def test_what_searches_differ_by_is_no_correlation():
    found = correlation(frame(6, 12), "one_shot", TRUTH)
    assert found.n == 6 and abs(found.value) < 0.4  # pooled it would be almost 1
    assert correlation(frame(6, 12), "short", TRUTH).high <= 1


def test_ties_few_rows_and_missing_values_are_no_trouble():
    flat = frame(1, 6).assign(one_shot=0.5)
    assert correlation(flat, "one_shot", TRUTH) is None
    assert "no rank correlation can be told" in conclusions({"trials": flat})[0]
    few = frame(1, 2)
    assert correlation(few, "short", TRUTH) is None
    two = frame(2, 8)
    two.loc[0, TRUTH] = np.nan
    assert correlation(two, "short", TRUTH).n == 2
    assert len(matrix(few, "trials")) == 3 and len(costs(few, few)) == 4


def test_trials_without_a_value_are_counted():
    lost = frame(1, 4)
    lost.loc[0, "failed"] = "2 distinct genotypes for an ensemble of 3"
    assert dropped(lost) == "3 of 4 trials have a value; 1 with 2 distinct genotypes for an ensemble of 3."


def test_a_search_that_diverges_fails_and_a_trial_has_no_value(monkeypatch):
    def diverging(*_):
        raise DivergedError("the penalty became nan")

    monkeypatch.setattr(proxy, "_train", diverging)
    bench, params = MagicMock(), proxy.parameters(1, search_space("exact"), 0)[0]
    trial = {"seed": 0, "trial": 0, "params": params, "count": 3}
    assert proxy.measure(trial, bench)["failed"] == "the penalty became nan"
    with pytest.raises(DivergedError):
        proxy.measure({"seed": 0, "trial": None, "params": {}, "count": 4}, bench)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": 2}, "pool must be at least ensemble_size"),
        ({"trials": 10**8}, "trials must be at most 100000"),
        ({"trials": 1}, "trials must be a number of at least 3"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    with pytest.raises(Exception, match=said):
        ProxyConfig(**changes)


@pytest.mark.e2e
def test_the_command_ends_with_a_conclusion_and_a_report(tmp_path):
    done = run("proxy", tmp_path / "study", "--seeds", "1", "--genotypes", "3", "--pool", "2")
    assert done.status == 0, done.errors
    report = tmp_path / "study" / "report"
    genotypes, trials = pd.read_csv(report / "genotypes.csv"), pd.read_csv(report / "trials.csv")
    assert genotypes[list(MEASURES)].stack().between(0, 1).all() and len(trials) == 3
    assert (genotypes["images_one_shot"] < genotypes["images_short"]).all()
    assert (genotypes["images_short"] < genotypes["images_full"]).all()
    assert not (tmp_path / "study" / "test_reads.jsonl").exists()
    assert len(json.loads((tmp_path / "study" / "result.json").read_text())["conclusions"]) == 7
