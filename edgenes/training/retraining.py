"""Retraining a genotype from scratch, and its predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.config import TrainingConfig
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import DivergedError
from edgenes.nn.network import Network, check_image_size
from edgenes.space.genotype import Genotype
from edgenes.space.operations import OPERATIONS
from edgenes.training.bilevel import Report, initialised
from edgenes.training.memory import autocast, micro_batches
from edgenes.training.schedules import cosine

TRAINING_VERSION = 4
"""Raise it with every change, here or below (network, operations, batches), after which `train_network` or `predict`
gives other numbers for the same input, be it in the last bits: what was stored under the old one is then not found."""
AUXILIARY_WEIGHT = 0.4  # as in DARTS
PREDICTION_BATCH = 512
"""Images that pass at once where nothing is trained."""


def make_network(config: TrainingConfig, genotype: Genotype, channels: int, classes: int) -> Network:
    """The freshly initialised network that `train_network` trains, for images of `channels` channels."""
    return initialised(
        config.seed,
        lambda: Network(
            genotype,
            channels,
            classes,
            config.channels,
            config.cells,
            config.stem_kernel,
            config.auxiliary,
            config.darts_layout,
        ),
    )


def train_network(
    config: TrainingConfig,
    data: Dataset,
    genotype: Genotype,
    *,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
    targets: np.ndarray | None = None,
) -> Network:
    """Train the genotype's network from scratch on W and H together (section 3.1); returned in eval mode.

    `targets`, float32 (samples, classes) of `data.training`, are probabilities to learn in the place of the labels:
    distillation (Hinton et al., 2015, at temperature 1), by the cross-entropy with them.
    `report(epoch, metrics, state)`, `resume` and `accumulate` as in `edgenes.training.bilevel`. Raises ConfigError if
    the images are too small for the cells, DivergedError on a loss that is not finite.

    Example:
        >>> import torch
        >>> from edgenes import SearchSpace, TrainingConfig, load_data, predict, random_genotype, train_network
        >>> data = load_data("digits", images=200)
        >>> genotype = random_genotype(SearchSpace(), torch.Generator().manual_seed(0))
        >>> network = train_network(TrainingConfig(epochs=1, channels=4, batch_size=32), data, genotype)
        >>> predict(network, data.test, data).shape
        (359, 10)
    """
    check_image_size(genotype.space, config.cells, data.image_size)
    generator = torch.Generator().manual_seed(config.seed)
    training = DeviceData(data.training, data, config.device)
    if targets is not None:
        training.labels = torch.from_numpy(targets).to(config.device)
    network = make_network(config, genotype, data.channels, data.classes).to(config.device)
    network.generator = generator
    parameters = list(network.parameters())
    # A user's own operation may give a weight its first gradient late, which torch's fused SGD refuses.
    fused = OPERATIONS.own().keys().isdisjoint(edge.operation for *_, edge in genotype.edge_set)
    optimizer = torch.optim.SGD(
        parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay, fused=fused
    )
    steps = max(1, len(data.training) // config.batch_size)
    first = 0
    if resume is not None:
        network.load_state_dict(resume["network"])
        optimizer.load_state_dict(resume["optimizer"])
        generator.set_state(resume["generator"].cpu())
        first = resume["epoch"] + 1
        accumulate = resume.get("accumulate", 1)

    for epoch in range(first, config.epochs):
        network.train()
        network.drop_path = config.drop_path * epoch / config.epochs
        total = torch.zeros((), device=config.device)
        batches = training.epoch(config.batch_size, generator, config.augment, config.cutout)
        for step, (images, labels) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = cosine(config.learning_rate, epoch * steps + step, config.epochs * steps)
            optimizer.zero_grad(set_to_none=True)
            for piece, of_piece, share in micro_batches(images, labels, accumulate):
                with autocast(config):
                    loss = _loss(network(piece), of_piece)
                (loss * share).backward()
                total += share * loss.detach()
            nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
            optimizer.step()
        mean = (total / steps).item()
        if not abs(mean) < float("inf"):
            raise DivergedError(
                f"retraining: the loss became {mean} in epoch {epoch}. Lower the learning rate, or check the images."
            )
        if report is not None:
            state = {
                "epoch": epoch,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "accumulate": accumulate,
            }
            report(epoch, {"loss": mean}, state)
    return network.eval()


def _loss(output: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy, with that of an auxiliary head added."""
    if isinstance(output, tuple):
        return F.cross_entropy(output[0], labels) + AUXILIARY_WEIGHT * F.cross_entropy(output[1], labels)
    return F.cross_entropy(output, labels)


@torch.no_grad()
def predict(
    network: Callable[[Tensor], Tensor],
    part: Part,
    data: Dataset,
    device: str = "cpu",
    batch_size: int = PREDICTION_BATCH,
) -> np.ndarray:
    """Log-probabilities, float32 (samples, classes), of a network in eval mode on a part of the data, in order.

    Example:
        >>> import torch
        >>> from edgenes import Network, SearchSpace, load_data, predict, random_genotype
        >>> data = load_data("digits")
        >>> genotype = random_genotype(SearchSpace(), torch.Generator().manual_seed(0))
        >>> predict(Network(genotype, data.channels, data.classes, 4, 2), data.validation, data).shape
        (287, 10)
    """
    batches = DeviceData(part, data, device).ordered(batch_size)
    outputs = [network(images).log_softmax(-1).cpu() for images, _ in batches]
    return torch.cat(outputs).numpy()
