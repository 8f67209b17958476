"""Entropies against sums written out, and rules fitted on V against what they do on images that V never saw."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes import Abstention, ConfigError, ConformalSets, Uncertainty
from edgenes.metrics import correct


def members_of(seed, members, samples=8, classes=4):
    """Members' probabilities, some of them 0."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.4), (members, samples))
    p[rng.random((members, samples)) < 0.2] = np.eye(classes)[0]
    return p


def entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_uncertainties_agree_with_sums_written_out(seed, count, weighted):
    members = members_of(seed, count)
    weights = np.random.default_rng(seed).dirichlet(np.ones(count)) if weighted else np.full(count, 1 / count)
    with np.errstate(divide="ignore"):
        found = Uncertainty.of(np.log(members), weights if weighted else None)
    np.testing.assert_allclose(found.members, members, atol=1e-12)
    for s in range(members.shape[1]):
        mean = weights @ members[:, s]
        divergence = [
            sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True) if p > 0) for row in members[:, s]
        ]
        assert found.entropy[s] == pytest.approx(entropy(mean), abs=1e-12)
        assert found.aleatoric[s] == pytest.approx(weights @ [entropy(row) for row in members[:, s]], abs=1e-12)
        assert found.epistemic[s] == pytest.approx(weights @ divergence, abs=1e-12)
        assert found.entropy[s] == pytest.approx(found.aleatoric[s] + found.epistemic[s], abs=1e-12)
        votes = [sum(w for w, row in zip(weights, members[:, s], strict=True) if row.argmax() == c) for c in range(4)]
        assert found.variation_ratio[s] == pytest.approx(1 - max(votes), abs=1e-12)
    assert (found.epistemic >= 0).all() and (found.variation_ratio >= 0).all()


@pytest.mark.parametrize(
    ("logs", "weights", "named"),
    [
        ([[[0.5, 0.5]]], None, "np.log"),
        ([[[-3.0, -3.0]]], None, "adds to"),
        ([[math.log(0.5)] * 2], None, "members, samples, classes"),
        ([[[np.nan, 0.0]]], None, "finite"),
        ([[[0.0, -np.inf]]], [0.5, 0.5], "weights"),
        ([[[0.0, -np.inf]]], [0.5], "weights"),
        ([[[0.0, -np.inf]]] * 2, [-0.5, 1.5], "weights"),
    ],
)
def test_what_is_no_prediction_is_refused(logs, weights, named):
    with pytest.raises(ConfigError, match=named):
        Uncertainty.of(logs, weights)


def simulated(seed, samples, concentration=0.1):
    """Probabilities that are true: labels are drawn from them. The less concentration, the more confident they are."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(5, concentration), samples)
    return p, (p.cumsum(-1) < rng.random((samples, 1))).sum(-1).clip(max=4)


@pytest.mark.parametrize("error", [0.05, 0.15])
def test_an_abstention_keeps_its_error_on_new_images(error):
    new, truth = simulated(0, 10_000)
    right, errors, coverages = correct(new, truth), [], []
    for seed in range(1, 101):
        rule = Abstention.fit(*simulated(seed, 500), error)
        accepted = rule.accepts(new)
        errors.append(1 - right[accepted].mean())
        coverages.append(accepted.mean() - rule.coverage)
        assert rule.observed <= rule.error == error
    # The threshold is the best of many for its own images, so that new ones have slightly more errors.
    assert 0.5 * error < np.mean(errors) < 1.1 * error
    assert abs(np.mean(coverages)) < 0.02


def test_an_abstention_accepts_all_that_it_can():
    few, _ = simulated(7, 30)
    at = np.random.default_rng(7).integers(30, size=400)  # many of equal confidence: all of them are accepted, or none
    probabilities = few[at]
    labels = (probabilities.cumsum(-1) < np.random.default_rng(8).random((400, 1))).sum(-1).clip(max=4)
    rule = Abstention.fit(probabilities, labels, 0.1)
    confidence, wrong = probabilities.max(-1), ~correct(probabilities, labels)
    for threshold in confidence[confidence < rule.threshold]:
        accepted = confidence >= threshold
        assert (wrong[accepted].sum() + 1) / (accepted.sum() + 1) > 0.1
    accepted = rule.accepts(probabilities)
    assert (accepted.mean(), wrong[accepted].mean()) == (rule.coverage, rule.observed)
    assert (wrong[accepted].sum() + 1) / (accepted.sum() + 1) <= 0.1


def test_an_abstention_counts_the_image_to_come_as_wrong():
    assert Abstention.fit([[0.9, 0.1]] * 19, [0] * 19, 0.05).coverage == 1
    with pytest.raises(ConfigError, match="at best"):
        Abstention.fit([[0.9, 0.1]] * 18, [0] * 18, 0.05)


def test_rules_say_what_the_images_say_of_any_error():
    images = simulated(3, 400)
    rules = Abstention.rules(*images)
    assert 5 < len(rules) < (~correct(*images)).sum() + 2
    for error in np.linspace(rules[0].error, 0.9, 9):
        chosen = Abstention.choose(rules, error)
        assert chosen == Abstention.fit(*images, error)
        wider = [rule for rule in rules if rule.coverage > chosen.coverage]
        assert all(rule.error > error for rule in wider)


@pytest.mark.parametrize(("error", "named"), [(0.001, "0.001"), (0, "between 0 and 1"), (1.5, "between 0 and 1")])
def test_an_error_that_cannot_be_kept_is_refused(error, named):
    with pytest.raises(ConfigError, match=named):
        Abstention.fit(*simulated(0, 300), error)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_conformal_sets_have_the_coverage_that_they_state(coverage):
    new, truth = simulated(0, 10_000, 0.25)
    new = (scaled := new**0.3) / scaled.sum(-1, keepdims=True)  # the ensemble is far from calibrated
    found, sizes = [], []
    for seed in range(1, 101):
        probabilities, labels = simulated(seed, 199, 0.25)
        probabilities = (scaled := probabilities**0.3) / scaled.sum(-1, keepdims=True)
        sets = ConformalSets.fit(probabilities, labels, coverage).sets(new)
        found.append(sets[np.arange(len(truth)), truth].mean())
        sizes.append(sets.sum(-1))
    # Each fit's coverage is Beta(200 c, 200 (1 - c)); 200 is a multiple of what makes its mean c itself.
    spread = (coverage * (1 - coverage) / 201 / 100 + coverage * (1 - coverage) / 10_000) ** 0.5
    assert abs(np.mean(found) - coverage) < 4 * spread
    assert np.min(sizes) == 1 and np.max(sizes) > 1


def test_conformal_sets_need_enough_images():
    probabilities, labels = simulated(0, 9)
    assert ConformalSets.fit(probabilities, labels, 0.9).threshold == probabilities[np.arange(9), labels].min()
    with pytest.raises(ConfigError, match=r"99 labelled images; got 9"):
        ConformalSets.fit(probabilities, labels, 0.99)
    for coverage in (0, 1, float("nan")):
        with pytest.raises(ConfigError, match="coverage"):
            ConformalSets.fit(probabilities, labels, coverage)
