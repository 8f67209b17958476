"""Calibration against scipy's minimum of the documented objective, and selection with it and over sizes."""

import numpy as np
import pytest
from scipy.optimize import minimize

from edgenes import metrics
from edgenes.errors import ConfigError
from edgenes.selection import CRITERIA, Calibration, calibrate, cross_fitted, select_ensemble


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def drawn(samples=400, classes=4, seed=0, sharpen=2.5):
    """Probabilities that are too unsure, as the labels are drawn from sharpened ones."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), samples)
    truth = softmax(sharpen * np.log(probabilities) + np.linspace(0, 1, classes))
    return probabilities, (truth.cumsum(-1) > rng.random((samples, 1))).argmax(-1)


def nll(values, p, y):
    logits = values[: p.shape[1]] * np.log(p) + values[p.shape[1] :]
    return metrics.nll(softmax(logits), y)


def test_the_temperature_minimises_its_objective():
    p, y = drawn()
    found = calibrate(p, y)
    best = minimize(lambda s: len(y) * metrics.nll(softmax(s * np.log(p)), y) + s[0] - np.log(s[0]), [1.0])
    assert found.scale == pytest.approx(best.x, rel=1e-3) and found.shift == (0.0,)
    assert metrics.nll(found.apply(p), y) < metrics.nll(p, y)
    assert (found.apply(p).argmax(-1) == p.argmax(-1)).all()


def test_vector_minimises_its_objective():
    p, y = drawn()
    found = calibrate(p, y, "vector")
    start = np.array([calibrate(p, y).scale[0]] * 4 + [0.0] * 4)
    best = minimize(lambda v: len(y) * nll(v, p, y) + 10 * np.square(v - start).sum() / 2, start)
    np.testing.assert_allclose([*found.scale, *found.shift], best.x, atol=1e-2)
    assert metrics.nll(found.apply(p), y) < metrics.nll(calibrate(p, y).apply(p), y)


def test_images_that_are_all_right_do_not_make_it_certain():
    p = np.tile([0.7, 0.2, 0.1], (100, 1))
    found = calibrate(p, np.zeros(100, int))
    assert found.scale[0] > 1
    assert found.apply(p)[0, 0] < 0.9999


def test_impossible_labels_are_finite():
    p, y = np.tile([1.0, 0.0], (10, 1)), np.array([0] * 9 + [1])
    for method in ("temperature", "vector"):
        assert np.isfinite(metrics.nll(calibrate(p, y, method).apply(p), y))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_selection_is_calibrated_after_it_is_chosen(criterion):
    rng = np.random.default_rng(1)
    p, y = rng.dirichlet(np.ones(3), (6, 90)), rng.integers(3, size=90)
    plain = select_ensemble(p, y, 2, criterion)
    found = select_ensemble(p, y, 2, criterion, calibration="temperature")
    assert (found.members, found.score) == (plain.members, plain.score) and plain.calibration is None
    assert found.calibration == calibrate(plain.combine(p), y)
    np.testing.assert_array_equal(found.combine(p), found.calibration.apply(plain.combine(p)))


def test_cross_fitting_calibrates_on_the_other_half():
    p, y = drawn(600)
    pool = np.stack([p, p])
    found, plain = (cross_fitted(pool, y, 1, calibration=method) for method in ("temperature", "none"))
    np.testing.assert_array_equal(found.mean, plain.probabilities)
    assert found.nll == metrics.nll(found.probabilities, y) < plain.nll
    rng = np.random.default_rng(0)
    noise = rng.dirichlet(np.full(4, 50.0), (1, 600))  # nothing to be sure of: it must not gain
    labels = rng.integers(4, size=600)
    assert cross_fitted(noise, labels, 1, calibration="temperature").nll == pytest.approx(np.log(4), abs=0.01)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("method", ["exact", "greedy", "beam", "weighted"])
def test_the_best_prefix_is_the_best_of_all_sizes(method, criterion):
    rng = np.random.default_rng(2)
    p, y = rng.dirichlet(np.ones(3), (7, 40)), rng.integers(3, size=40)
    p[3] = 0.5 * p[3] + 0.5 * np.eye(3)[y]  # the best alone, and no better with others
    sizes = [select_ensemble(p, y, size, criterion, method) for size in range(1, 6)]
    best = (min if criterion == "nll" else max)(each.score for each in sizes)
    found = select_ensemble(p, y, 5, criterion, method, best_prefix=True)
    assert found.score == best and len(found.members) == min(len(e.members) for e in sizes if e.score == best) == 1
    assert found.proven_optimal == (method == "exact")
    if method == "exact":
        assert found.bound == found.score


@pytest.mark.parametrize(
    "value",
    [{"scale": [], "shift": []}, {"scale": [1.0], "shift": [0.0, 0.0]}, {"scale": ["a"], "shift": [0.0]}],
)
def test_what_is_no_calibration_is_refused(value):
    with pytest.raises(ConfigError, match="calibration"):
        Calibration.from_dict(value)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="temperature"):
        calibrate([[0.5, 0.5]], [0], "temprature")
