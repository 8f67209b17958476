"""Metrics against definitions written out again as plain loops, and at the edges where they are subtle."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from edgenes import metrics
from edgenes.errors import ConfigError


def predictions_of(seed, members=3, samples=40, classes=4, dtype=np.float64):
    """Random predictions of very different confidence, one-hot ones among them, and labels."""
    rng = np.random.default_rng(seed)
    concentration = rng.choice([0.05, 1.0, 20.0], size=(members, samples, 1))
    gamma = rng.gamma(np.broadcast_to(concentration, (members, samples, classes))) + 1e-12
    predictions = gamma / gamma.sum(-1, keepdims=True)
    certain = rng.random((members, samples)) < 0.2
    predictions[certain] = np.eye(classes)[rng.integers(classes, size=certain.sum())]
    return predictions.astype(dtype), rng.integers(classes, size=samples)


def ece_by_loop(probabilities, labels, dtype):
    total = 0.0
    edges = np.linspace(0, 1, 16).astype(dtype).tolist()
    for k in range(15):
        inside = [
            (max(row), int(list(row).index(max(row)) == label))
            for row, label in zip(probabilities.tolist(), labels, strict=True)
            if edges[k] < max(row) <= edges[k + 1]
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            right = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(labels) * abs(right - confidence)
    return total


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([np.float32, np.float64]))
@example(4207, 3, np.float32)  # a confidence on an edge of the bins
def test_metrics_agree_with_independent_definitions(seed, classes, dtype):
    predictions, labels = predictions_of(seed, 1, 40, classes, dtype)
    p = predictions[0].astype(np.float64)
    assert metrics.accuracy(predictions[0], labels) == accuracy_score(labels, p.argmax(1))
    assert metrics.ece(predictions[0], labels) == pytest.approx(ece_by_loop(p, labels, dtype), abs=1e-12)
    loss = [-math.log(max(p[i, y], metrics.TINY)) for i, y in enumerate(labels)]
    assert metrics.nll(predictions[0], labels) == pytest.approx(math.fsum(loss) / len(loss), rel=1e-12)
    squares = [(p[i, c] - (c == y)) ** 2 for i, y in enumerate(labels) for c in range(classes)]
    assert metrics.brier(predictions[0], labels) == pytest.approx(math.fsum(squares) / len(labels), rel=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from([1, 5, 15]))
def test_calibration_errors_agree_with_torchmetrics_off_the_edges(seed, classes, bins):
    rng = np.random.default_rng(seed)
    p, labels = rng.dirichlet(np.full(classes, 0.7), 80), rng.integers(classes, size=80)
    scores, target = torch.tensor(p), torch.tensor(labels)
    for norm, metric in (("l1", metrics.ece), ("max", metrics.mce)):
        expected = multiclass_calibration_error(scores, target, classes, bins, norm)
        assert metric(p, labels, bins) == pytest.approx(expected.item(), abs=1e-5), norm
    each = [binary_calibration_error(scores[:, c], (target == c).long(), bins).item() for c in range(classes)]
    assert metrics.classwise_ece(p, labels, bins) == pytest.approx(np.mean(each), abs=1e-5)
    assert metrics.brier(p, labels) == pytest.approx(
        brier_score_loss(labels, p, labels=range(classes), scale_by_half=False), rel=1e-12
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([1, 4, 15, 50]))
def test_adaptive_ece_has_equally_many_samples_a_bin_and_no_order(seed, bins):
    predictions, labels = predictions_of(seed, 1, 41)
    p = predictions[0, np.random.default_rng(seed).integers(7, size=41)]  # many of equal confidence
    order = np.argsort(p.max(-1), kind="stable")
    excess = (p.argmax(-1) == labels)[order] - p.max(-1)[order]
    for value in set(p.max(-1)):
        equal = p.max(-1)[order] == value
        excess[equal] = excess[equal].mean()
    sizes = [len(labels) // bins + (k < len(labels) % bins) for k in range(bins)]
    starts = np.append(0, np.cumsum(sizes))
    expected = sum(abs(excess[a:b].sum()) for a, b in itertools.pairwise(starts)) / len(labels)
    assert metrics.adaptive_ece(p, labels, bins) == pytest.approx(expected, abs=1e-12)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    assert metrics.adaptive_ece(p[shuffled], labels[shuffled], bins) == pytest.approx(expected, abs=1e-12)


def test_a_reliability_diagram_has_the_bins_and_leaves_empty_ones_out():
    found = metrics.reliability([[0.6, 0.4], [0.55, 0.45], [1.0, 0.0]], [0, 1, 0], bins=10)
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert found.confidence[[5, 9]] == pytest.approx([0.575, 1.0])
    assert found.accuracy[[5, 9]].tolist() == [0.5, 1.0]
    assert np.isnan(found.accuracy).sum() == np.isnan(found.confidence).sum() == 8
    assert metrics.mce([[0.6, 0.4], [0.55, 0.45], [1.0, 0.0]], [0, 1, 0], bins=10) == pytest.approx(0.075)


def test_an_impossible_label_costs_a_finite_documented_price():
    assert metrics.nll([[1.0, 0.0]], [1]) == pytest.approx(-math.log(1.1754943508222875e-38))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_confidence_on_an_edge_belongs_to_the_bin_below_in_any_precision(dtype):
    # 0.6 = 9/15 and 0.55 share bin 8, and nearly make up for each other. float32(0.6) is above the float64 edge,
    # which put it into bin 9: an error of 0.475.
    p = np.array([[0.6, 0.4], [0.55, 0.45]], dtype=dtype)
    assert metrics.ece(p, [0, 1]) == pytest.approx(0.075, abs=1e-6)


def test_confidence_just_above_one_stays_in_the_last_bin():
    assert metrics.ece([[1.0005, 0.0], [1.0, 0.0]], [0, 1]) == pytest.approx(abs(1 - 2.0005) / 2)


def test_of_equally_probable_classes_the_first_is_predicted():
    assert metrics.accuracy([[0.5, 0.5], [0.5, 0.5]], [0, 1]) == 0.5


def test_summary_holds_python_floats():
    predictions, labels = predictions_of(3)
    result = metrics.summary(predictions[0], labels)
    assert list(result) == ["accuracy", "nll", "ece", "brier"]
    assert all(type(value) is float for value in result.values())
    assert all(result[name] == getattr(metrics, name)(predictions[0], labels) for name in result)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_metrics_of_several_members_agree_with_loops(seed, members):
    predictions, labels = predictions_of(seed, members)
    mean = metrics.ensemble_probabilities(predictions)
    np.testing.assert_allclose(mean, predictions.mean(0), rtol=1e-12, atol=1e-15)
    votes = predictions.argmax(-1)
    pairs = [np.mean(votes[i] != votes[j]) for i in range(members) for j in range(i)]
    assert metrics.disagreement(predictions) == pytest.approx(np.mean(pairs) if pairs else 0.0)
    # Jensen: the mean is no less likely than the members are on average.
    average = np.mean([metrics.nll(member, labels) for member in predictions])
    assert metrics.nll(mean, labels) <= average + 1e-9


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([0.5, 0.5], [0], r"\(samples, classes\)"),
        (np.empty((0, 2)), [], "none of them 0"),
        ([[0.5, 0.5]], [0, 1], r"shape \(1,\)"),
        ([[0.5, 0.5]], [2], r"0\.\.1"),
        ([[0.5, 0.5]], [-1], r"0\.\.1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, np.nan]], [0], "finite; 1 of 2"),
        ([[0.5, np.inf]], [0], "finite"),
        ([[-0.7, -0.7]], [0], "np.exp"),
        ([[0.5, 0.502]], [0], "adds to 1.002"),
        ([[0.5, 0.4]], [0], "adds to 0.9"),
    ],
)
def test_malformed_input_is_refused_with_what_came(probabilities, labels, message):
    with pytest.raises(ConfigError, match=message):
        metrics.summary(probabilities, labels)


def test_malformed_predictions_are_refused():
    for predictions, word in (([[0.5, 0.5]], "members, samples, classes"), ([[[1.0, 1.0]]], "adds to 2")):
        for metric in (metrics.ensemble_probabilities, metrics.disagreement):
            with pytest.raises(ConfigError, match=word):
                metric(predictions)
