"""Curves over thresholds against scikit-learn, and against every order of samples of equal score."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from edgenes import detection
from edgenes.errors import ConfigError


def scores_of(seed, samples=60):
    """Scores with ties, of which some are better for positive samples."""
    rng = np.random.default_rng(seed)
    positive = rng.random(samples) < 0.3
    positive[:2] = [True, False]
    return np.round(rng.normal(size=samples) + positive, rng.integers(0, 3)), positive


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.95, 1.0]))
def test_curves_agree_with_scikit_learn(seed, tpr):
    scores, positive = scores_of(seed)
    assert detection.auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert detection.aupr(scores, positive) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert detection.fpr_at_tpr(scores, positive, tpr) == pytest.approx(false[true >= tpr].min(), abs=1e-12)


def test_the_area_under_risk_and_coverage_is_the_mean_over_orders_of_equal_confidence():
    confidence, wrong = np.array([0.9, 0.5, 0.5, 0.5, 0.2]), np.array([False, True, False, True, True])
    curves = []
    for middle in itertools.permutations([1, 2, 3]):
        order = [0, *middle, 4]
        curves.append([wrong[order[: k + 1]].mean() for k in range(5)])
    coverage, risk = detection.risk_coverage(confidence, wrong)
    assert coverage.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert risk == pytest.approx(np.mean(curves, 0))
    assert detection.aurc(confidence, wrong) == pytest.approx(np.mean(curves))
    backwards = [4, 3, 2, 1, 0]
    assert detection.aurc(confidence[backwards], wrong[backwards]) == pytest.approx(np.mean(curves))


@pytest.mark.parametrize(
    ("scores", "positive", "named"),
    [
        ([0.1, 0.2], [True, True], "one kind"),
        ([0.1, 0.2], [False, False], "one kind"),
        ([0.1, np.nan], [True, False], "finite"),
        ([0.1, 0.2], [0, 1], "int64"),
        ([0.1], [True, False], r"\(2,\)"),
        ([], [], r"\(0,\)"),
    ],
)
def test_what_tells_nothing_apart_is_refused(scores, positive, named):
    for metric in (detection.auroc, detection.aupr, detection.fpr_at_tpr):
        with pytest.raises(ConfigError, match=named):
            metric(scores, positive)


@pytest.mark.parametrize("tpr", [0, 1.1, float("nan")])
def test_a_rate_is_a_share(tpr):
    with pytest.raises(ConfigError, match="tpr"):
        detection.fpr_at_tpr([0.1, 0.2], [True, False], tpr)
