"""The study of worse images: scores of known predictions, and conclusions from known numbers."""

import numpy as np
import pandas as pd
import pytest

from studies.robustness import KNOWN, REFERENCE, WORSE, conclusions, quality, score_frame
from tune_jobs.report.image_scores import ImageScores

NOISE = [0.01, -0.01, 0.02, 0.0, -0.02]


def frames(worse: float) -> list[pd.DataFrame]:
    """Five searches of the deep ensemble and of Mine, whose NLL on corrupted images is so much higher."""
    conditions, strange, pairs = [], [], []
    for method, more in ((REFERENCE, 0.0), ("Mine", worse)):
        for seed, noise in enumerate(NOISE):
            about = {"method": method, "seed": seed}
            for severity in (0, 1, 3):
                for model, extra in (("ensemble", 0.2), ("before calibration", 0.0), ("mean member", 0.3)):
                    nll = 0.5 + severity * (0.1 + more + noise * (method == "Mine")) + extra * (1 + noise)
                    auroc = np.nan if severity == 0 else 0.9
                    scores = {"corruption": "fog", "severity": severity, "nll": nll, "error": 0.1, "auroc": auroc}
                    conditions.append({**about, "model": model, **scores})
            for data in ("inverted", "noise"):
                strange += [{**about, "data": data, "score": score, "auroc": 0.8} for score in ("epistemic", "entropy")]
            for shared in range(4) if method == "Mine" else [4, 4]:
                pairs.append({**about, "shared": shared, "nll": 0.5, "gain": 0.3 - (0.05 + noise) * shared})
    return [pd.DataFrame(rows) for rows in (conditions, strange, pairs)]


def test_a_method_is_said_to_lose_more_than_the_deep_ensemble():
    conditions, strange, pairs = frames(0.2)
    said = conclusions(score_frame(conditions, strange), pairs)
    assert said[0].startswith(f"NLL of corrupted images: Mine is 0.400 above {REFERENCE}")
    assert any("Calibrated on clean V" in one and "0.20" in one and "above no change" in one for one in said)
    slopes = [one for one in said if one.startswith("Pool of Mine") and "gains is 0.05" in one]
    assert len(slopes) == 1 and "below no change" in slopes[0]


def test_the_scores_are_means_over_the_corruptions_and_the_gain_is_over_the_members():
    conditions, strange, _ = frames(0.0)
    frame = score_frame(conditions, strange).set_index(["method", "seed"])
    assert len(frame) == 10 and {*WORSE, *KNOWN} <= set(frame)
    one = frame.loc[REFERENCE, 3]
    assert one["nll, corrupted, ensemble"] == pytest.approx(0.9) and one["nll, clean, ensemble"] == pytest.approx(0.7)
    assert one["gain"] == pytest.approx(0.3) and np.isnan(one["auroc, clean, ensemble"])


def test_the_auroc_of_errors_is_that_of_the_confidence_where_there_are_errors():
    labels = np.array([0, 0, 1, 1])
    right = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    sure_when_wrong = np.array([[0.05, 0.95], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    scores = ImageScores.of([right, sure_when_wrong], labels)
    assert quality(scores, slice(0, 1))["auroc"] is None
    assert quality(scores, slice(1, 2)) == {
        "nll": pytest.approx(-np.log([0.05, 0.8, 0.6, 0.7]).mean(), rel=1e-6),
        "error": 0.25,
        "auroc": 0.0,
    }
    assert quality(scores, slice(0, 2))["auroc"] == 0.0 and quality(scores, slice(0, 2))["error"] == 0.125
