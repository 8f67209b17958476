"""Means over images and their errors, against the metrics of probabilities."""

import numpy as np
import pytest

from edgenes import metrics
from tune_jobs.report.image_scores import ImageScores, detected, measured


def drawn(models=3, images=400, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    logits = 2 * np.eye(classes)[labels] + rng.normal(size=(models, images, classes))
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), labels


def test_the_scores_of_one_model_are_those_of_metrics():
    probabilities, labels = drawn()
    found = measured([ImageScores.of(probabilities, labels)], slice(0, 1))
    for name, value in metrics.summary(probabilities[0], labels).items():
        assert found[name] == pytest.approx(value, rel=1e-5)
    accuracy = found["accuracy"]
    assert found["accuracy_error"] == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 399))


def test_those_of_several_models_and_corruptions_are_their_means():
    several = [drawn(seed=0), drawn(seed=0), drawn(seed=1)]
    found = measured([ImageScores.of(*each) for each in several], slice(1, None))
    for name in ("accuracy", "nll", "ece", "brier"):
        values = [metrics.summary(p, labels)[name] for members, labels in several for p in members[1:]]
        assert found[name] == pytest.approx(np.mean(values), rel=1e-5)


def test_the_error_is_that_over_images_however_many_corruptions_repeat_them():
    scores = ImageScores.of(*drawn())
    once, thrice = (measured([scores] * count, slice(0, 1)) for count in (1, 3))
    assert thrice == pytest.approx(once)


def test_the_error_of_the_ece_is_its_deviation_between_samples():
    found = [measured([ImageScores.of(*drawn(seed=seed))], slice(0, 1)) for seed in range(60)]
    spread = np.std([each["ece"] for each in found], ddof=1)
    assert np.mean([each["ece_error"] for each in found]) == pytest.approx(spread, rel=0.3)


def test_the_errors_of_what_is_detected_are_deviations_between_samples():
    def once(seed):
        rng = np.random.default_rng(seed)
        known, strange = rng.normal(size=300), rng.normal(1, size=200)
        return detected("strange", {"entropy": known}, {"entropy": strange})[0]

    found = [once(seed) for seed in range(15)]
    for name in ("auroc", "aupr", "fpr95"):
        spread = np.std([each[name] for each in found], ddof=1)
        assert np.mean([each[f"{name}_error"] for each in found]) == pytest.approx(spread, rel=0.4)


def test_what_is_saved_is_read_and_what_is_damaged_is_not(tmp_path):
    scores, path = ImageScores.of(*drawn()), tmp_path / "scores.pt"
    assert ImageScores.load(path) is None
    scores.save(path)
    assert np.array_equal(ImageScores.load(path).nll, scores.nll)
    path.write_bytes(path.read_bytes()[:-100])
    assert ImageScores.load(path) is None
