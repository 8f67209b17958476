"""The ensemble that a search ends with: raw images in, mean of the members' probabilities out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgenes.checkpoint import load_checkpoint, save_checkpoint, write_text
from edgenes.config import TrainingConfig, from_dict, to_dict
from edgenes.data import Dataset
from edgenes.errors import CheckpointError, ConfigError, EdgeNESError
from edgenes.genotype import Genotype
from edgenes.network import Network
from edgenes.training import make_network

_FILE = "ensemble.pt"


class Ensemble(nn.Module):
    """Networks of the same data set whose probabilities are averaged, eq. (1.2); they normalise images themselves."""

    def __init__(
        self,
        networks: list[Network],
        configs: list[TrainingConfig],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        image_size: int,
        class_names: tuple[str, ...],
        card: dict[str, Any] | None = None,
    ):
        super().__init__()
        if not networks or len(networks) != len(configs):
            raise ConfigError(f"an ensemble needs one configuration a network, got {len(networks)}, {len(configs)}.")
        self.networks = nn.ModuleList(networks)
        self.configs = configs
        self.image_size = image_size
        self.class_names = tuple(class_names)
        self.card = card or {}
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.eval()

    @classmethod
    def of(cls, networks: list[Network], configs: list[TrainingConfig], data: Dataset, card=None) -> "Ensemble":
        """The ensemble of networks trained on `data`, with its normalisation and class names."""
        return cls(networks, configs, data.mean, data.std, data.image_size, data.class_names, card)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels 0..255 (batch, channels, H, W), any dtype -> probabilities (batch, classes)."""
        images = (images.float() / 255 - self.mean) / self.std
        return torch.stack([network(images).softmax(-1) for network in self.networks]).mean(0)

    @torch.inference_mode()
    def predict(self, images: np.ndarray | Tensor, batch_size: int = 512) -> np.ndarray:
        """Probabilities, float32 (samples, classes), of uint8 images (samples, H, W) or (samples, H, W, channels).

        The layout is that of a data set's x_test. Raises ConfigError on another dtype, shape or size.
        """
        images = torch.as_tensor(images)
        channels = self.mean.shape[1]
        pixels = images.unsqueeze(-1) if images.dim() == 3 else images
        expected = (self.image_size, self.image_size, channels)
        if images.dtype != torch.uint8 or pixels.dim() != 4 or tuple(pixels.shape[1:]) != expected:
            raise ConfigError(
                f"expected uint8 images (samples, {', '.join(map(str, expected))}), got {images.dtype} "
                f"{tuple(images.shape)}: convert to 0..255 and resize to {self.image_size}x{self.image_size}."
            )
        device = self.mean.device
        batches = pixels.permute(0, 3, 1, 2).split(batch_size)
        return torch.cat([self(batch.to(device)).cpu() for batch in batches]).numpy()

    def save(self, folder: str | Path) -> None:
        """Write weights, genotypes and normalisation (`ensemble.pt`) and a card for people and programs."""
        folder = Path(folder)
        state = {
            "genotypes": [network.genotype.to_dict() for network in self.networks],
            "configs": [to_dict(config) for config in self.configs],
            "weights": [
                {name: value.cpu() for name, value in network.state_dict().items()} for network in self.networks
            ],
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "image_size": self.image_size,
            "class_names": list(self.class_names),
            "card": json.dumps(self.card),
        }
        save_checkpoint(folder / _FILE, "ensemble", state)
        write_text(folder / "card.json", json.dumps(self.card, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "Ensemble":
        """Read what `save` wrote, onto the CPU; raises CheckpointError if it is missing or damaged."""
        path = Path(folder) / _FILE
        state = load_checkpoint(path, "ensemble")
        try:
            configs = [from_dict(TrainingConfig, config) for config in state["configs"]]
            genotypes = [Genotype.from_dict(genotype) for genotype in state["genotypes"]]
            networks = []
            for genotype, config, weights in zip(genotypes, configs, state["weights"], strict=True):
                network = make_network(config, genotype, len(state["mean"]), len(state["class_names"]))
                network.load_state_dict(weights)
                networks.append(network)
            mean, std = tuple(state["mean"]), tuple(state["std"])
            card = json.loads(state["card"])
            return cls(networks, configs, mean, std, state["image_size"], tuple(state["class_names"]), card)
        except (KeyError, TypeError, ValueError, RuntimeError, EdgeNESError) as error:
            raise CheckpointError(f"{path} does not hold a whole ensemble: {error}") from error
