"""EdgeNES as a classifier of scikit-learn: images and labels of any kind in, an ensemble out, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs  # type: ignore[import-untyped]  # noqa: TID251  nothing is pickled by it
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Dataset, Part, build_dataset
from edgenes.data.images import resize
from edgenes.data.split import split_indices
from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError
from edgenes.methods.baselines import METHODS
from edgenes.methods.budget import Setting
from edgenes.methods.trainer import LocalTrainer, Member, Prediction, groups, train_members
from edgenes.nn.network import Network, check_image_size
from edgenes.selection import cross_fitted, select_ensemble
from edgenes.space.genotype import SearchSpace
from edgenes.uncertainty import Abstention


class EdgeNESClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of images by a searched, calibrated ensemble.

    `fit` keeps a part of the images, V, out of all training: it chooses, weights and calibrates the ensemble there.
    Images are (samples, H, W), (samples, H, W, channels), or flat (samples, H * W * channels) with `image_shape`; flat
    ones of a square number of pixels need none. Values of uint8 are pixels; others are brought to 0..255 from 0..1, or
    from the range that they have in `fit`, and rounded to whole ones.

    Parameters:
        ensemble_size: members.
        candidates: networks trained fully, from which the members are chosen.
        epochs: of each of them.
        survey: genotypes trained shortly, on part of the images, to guide the search.
        survey_epochs: of each of them.
        channels, cells, nodes: size of the networks, and of a cell.
        batch_size: images a step.
        method: a name in `edgenes.methods.baselines.METHODS`, by default EdgeNES with seeds of the optimal genotype.
        selection, criterion, calibration: see `edgenes.select_ensemble`.
        validation_fraction: share of the images in V; half of the others guide the search.
        image_shape: (H, W) or (H, W, channels) of flat images.
        image_size: pixels a side to which images are resized; needed where they are not square.
        flip: whether a mirrored image keeps its label.
        device: cpu or cuda.
        n_jobs: networks trained at once, each by one thread of a process; -1 is as many as there are CPUs, None is one,
            or what joblib's `parallel_config` says. The numbers do not depend on it.
        random_state: None, a number, or a RandomState; with a number, numbers on the CPU are the same each time.

    Attributes:
        classes_: the labels, in order.
        ensemble_: the `Ensemble`.
        cross_fit_: accuracy and NLL that the choice reaches on halves of V that did not make it.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from edgenes import EdgeNESClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> model = EdgeNESClassifier(candidates=3, epochs=2, survey=10, survey_epochs=1, channels=4, random_state=0)
        >>> model.fit(X[:300], y[:300]).predict_proba(X[300:305]).shape
        (5, 10)

    The networks are trained on a Ray cluster where scikit-learn's other work is, by joblib's backend of that name:

        from joblib import parallel_config
        from ray.util.joblib import register_ray

        register_ray()
        with parallel_config(backend="ray", n_jobs=-1):
            model.fit(X, y)
    """

    def __init__(
        self,
        ensemble_size: int = 3,
        candidates: int = 5,
        epochs: int = 20,
        survey: int = 10,
        survey_epochs: int = 12,
        channels: int = 8,
        cells: int = 2,
        nodes: int = 4,
        batch_size: int = 64,
        method: str = "edge-nes-seeds",
        selection: str = "auto",
        criterion: str = "nll",
        calibration: str = "temperature",
        validation_fraction: float = 0.2,
        image_shape: Sequence[int] | None = None,
        image_size: int | None = None,
        flip: bool = False,
        device: str = "cpu",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.ensemble_size = ensemble_size
        self.candidates = candidates
        self.epochs = epochs
        self.survey = survey
        self.survey_epochs = survey_epochs
        self.channels = channels
        self.cells = cells
        self.nodes = nodes
        self.batch_size = batch_size
        self.method = method
        self.selection = selection
        self.criterion = criterion
        self.calibration = calibration
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.image_size = image_size
        self.flip = flip
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> EdgeNESClassifier:
        """Search, train and choose the ensemble. Raises ValueError for images and labels that do not fit."""
        X, y = validate_data(self, X, y, **_how(X), ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(np.asarray(y), return_inverse=True)
        self.pixel_range_ = _range(X)
        seed = int(check_random_state(self.random_state).randint(2**31))
        data = self._dataset(self._images(X), labels.astype(np.int64), seed)
        setting = self._setting(seed)
        check_image_size(setting.space, self.cells, data.image_size)
        trainer = _ParallelTrainer(data, self.n_jobs)
        pool, _ = METHODS.find(self.method).run(setting, trainer)
        predictions = np.stack([each.probabilities for each in trainer.retrain(pool)])
        how: dict[str, Any] = {
            "size": min(self.ensemble_size, len(pool)),
            "criterion": self.criterion,
            "method": self.selection,
        }
        chosen = select_ensemble(predictions, data.validation.labels, **how, calibration=self.calibration)
        self.cross_fit_, rules = None, tuple[Abstention, ...]()
        if len(data.validation) > 1:
            self.cross_fit_ = cross_fitted(predictions, data.validation.labels, **how, calibration=self.calibration)
            rules = Abstention.rules(self.cross_fit_.probabilities, data.validation.labels)
        members = [pool[k] for k in chosen.members]
        networks = [trainer.network(member) for member in members]
        configs = [member.config for member in members]
        self.ensemble_ = Ensemble.of(networks, configs, data, None, chosen.weights, chosen.calibration, rules)
        self.ensemble_.to(self.device)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (samples, classes), in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **_how(X))
        found = self.ensemble_.predict(self._images(X)).astype(np.float64)
        return found / found.sum(1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each image, (samples,)."""
        found = self.predict_proba(X).argmax(1)
        return self.classes_[found]

    def _setting(self, seed: int) -> Setting:
        space = SearchSpace(nodes=self.nodes)
        shared: dict[str, Any] = {"batch_size": self.batch_size, "device": self.device}
        return Setting(
            search=SearchConfig(space=space, **shared),
            hypernetwork=HypernetworkConfig(space=space, **shared),
            training=TrainingConfig(channels=self.channels, cells=self.cells, epochs=self.epochs, **shared),
            survey=self.survey,
            survey_epochs=self.survey_epochs,
            short_epochs=min(4, self.epochs),
            candidates=self.candidates,
            size=self.ensemble_size,
            criterion=self.criterion,
            seed=seed,
        )

    def _images(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """uint8 (samples, size, size, channels)."""
        images = self._shaped(X)
        if images.dtype != np.uint8:
            low, high = self.pixel_range_
            scaled = (images.astype(np.float64) - low) * (255 / (high - low))
            images = np.clip(scaled, 0, 255).round().astype(np.uint8)
        height, width = images.shape[1:3]
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            return resize(images, self.image_size)
        if height != width:
            raise ConfigError(f"images of {height}x{width} pixels are not square: set image_size to resize them.")
        return images

    def _shaped(self, X: NDArray[Any]) -> NDArray[Any]:
        """(samples, H, W, channels)."""
        if X.ndim == 2:
            side = isqrt(X.shape[1])
            shape = tuple(self.image_shape or (side, side))
            if len(shape) not in (2, 3) or np.prod(shape) != X.shape[1]:
                raise ConfigError(
                    f"flat images of {X.shape[1]} values are no images of shape {shape}: set image_shape to (H, W) or "
                    "(H, W, channels)."
                )
            X = X.reshape(-1, *shape)
        if X.ndim not in (3, 4):
            raise ConfigError(f"expected images (samples, H, W) or (samples, H, W, channels), got {X.shape}.")
        return X if X.ndim == 4 else X[..., None]

    def _dataset(self, images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> Dataset:
        share = self.validation_fraction
        if not 0 < share < 1:
            raise ConfigError(f"validation_fraction must be a share between 0 and 1, got {share}.")
        split = split_indices(labels, ((1 - share) / 2, (1 - share) / 2, share), seed)
        if not all(map(len, split)):
            raise ConfigError(f"{len(labels)} samples of {len(self.classes_)} classes are too few: bring more.")
        pixels = images.transpose(0, 3, 1, 2)
        parts = [Part(pixels[part].copy(order="C"), labels[part]) for part in split]
        return build_dataset("fit", [str(name) for name in self.classes_], *parts, flip=self.flip)


def _how(X: Any) -> dict[str, Any]:
    """How scikit-learn checks images; of flat ones it notes their length."""
    return {"ensure_2d": np.asarray(X).ndim < 3, "allow_nd": True, "dtype": "numeric"}


def _range(X: NDArray[Any]) -> tuple[float, float]:
    low, high = float(X.min()), float(X.max())
    if X.dtype == np.uint8:
        return 0.0, 255.0
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


class _ParallelTrainer(LocalTrainer):
    """A trainer in several processes, which keeps the networks."""

    def __init__(self, data: Dataset, n_jobs: int | None):
        super().__init__(data)
        self._n_jobs = n_jobs
        self._done: dict[tuple[Member, str], tuple[Network, np.ndarray]] = {}

    def network(self, member: Member) -> Network:
        """The network of a full retraining, on the CPU."""
        return self._done[member, self.data.digest][0]

    def _trained(self, members: Sequence[Member], data: Dataset) -> list[Prediction]:
        missing = [each for each in dict.fromkeys(members) if (each, data.digest) not in self._done]
        shares = groups(missing, data, effective_n_jobs(self._n_jobs), threads=1)
        for group, found in zip(shares, Parallel(self._n_jobs)(delayed(_train)(g, data) for g in shares), strict=True):
            self._done |= {(member, data.digest): each for member, each in zip(group, found, strict=True)}
        return [Prediction(self._done[member, data.digest][1]) for member in members]


def _train(members: Sequence[Member], data: Dataset) -> list[tuple[Network, np.ndarray]]:
    """Trained networks on the CPU, and their probabilities on V: in one thread, whose sums are the same everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [(network.cpu(), found) for network, found in train_members(members, data)]
    finally:
        torch.set_num_threads(threads)
