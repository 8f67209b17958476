"""Retraining a genotype from scratch, and its predictions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.config import TrainingConfig
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import ConfigError
from edgenes.nn.layers import SMALL
from edgenes.nn.network import Network, check_image_size
from edgenes.nn.together import Together
from edgenes.space.genotype import Genotype
from edgenes.space.operations import OPERATIONS
from edgenes.training.bilevel import Report, check_finite, initialised
from edgenes.training.memory import autocast, micro_batches
from edgenes.training.schedules import cosine

TRAINING_VERSION = 5
"""Raise it with every change, here or below (network, operations, batches), after which `train_network` or `predict`
gives other numbers for the same input, be it in the last bits: what was stored under the old one is then not found."""
AUXILIARY_WEIGHT = 0.4  # as in DARTS
AT_ONCE = 32
"""The most networks that are trained at once; of wide networks and large batches fewer, which gain less."""
_NUMBERS = AT_ONCE * 8 * 64  # channels x images
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


def at_once(config: TrainingConfig, data: Dataset, threads: int) -> int:
    """How many networks to train at once by so many threads, so that it is faster and changes no bit of a CPU's.

    With several threads a product's last bits depend on the others; with drop path the random numbers do. On larger
    images it is not faster. A GPU, whose last bits may change, takes `networks_per_gpu`.
    """
    if config.drop_path > 0:
        return 1
    if config.device != "cpu":
        return config.networks_per_gpu
    if threads > 1 or data.image_size**2 > SMALL:
        return 1
    return max(1, min(AT_ONCE, _NUMBERS // (config.channels * config.batch_size)))


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
    how: dict[str, Any] = {"accumulate": accumulate, "targets": targets}
    return train_networks([config], data, [genotype], resumes=[resume], reports=[report], **how)[0]


def train_networks(
    configs: Sequence[TrainingConfig],
    data: Dataset,
    genotypes: Sequence[Genotype],
    *,
    resumes: Sequence[dict[str, Any] | None] | None = None,
    reports: Sequence[Report | None] | None = None,
    accumulate: int = 1,
    targets: np.ndarray | None = None,
) -> list[Network]:
    """`train_network` of several genotypes at once: on a CPU and small images the same networks in less time.

    The configurations differ in their seeds alone, and unfinished trainings have done as many epochs each. Raises
    DivergedError if one of the losses is not finite.
    """
    config, first = configs[0], 0
    if any(replace(each, seed=config.seed) != config for each in configs):
        raise ConfigError("networks that are trained at once should differ in their seeds and genotypes alone.")
    check_image_size(genotypes[0].space, config.cells, data.image_size)
    training = DeviceData(data.training, data, config.device)
    if targets is not None:
        training.labels = torch.from_numpy(targets).to(config.device)
    learners = [Learner(each, data, genotype) for each, genotype in zip(configs, genotypes, strict=True)]
    for learner, resume in zip(learners, resumes or [], strict=False):
        if resume is not None:
            learner.load(resume)
            first, accumulate = resume["epoch"] + 1, resume.get("accumulate", 1)
    outputs_of = Together([learner.network for learner in learners], large=config.device != "cpu" and len(learners) > 1)
    steps = max(1, len(data.training) // config.batch_size)

    for epoch in range(first, config.epochs):
        for learner in learners:
            learner.network.train()
            learner.network.drop_path = config.drop_path * epoch / config.epochs
        totals = torch.zeros(len(learners), device=config.device)
        epochs = [training.epoch(config.batch_size, each.generator, config.augment, config.cutout) for each in learners]
        for step, batches in enumerate(zip(*epochs, strict=True)):
            for learner in learners:
                learner.begin(cosine(config.learning_rate, epoch * steps + step, config.epochs * steps))
            pieces = [micro_batches(images, labels, accumulate) for images, labels in batches]
            for images, labels, shares in (zip(*piece, strict=True) for piece in zip(*pieces, strict=True)):
                with autocast(config):
                    losses = torch.stack([_loss(*pair) for pair in zip(outputs_of(images), labels, strict=True)])
                (losses.sum() * shares[0]).backward()
                totals += shares[0] * losses.detach()
            for learner in learners:
                learner.step()
        metrics = [{"loss": mean} for mean in (totals / steps).tolist()]
        for each in metrics:
            check_finite(each, epoch, "retraining")
        for learner, each, report in zip(learners, metrics, reports or [], strict=False):
            if report is not None:
                report(epoch, each, {"epoch": epoch, "accumulate": accumulate, **learner.state()})
    return [learner.network.eval() for learner in learners]


class Learner:
    """A network, its optimiser and its random numbers."""

    def __init__(self, config: TrainingConfig, data: Dataset, genotype: Genotype):
        self.network = make_network(config, genotype, data.channels, data.classes).to(config.device)
        self.network.generator = self.generator = torch.Generator().manual_seed(config.seed)
        self._parameters = list(self.network.parameters())
        self._clip = config.gradient_clip
        # A user's own operation may give a weight its first gradient late, which torch's fused SGD refuses.
        fused = OPERATIONS.own().keys().isdisjoint(edge.operation for *_, edge in genotype.edge_set)
        self._optimizer = torch.optim.SGD(
            self._parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay, fused=fused
        )

    def begin(self, rate: float) -> None:
        """Begin a step with this learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clip the gradients and follow them."""
        norm = nn.utils.get_total_norm([weight.grad for weight in self._parameters if weight.grad is not None])
        if norm.device.type != "cpu" or norm > self._clip:  # a GPU need not be waited for
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip, norm)
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Be as at the end of the epoch in which the state was taken."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())


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
