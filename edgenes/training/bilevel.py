"""The bilevel loops: DARTS for the optimal genotype, eq. (1.1), and the hypernetwork, eqs. (2.2) and (2.3).

Each step updates the architecture on a batch of H and the weights on a batch of W. `report(epoch, metrics, state)`
is the only way out during a run; `state` refers to live tensors, so save or copy it before returning. Handing the
state back as `resume` continues as if nothing had happened, bit for bit on the CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgenes.config import SearchConfig
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError, DivergedError
from edgenes.nn.network import check_image_size
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import Genotype
from edgenes.space.logits import ArchitectureLogits, sample_genotypes
from edgenes.training.memory import autocast, micro_batches
from edgenes.training.paths import FairPaths, score_loss
from edgenes.training.schedules import cosine
from edgenes.training.second_order import unrolled_gradient

SEARCH_VERSION = 4
"""Raise it with every change, here or below, after which `search_genotype` gives other numbers for the same input."""
Report = Callable[[int, dict[str, float], dict[str, Any]], None]
OnPath = Callable[[Genotype], None]
"""Called after each weight step with the genotype whose weights it updated; only `sampled` passes have one."""


def initialised(seed: int, make: Callable[[], Any]) -> Any:
    """`make()`, on the CPU, with torch's initialisers seeded, the caller's random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device
        return make()


class Bilevel:
    """Supernet, its data and its optimiser: what both searches share.

    With `accumulate` above 1 each batch passes in as many pieces, whose gradients add up: less memory, one step. (The
    second-order gradient takes its batches whole.)
    """

    def __init__(self, config: SearchConfig, data: Dataset, accumulate: int = 1, on_path: OnPath | None = None):
        if on_path is not None and config.forward != "sampled":
            raise ConfigError(
                f"on_path needs forward='sampled', got {config.forward!r}: its weight steps follow no single genotype "
                "(mixture updates every operation of every edge, gdas one on each edge)."
            )
        check_image_size(config.space, config.cells, data.image_size)
        self.config = config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.weights = DeviceData(data.weights, data, config.device)
        self.architecture = DeviceData(data.architecture, data, config.device)
        sizes = (data.channels, data.classes, config.channels, config.cells, config.stem_kernel)
        self.supernet: Supernet = initialised(
            config.seed, lambda: Supernet(config.space, *sizes, config.partial_channels, config.darts_layout)
        )
        self.supernet.to(config.device)
        self.parameters = list(self.supernet.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay
        )
        self.fair = FairPaths(config.space, self.generator)
        self.steps = max(1, len(data.weights) // config.batch_size)
        self.step = 0
        self.accumulate = accumulate
        self.on_path = on_path

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch over W: (images, labels) of each step."""
        return self.weights.epoch(self.config.batch_size, self.generator, augment=self.config.augment)

    def architecture_loss(
        self, logits: ArchitectureLogits, temperature: float, batch: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(loss to differentiate in the logits, cross-entropy on H), both scalars.

        Only the second order uses `batch`, the next step's images and labels of W; by default it draws its own.
        """
        config = self.config
        if config.second_order:
            batch = batch or self.weights.draw(config.batch_size, self.generator, config.augment)
            return self._second_order(logits, temperature, batch)
        scored = config.forward == "sampled" and config.gradient == "score"
        size = config.path_batch if scored else config.batch_size
        images, labels = self.architecture.draw(size, self.generator, config.augment)
        # The gradient in the logits alone, piece by piece: none in the weights, and one piece's graph alive at a time.
        leaves = _leaves(logits)
        found = [torch.zeros_like(leaf) for leaf in leaves]
        value = torch.zeros((), device=config.device)
        inner = ArchitectureLogits(*leaves)
        for piece, of_piece, share in micro_batches(images, labels, self.accumulate):
            with autocast(config):
                if scored:
                    loss, piece_value = score_loss(
                        self.supernet, inner, piece, of_piece, config.paths, temperature, self.generator
                    )
                else:
                    output = self.supernet.relaxed(piece, inner, config.forward, temperature, self.generator)
                    loss = F.cross_entropy(output, of_piece)
                    piece_value = loss.detach()
            for total, gradient in zip(found, torch.autograd.grad(loss * share, leaves), strict=True):
                total += gradient
            value += share * piece_value
        return _with_gradient(logits, found), value

    def _second_order(
        self, logits: ArchitectureLogits, temperature: float, batch: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The unrolled objective: the weights' step on `batch` at the present learning rate, the loss on H after it.

        All passes have the same Gumbel noise, or their differences would be the noise's.
        """
        config = self.config
        images, labels = self.architecture.draw(config.batch_size, self.generator, config.augment)
        noise = self.generator.get_state()
        leaves = _leaves(logits)

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            self.generator.set_state(noise)
            with autocast(config):
                output = self.supernet.relaxed(
                    images, ArchitectureLogits(*leaves), config.forward, temperature, self.generator
                )
                return F.cross_entropy(output, labels)

        found, value = unrolled_gradient(
            self.parameters,
            leaves,
            partial(loss, *batch),
            partial(loss, images, labels),
            cosine(config.learning_rate, self.step, config.epochs * self.steps),
        )
        return _with_gradient(logits, found), value

    def weight_step(self, images: Tensor, labels: Tensor, logits: ArchitectureLogits, temperature: float) -> Tensor:
        """One SGD step on a batch of W, along one path (or mixture) of the architecture; returns its cross-entropy."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = cosine(config.learning_rate, self.step, config.epochs * self.steps)
        genotype = None
        if config.forward == "sampled" and config.weight_paths == "fair":
            genotype = self.fair.next()
        elif config.forward == "sampled":
            genotype = sample_genotypes(logits, config.space, 1, self.generator, temperature)[0]
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=config.device)
        for piece, of_piece, share in micro_batches(images, labels, self.accumulate):
            with autocast(config):
                if genotype is not None:
                    output = self.supernet.sampled(piece, genotype)
                else:
                    output = self.supernet.relaxed(piece, logits, config.forward, temperature, self.generator)
                loss = F.cross_entropy(output, of_piece)
            (loss * share).backward()
            total += share * loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        if self.on_path is not None and genotype is not None:
            self.on_path(genotype)
        return total

    def state(self) -> dict[str, Any]:
        """All that `load` needs to resume."""
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "decks": self.fair.decks,
            "step": self.step,
            "accumulate": self.accumulate,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Resume from the state of an earlier run."""
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.load_state_dict(state["weight_optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.fair.decks[:] = [list(deck) for deck in state["decks"]]
        self.step = state["step"]
        self.accumulate = state.get("accumulate", 1)


def _leaves(logits: ArchitectureLogits) -> tuple[Tensor, Tensor]:
    """alpha and beta as leaves of a graph of their own."""
    return logits.alpha.detach().requires_grad_(), logits.beta.detach().requires_grad_()


def _with_gradient(logits: ArchitectureLogits, gradients: Sequence[Tensor]) -> Tensor:
    """A scalar that has the given gradients in the logits."""
    return (gradients[0] * logits.alpha).sum() + (gradients[1] * logits.beta).sum()


def check_finite(metrics: dict[str, float], epoch: int, what: str) -> None:
    """Raise DivergedError, with what helps, if a metric of this epoch is NaN or infinite."""
    for name, value in metrics.items():
        if not abs(value) < float("inf"):
            more = ", lower c_start and c_end, raise t_end" if name == "penalty" else ""
            raise DivergedError(
                f"{what}: {name} became {value} in epoch {epoch}. Lower the learning rates{more}, or check the images."
            )
