"""What an ensemble and its members make of each image, and means over images with their standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.detection import aupr, auroc, fpr_at_tpr
from edgenes.errors import CheckpointError
from edgenes.metrics import ECE_BINS, TINY, of_labels
from edgenes.uncertainty import Uncertainty

RESAMPLINGS = 100
"""Of the images, for the standard error of the ECE."""
_KIND = "image scores"


@dataclass(frozen=True)
class ImageScores:
    """Scores of each image, float32 (models, images): the ensemble, it before its calibration, then each member."""

    confidence: NDArray
    correct: NDArray
    nll: NDArray
    brier: NDArray

    @classmethod
    def of(cls, probabilities: Sequence[NDArray], labels: NDArray) -> "ImageScores":
        """Those of each model's probabilities (images, classes)."""
        rows = []
        for each in probabilities:
            hit = of_labels(each, labels)
            brier = np.square(each).sum(-1) - 2 * hit + 1
            rows.append([each.max(-1), each.argmax(-1) == labels, -np.log(np.maximum(hit, TINY)), brier])
        return cls(*np.array(rows, dtype=np.float32).transpose(1, 0, 2))

    def save(self, path: Path) -> None:
        """Write them; `load` reads them."""
        save_checkpoint(path, _KIND, {name: torch.from_numpy(value.copy()) for name, value in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> "ImageScores | None":
        """What `save` wrote, or None where it is not there, or damaged: it is then computed again."""
        try:
            return cls(**{name: value.numpy() for name, value in load_checkpoint(path, _KIND).items()})
        except (CheckpointError, TypeError, AttributeError):
            return None


def measured(scores: Sequence[ImageScores], models: slice) -> dict[str, float]:
    """accuracy, nll, ece, brier and their standard errors: means over corruptions of the same images, and over models.

    An error is that over images, each with all its corruptions; that of the ECE is a bootstrap's.
    """
    found = {}
    for metric, name in (("accuracy", "correct"), ("nll", "nll"), ("brier", "brier")):
        images = np.mean([getattr(each, name)[models].mean(0, dtype=float) for each in scores], 0)
        found[metric] = float(images.mean())
        found[f"{metric}_error"] = float(images.std(ddof=1) / np.sqrt(len(images))) if len(images) > 1 else np.nan
    draws = [
        _ece_draws(*of_one)
        for each in scores
        for of_one in zip(each.confidence[models], each.correct[models], strict=True)
    ]
    ece = np.mean(draws, 0)
    return found | {"ece": float(ece[0]), "ece_error": float(ece[1:].std(ddof=1))}


def detected(name: str, known: Uncertainty, other: Uncertainty) -> list[dict[str, Any]]:
    """How well each uncertainty tells strange images from known ones; strange ones are positive in AUROC and AUPR.

    In the false positive rate known ones are, as in the literature: the share of strange ones accepted where 95% of the
    known ones are.
    """
    rows = []
    for score in ("epistemic", "entropy"):
        values = np.concatenate([getattr(known, score), getattr(other, score)])
        positive = np.arange(len(values)) >= len(known.entropy)
        measures = {"auroc": auroc(values, positive), "aupr": aupr(values, positive)}
        rows.append({"data": name, "score": score, **measures, "fpr95": fpr_at_tpr(-values, ~positive)})
    return rows


def _ece_draws(confidence: NDArray, correct: NDArray) -> NDArray:
    """The ECE of these images, then that of each resampling, (1 + RESAMPLINGS,); bins as `metrics.reliability`'s."""
    table = np.zeros((len(confidence), ECE_BINS), dtype=np.float32)
    edges = np.linspace(0, 1, ECE_BINS + 1, dtype=np.float32)[1:-1]
    table[np.arange(len(table)), np.searchsorted(edges, confidence, side="left")] = correct - confidence
    return np.abs(_resamplings(len(table)) @ table).sum(1) / len(table)


@lru_cache(2)
def _resamplings(images: int) -> NDArray:
    """How often each image is drawn, (1 + RESAMPLINGS, images); once each in the first row."""
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLINGS)
    return np.vstack([np.ones(images), drawn]).astype(np.float32)
