"""What an ensemble and its members make of each image, and means over images with their standard errors."""

import hashlib
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
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.metrics import ECE_BINS, TINY, of_labels
from edgenes.uncertainty import Uncertainty

RESAMPLINGS = 100
"""Of the images, for standard errors of what is no mean over them."""
ENSEMBLE, BEFORE, DEEP, MEMBER = "ensemble", "before calibration", "deep ensemble", "mean member"
_KIND = "image scores"

Detectors = dict[str, NDArray]
"""The uncertainties by which strange images are told from known ones, each (images,)."""


@dataclass(frozen=True)
class ImageScores:
    """Scores of each image, float32 (models, images): ensembles, then each member of the first of them."""

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


@dataclass(frozen=True)
class Models:
    """What is scored: the ensemble, it before its calibration, a deep ensemble if there is one, and the members."""

    ensemble: Ensemble
    deep: Ensemble | None

    @property
    def names(self) -> list[str]:
        """Of the ensembles."""
        return [ENSEMBLE] + [BEFORE] * (self.ensemble.calibration is not None) + [DEEP] * (self.deep is not None)

    @property
    def detecting(self) -> list[str]:
        """Names of those that detect strange images, which calibration does not change."""
        return [name for name in self.names if name != BEFORE]

    @property
    def digest(self) -> str:
        """Names the deep ensemble by its content."""
        return "" if self.deep is None else key(*(value.cpu().numpy() for value in self.deep.state_dict().values()))

    def of(self, images: NDArray) -> tuple[list[NDArray], list[Detectors]]:
        """Probabilities (images, classes) of the ensembles, then of the members, and the ensembles' uncertainties."""
        pictures = images.transpose(0, 2, 3, 1)
        found = self.ensemble.uncertainty(pictures)
        mean = np.tensordot(self.ensemble.weights, found.members, 1)
        calibration = self.ensemble.calibration
        probabilities, uncertainties = [mean] if calibration is None else [calibration.apply(mean), mean], [found]
        if self.deep is not None:
            probabilities.append(self.deep.predict(pictures))
            uncertainties.append(self.deep.uncertainty(pictures))
        return [*probabilities, *found.members], [detectors(each) for each in uncertainties]


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


def detectors(found: Uncertainty) -> Detectors:
    """The mutual information and the predictive entropy."""
    return {"epistemic": found.epistemic, "entropy": found.entropy}


def detected(name: str, known: Detectors, other: Detectors) -> list[dict[str, Any]]:
    """How well each uncertainty tells strange images from known ones; strange ones are positive in AUROC and AUPR.

    In the false positive rate known ones are, as in the literature: the share of strange ones accepted where 95% of the
    known ones are. Standard errors are those of a bootstrap over both kinds of images.
    """
    rows = []
    for score, values in known.items():
        both, rng = (values, other[score]), np.random.default_rng(0)
        drawn = [_detection(*(rng.choice(each, len(each)) for each in both)) for _ in range(RESAMPLINGS)]
        found = dict(zip(("auroc", "aupr", "fpr95"), _detection(*both), strict=True))
        errors = dict(zip((f"{measure}_error" for measure in found), np.std(drawn, 0, ddof=1).tolist(), strict=True))
        rows.append({"data": name, "score": score, **found, **errors})
    return rows


def _detection(known: NDArray, strange: NDArray) -> tuple[float, float, float]:
    values, positive = np.concatenate([known, strange]), np.repeat([False, True], [len(known), len(strange)])
    return auroc(values, positive), aupr(values, positive), fpr_at_tpr(-values, ~positive)


def key(*parts: NDArray | str) -> str:
    """A digest of arrays and texts, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


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
