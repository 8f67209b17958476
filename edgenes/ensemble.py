"""The ensemble that a search ends with: raw images in, the calibrated mean of the members' probabilities out."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from edgenes.checkpoint import check_weights
from edgenes.config import TrainingConfig, from_dict, to_dict
from edgenes.data.dataset import Dataset
from edgenes.data.inputs import as_images
from edgenes.ensemble_files import download, ensemble_file, read_ensemble, upload, write_ensemble
from edgenes.errors import CheckpointError, ConfigError
from edgenes.export import AcceleratedEnsemble, Exported
from edgenes.metrics import TINY
from edgenes.model_card import model_card
from edgenes.nn.inference import FastNetwork
from edgenes.nn.network import Network
from edgenes.parsing import reason, shown
from edgenes.selection import Calibration
from edgenes.space.genotype import Genotype
from edgenes.training.retraining import make_network
from edgenes.uncertainty import Abstention, Uncertainty


class Ensemble(nn.Module):
    """Networks of the same data set whose probabilities are averaged, eq. (1.2); they normalise images themselves.

    `weights`, one a network and adding to 1, are those of the average, by default 1 / n; the average is then
    calibrated, where there is a `calibration`. `abstentions` are `Abstention.rules`, by which `predict` abstains.

    Example:
        >>> import torch
        >>> from edgenes import Ensemble, SearchSpace, TrainingConfig, load_data, random_genotype, train_network
        >>> data = load_data("digits", images=200)
        >>> configs = [TrainingConfig(epochs=1, channels=4, batch_size=32, seed=seed) for seed in (0, 1)]
        >>> genotype = random_genotype(SearchSpace(), torch.Generator().manual_seed(0))
        >>> networks = [train_network(config, data, genotype) for config in configs]
        >>> ensemble = Ensemble.of(networks, configs, data)
        >>> ensemble.predict(data.test.images.transpose(0, 2, 3, 1)).shape
        (359, 10)
        >>> ensemble.uncertainty(data.test.images.transpose(0, 2, 3, 1)).epistemic.shape
        (359,)
    """

    def __init__(
        self,
        networks: list[Network],
        configs: list[TrainingConfig],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        image_size: int,
        class_names: tuple[str, ...],
        card: dict[str, Any] | None = None,
        weights: Sequence[float] | None = None,
        calibration: Calibration | None = None,
        abstentions: Sequence[Abstention] = (),
    ):
        super().__init__()
        if not networks or len(networks) != len(configs):
            raise ConfigError(f"an ensemble needs one configuration a network, got {len(networks)}, {len(configs)}.")
        weights = [1 / len(networks)] * len(networks) if weights is None else weights
        right = len(weights) == len(networks) and all(type(each) is float and each >= 0 for each in weights)
        if not right or not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ConfigError(f"weights must be one number a network, adding to 1, got {shown(weights)}.")
        if calibration is not None and len(calibration.scale) not in (1, len(class_names)):
            raise ConfigError(f"a calibration is of all {len(class_names)} classes, got {len(calibration.scale)}.")
        self.networks = nn.ModuleList(networks)
        self.weights = tuple(weights)
        self.calibration = calibration
        self.abstentions = tuple(abstentions)
        self.configs = configs
        self.image_size = image_size
        self.class_names = tuple(class_names)
        self.card = card or {}
        self._fast: list[FastNetwork] = []
        self._tensors: list[Tensor] = []
        self._version = 0
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.eval()

    @classmethod
    def of(
        cls,
        networks: list[Network],
        configs: list[TrainingConfig],
        data: Dataset,
        card: dict[str, Any] | None = None,
        weights: Sequence[float] | None = None,
        calibration: Calibration | None = None,
        abstentions: Sequence[Abstention] = (),
    ) -> "Ensemble":
        """The ensemble of networks trained on `data`, with its normalisation and class names."""
        about = (data.mean, data.std, data.image_size, data.class_names)
        return cls(networks, configs, *about, card, weights, calibration, abstentions)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels 0..255 (batch, channels, H, W), any dtype -> probabilities (batch, classes)."""
        return self._combined(self._logits(images))

    def _combined(self, logits: Tensor) -> Tensor:
        members = logits.softmax(-1)
        mean = torch.tensordot(members.new_tensor(self.weights), members, 1)
        if self.calibration is None:
            return mean
        scale, shift = (mean.new_tensor(each) for each in (self.calibration.scale, self.calibration.shift))
        return (scale * mean.clamp_min(TINY).log() + shift).softmax(-1)

    def _logits(self, images: Tensor) -> Tensor:
        images = self._normalised(images)
        return torch.stack([network(images) for network in self.networks])

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def _fast_logits(self, images: Tensor) -> Tensor:
        """As `_logits` in evaluation mode; on the CPU by `FastNetwork`, made where weights are new or have changed."""
        if images.device.type != "cpu" or self.mean.dtype != torch.float32:
            with self._evaluating():
                return self._logits(images)
        tensors = self._tensors or [*self.networks.parameters(), *self.networks.buffers()]
        version = sum(each._version for each in tensors)
        if not self._fast or version != self._version:
            networks = cast(list[Network], list(self.networks))
            size = (self.mean.shape[1], self.image_size, self.image_size)
            self._tensors, self._version = tensors, version
            self._fast = [FastNetwork(network, size, self._normalised) for network in networks]
        return torch.stack([network(images) for network in self._fast])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fast": [], "_tensors": []}

    @overload
    def predict(self, images: Any, batch_size: int = 512, *, resize: bool = False) -> np.ndarray: ...

    @overload
    def predict(
        self, images: Any, batch_size: int = 512, *, resize: bool = False, abstain: float
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @torch.inference_mode()
    def predict(self, images: Any, batch_size: int = 512, *, resize: bool = False, abstain: float | None = None) -> Any:
        """Probabilities, float32 (samples, classes), in evaluation mode, of what `edgenes.data.inputs.as_images` takes.

        That is uint8 (samples, H, W) or (samples, H, W, channels) as in a data set's x_test, one such image, other
        orders and types of them that have one meaning, PIL pictures, or paths of pictures. Pictures are resized, and
        with `resize` arrays too.

        With `abstain`, the wanted error on what is accepted, two arrays: these probabilities of all images, and
        whether to accept each, bool (samples,). The others are for a person. Raises ConfigError or DataError for other
        images, and ConfigError as `abstention` does.
        """
        rule = None if abstain is None else self.abstention(abstain)
        batches = self._batches(images, batch_size, resize)
        found = torch.cat([self._combined(self._fast_logits(batch)).cpu() for batch in batches]).numpy()
        return found if rule is None else (found, rule.accepts(found))

    def abstention(self, error: float) -> Abstention:
        """The rule of `predict(..., abstain=error)`: its `threshold`, and the `coverage` on V.

        A study fits its ensemble's on V, cross-fitted: with each half of it accepted by an ensemble that the other
        half chose and calibrated. Raises ConfigError where V cannot show so small an error, or there are no rules.
        """
        if not self.abstentions:
            raise ConfigError(
                "this ensemble has no rules of abstention: fit one by edgenes.Abstention.fit, on labelled images."
            )
        return Abstention.choose(self.abstentions, error)

    @torch.inference_mode()
    def uncertainty(self, images: Any, batch_size: int = 512, *, resize: bool = False) -> Uncertainty:
        """How uncertain the ensemble is of each image, and its members' probabilities; arguments as of `predict`.

        It is that of the members' mean before its calibration, which could not be told apart into members.
        """
        logits = [self._fast_logits(batch).cpu() for batch in self._batches(images, batch_size, resize)]
        return Uncertainty.of(torch.cat(logits, 1).log_softmax(-1).numpy(), self.weights)

    def exported(self) -> Exported:
        """A copy for other runtimes, which is a function of pixels alone."""
        return Exported(cast(list[Network], self.networks), self._normalised, self._combined)

    def accelerate(self) -> AcceleratedEnsemble:
        """The ensemble as it is now, on the CPU in onnxruntime: `predict` and `uncertainty` with less waiting.

        It takes some seconds. The threads are as many as torch has. Raises ConfigError without the extra `export`.
        """
        return AcceleratedEnsemble(self.exported(), self.image_size, self.mean.shape[1], self.weights)

    def _batches(self, images: Any, batch_size: int, resize: bool) -> Iterator[Tensor]:
        """The images as (batch, channels, H, W) on the ensemble's device."""
        pixels = as_images(images, self.image_size, self.mean.shape[1], resize)
        return (batch.to(self.mean.device) for batch in pixels.permute(0, 3, 1, 2).split(batch_size))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Every module in evaluation mode meanwhile, and in its own afterwards."""
        training = [module for module in self.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` (weights), `config.json` (all else) and `README.md` (a card for people).

        Raises WriteError when one cannot be written.
        """
        networks = cast(list[Network], list(self.networks))
        mean, std = (each.flatten().tolist() for each in (self.mean, self.std))
        config = {
            "genotypes": [network.genotype.to_dict() for network in networks],
            "configs": [to_dict(config) for config in self.configs],
            "member_weights": list(self.weights),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "abstentions": [vars(each) for each in self.abstentions],
            "mean": mean,
            "std": std,
            "image_size": self.image_size,
            "class_names": list(self.class_names),
            "card": self.card,
        }
        # Copies: a file of weights holds no tensor twice, as an ensemble may that has one network twice.
        weights = {
            name: value.to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in self.state_dict().items()
        }
        shape, calibrated = (self.image_size, self.image_size, len(mean)), self.calibration is not None
        genotypes = [network.genotype for network in networks]
        page = model_card(genotypes, self.configs, self.weights, shape, self.class_names, calibrated, self.card)
        write_ensemble(Path(folder), config, weights, page)

    @classmethod
    def load(cls, folder: str | Path) -> "Ensemble":
        """Read what `save` wrote, onto the CPU, by its folder or a file in it; `ensemble.pt` of version 0.2.0 too.

        Raises CheckpointError if it is missing or damaged.
        """
        path = ensemble_file(Path(folder))
        try:
            return cls._from_state(*read_ensemble(path))
        except CheckpointError:
            raise
        # what a value of a wrong type or size meets first, torch decides
        except Exception as error:
            raise CheckpointError(f"{path} does not hold a whole ensemble: {reason(error)}.") from error

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> "Ensemble":
        """Load an ensemble from a folder, or from the repository of this name on the Hugging Face hub.

        `options` are those of `huggingface_hub.snapshot_download`, such as `revision`. Raises ConfigError without the
        extra `hub`, CheckpointError if it is missing or damaged.
        """
        return cls.load(name if Path(name).exists() else download(str(name), **options))

    def push_to_hub(self, repo: str, private: bool | None = None, **options: Any) -> str:
        """Save it in a repository of the Hugging Face hub, `USER/NAME`, which is created if need be; returns its URL.

        `options` are those of `huggingface_hub.upload_folder`, such as `token`. The licence is `card["license"]`.
        Raises ConfigError without the extra `hub`, CheckpointError if it is refused.
        """
        return upload(repo, self.save, private, **options)

    @classmethod
    def _from_state(cls, state: dict[str, Any], weights: dict[str, Tensor]) -> "Ensemble":
        configs = [from_dict(TrainingConfig, config) for config in state["configs"]]
        genotypes = [Genotype.from_dict(genotype) for genotype in state["genotypes"]]
        mean, std, names, size, card = (state[key] for key in ("mean", "std", "class_names", "image_size", "card"))
        if not names or not all(type(name) is str for name in names) or type(size) is not int or size < 1:
            raise ConfigError(f"class names and an image size are expected, got {shown(names)}, {shown(size)}.")
        finite = all(type(each) is float and math.isfinite(each) for each in [*mean, *std])
        if not finite or not 0 < len(mean) == len(std) or min(std) <= 0:
            raise ConfigError(f"a mean and a positive std a channel are expected, got {shown(mean)}, {shown(std)}.")
        if not isinstance(card, dict):
            raise ConfigError(f"a card of keys and values is expected, got {shown(card)}.")
        networks = []
        for k, (genotype, config) in enumerate(zip(genotypes, configs, strict=True)):
            with torch.device("meta"):  # no memory is taken for sizes that the weights do not have
                network = make_network(config, genotype, len(mean), len(names))
            prefix = f"networks.{k}."
            found = [name for name in weights if name.startswith(prefix)]
            own = {name.removeprefix(prefix): weights.pop(name) for name in found}
            check_weights(network, own)
            network.to_empty(device="cpu").load_state_dict(own)
            networks.append(network)
        if weights:
            raise ConfigError(f"there are weights of no network: {shown(next(iter(weights)))}.")
        stored = state.get("calibration")
        calibration = None if stored is None else Calibration.from_dict(stored)
        abstentions = [Abstention(**each) for each in state.get("abstentions", ())]
        about = (tuple(mean), tuple(std), size, tuple(names))
        return cls(networks, configs, *about, card, state.get("member_weights"), calibration, abstentions)
