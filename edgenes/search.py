"""The bilevel loops: DARTS for the optimal genotype, eq. (1.1), and the hypernetwork, eqs. (2.2) and (2.3).

Each step updates the architecture on a batch of H and the weights on a batch of W. `report(epoch, metrics, state)`
is the only way out during a run; `state` refers to live tensors, so save or copy it before returning. Handing the
state back as `resume` continues as if nothing had happened, bit for bit on the CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgenes.collapse import architecture_metrics, capped_genotype, ends_early, warn_of_collapse
from edgenes.config import HypernetworkConfig, SearchConfig
from edgenes.data import Dataset, DeviceData
from edgenes.errors import ConfigError, DivergedError
from edgenes.genotype import Edge, Genotype, SearchSpace, shared_edges
from edgenes.hypernetwork import Hypernetwork, control_error
from edgenes.memory import micro_batches
from edgenes.network import check_image_size
from edgenes.precision import autocast
from edgenes.regularizer import shared_edge_penalty
from edgenes.relaxation import (
    ArchitectureLogits,
    log_probability,
    sample_genotypes,
)
from edgenes.schedule import cosine, linear
from edgenes.supernet import Supernet
from edgenes.unrolled import unrolled_gradient

Report = Callable[[int, dict[str, float], dict[str, Any]], None]
OnPath = Callable[[Genotype], None]
"""Called after each weight step with the genotype whose weights it updated; only `sampled` passes have one."""


class FairPaths:
    """Genotypes in which every (input, operation) of a node comes equally often: dealt from shuffled decks."""

    def __init__(self, space: SearchSpace, generator: torch.Generator):
        self.space = space
        self.generator = generator
        self.decks: list[list[int]] = [[] for _ in range(len(space.cell_types) * space.nodes)]

    def _draw(self, deck: list[int], node: int, taken: list[Edge]) -> Edge:
        operations = self.space.operations
        used = {edge.input for edge in taken}
        position = next((k for k, card in enumerate(deck) if card // len(operations) not in used), None)
        if position is None:  # cards of a taken input wait in front of the next deck, so that none is lost
            deck.extend(torch.randperm((node + 2) * len(operations), generator=self.generator).tolist())
            return self._draw(deck, node, taken)
        card = deck.pop(position)
        return Edge(card // len(operations), operations[card % len(operations)])

    def next(self) -> Genotype:
        """The next genotype."""
        decks = iter(self.decks)
        cells = []
        for _ in self.space.cell_types:
            nodes = []
            for node in range(self.space.nodes):
                deck, chosen = next(decks), []
                for _ in range(self.space.inputs_per_node):
                    chosen.append(self._draw(deck, node, chosen))
                nodes.append(tuple(chosen))
            cells.append(tuple(nodes))
        return Genotype(self.space, tuple(cells))


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
            config.seed, lambda: Supernet(config.space, *sizes, config.partial_channels)
        )
        self.supernet.to(config.device)
        self.optimizer = torch.optim.SGD(
            self.supernet.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.fair = FairPaths(config.space, self.generator)
        self.steps = max(1, len(data.weights) // config.batch_size)
        self.step = 0
        self.accumulate = accumulate
        self.on_path = on_path

    def batches(self):
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
        for piece, of_piece, share in micro_batches(images, labels, self.accumulate):
            loss, piece_value = self._architecture_loss(
                ArchitectureLogits(*leaves), piece, of_piece, temperature, scored
            )
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

        def loss(images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
            def run() -> Tensor:
                self.generator.set_state(noise)
                with autocast(config):
                    output = self.supernet.relaxed(
                        images, ArchitectureLogits(*leaves), config.forward, temperature, self.generator
                    )
                    return F.cross_entropy(output, labels)

            return run

        found, value = unrolled_gradient(
            list(self.supernet.parameters()),
            leaves,
            loss(*batch),
            loss(images, labels),
            cosine(config.learning_rate, self.step, config.epochs * self.steps),
        )
        return _with_gradient(logits, found), value

    def _architecture_loss(
        self, logits: ArchitectureLogits, images: Tensor, labels: Tensor, temperature: float, scored: bool
    ) -> tuple[Tensor, Tensor]:
        config = self.config
        with autocast(config):
            if scored:
                return score_loss(self.supernet, logits, images, labels, config.paths, temperature, self.generator)
            output = self.supernet.relaxed(images, logits, config.forward, temperature, self.generator)
            loss = F.cross_entropy(output, labels)
        return loss, loss.detach()

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
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        if self.on_path is not None:
            self.on_path(genotype)
        return total

    def state(self) -> dict[str, Any]:
        """All that a later `load` needs to go on."""
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "decks": self.fair.decks,
            "step": self.step,
            "accumulate": self.accumulate,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier run."""
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


@torch.no_grad()
def _path_losses(supernet: Supernet, paths: list[Genotype], images: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(logits, labels) for logits in supernet.along(images, paths)])


def score_loss(
    supernet: Supernet,
    logits: ArchitectureLogits,
    images: Tensor,
    labels: Tensor,
    paths: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(surrogate, mean cross-entropy) of `paths` genotypes drawn from the logits, all on the same batch.

    The surrogate's gradient is the score-function estimate with a leave-one-out baseline: unbiased, forward passes
    only. One path a batch would drown the paths' difference in the batches'.
    """
    drawn = sample_genotypes(logits, supernet.space, paths, generator, temperature)
    distinct = list(dict.fromkeys(drawn))  # the same path on the same batch has the same loss
    losses = _path_losses(supernet, distinct, images, labels)
    losses = losses[[distinct.index(path) for path in drawn]]
    advantages = (losses - losses.mean()) * paths / (paths - 1)
    log_probabilities = log_probability(logits, supernet.space, drawn, temperature)
    return (advantages * log_probabilities).mean(), losses.mean()


def _finite(metrics: dict[str, float], epoch: int, what: str) -> dict[str, float]:
    for name, value in metrics.items():
        if not abs(value) < float("inf"):
            more = ", lower c_start and c_end, raise t_end" if name == "penalty" else ""
            raise DivergedError(
                f"{what}: {name} became {value} in epoch {epoch}. Lower the learning rates{more}, or check the images."
            )
    return metrics


@dataclass(frozen=True)
class SearchResult:
    """The optimal genotype, the logits (types, edges, operations) and (types, edges) it came from, last metrics."""

    genotype: Genotype
    logits: ArchitectureLogits
    metrics: dict[str, float]


SEARCH_VERSION = 2
"""Raise it with every change, here or below, after which `search_genotype` gives other numbers for the same input."""


def search_genotype(
    config: SearchConfig,
    data: Dataset,
    *,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
    on_path: OnPath | None = None,
) -> SearchResult:
    """Search the optimal genotype by DARTS with edge normalisation, eq. (1.1), of first or second order.

    `accumulate` is the number of pieces in which a batch passes; a resumed search keeps that of its state.
    `on_path` sees the genotype of each weight step from here on; ConfigError unless `forward` is sampled.
    A genotype with more pools and skips than chance explains is logged as a warning.
    Raises ConfigError if the images are too small for the cells and DivergedError on a loss that is not finite.
    """
    loop = Bilevel(config, data, accumulate, on_path)
    space = config.space
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    alpha = (1e-3 * torch.randn(shape, generator=loop.generator)).to(config.device).requires_grad_()
    beta = (1e-3 * torch.randn(shape[:2], generator=loop.generator)).to(config.device).requires_grad_()
    logits = ArchitectureLogits(alpha, beta)
    optimizer = torch.optim.Adam([alpha, beta], config.architecture_lr, betas=(0.5, 0.999))
    first, metrics = 0, {}
    if resume is not None:
        loop.load(resume)
        with torch.no_grad():
            alpha.copy_(resume["alpha"])
            beta.copy_(resume["beta"])
        optimizer.load_state_dict(resume["architecture_optimizer"])
        first, metrics = resume["epoch"] + 1, resume["metrics"]
        if resume.get("stopped"):
            first = config.epochs

    for epoch in range(first, config.epochs):
        t = linear(config.t_start, config.t_end, epoch, config.epochs)
        learning = epoch >= config.warmup * config.epochs
        before = ArchitectureLogits(alpha.detach().clone(), beta.detach().clone())
        totals = torch.zeros(2, device=config.device)
        for images, labels in loop.batches():
            if learning:  # the outer problem of eq. (1.1), on H
                loss, value = loop.architecture_loss(logits, t, (images, labels))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                totals[1] += value
            totals[0] += loop.weight_step(images, labels, logits.detach(), t)  # the inner problem, on W
        weight_loss, architecture_loss = (totals / loop.steps).tolist()
        metrics = {"loss": weight_loss, "architecture_loss": architecture_loss, "temperature": t}
        metrics |= architecture_metrics(logits, space)
        _finite(metrics, epoch, "search")
        stopped = ends_early(config, epoch, before, logits)
        if stopped:
            with torch.no_grad():
                alpha.copy_(before.alpha)
                beta.copy_(before.beta)
        if report is not None:
            state = {"epoch": epoch, "stopped": stopped, "metrics": metrics}
            state |= {"alpha": alpha.detach(), "beta": beta.detach()}
            report(epoch, metrics, state | {"architecture_optimizer": optimizer.state_dict()} | loop.state())
        if stopped:
            break
    genotype = capped_genotype(logits, space, config.max_parameter_free)
    warn_of_collapse(genotype)
    return SearchResult(genotype, logits.detach(), metrics)


@dataclass(frozen=True)
class HypernetworkResult:
    """The hypernetwork, the supernet it was trained with, its control error and the last epoch's metrics."""

    hypernetwork: Hypernetwork
    supernet: Supernet
    control_error: float
    metrics: dict[str, float]


def penalty_lambdas(config: HypernetworkConfig, generator: torch.Generator) -> Tensor:
    """(penalty_lambdas,) values stratified on [-epsilon, Lambda + epsilon]; (1,) where lambda is fixed."""
    if config.lam is not None:
        return torch.tensor([config.lam])
    count = config.penalty_lambdas
    unit = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return -config.epsilon + unit * (config.space.max_edges + 2 * config.epsilon)


def training_lambda(config: HypernetworkConfig, generator: torch.Generator) -> float:
    """lambda ~ U[-epsilon, Lambda + epsilon], or the fixed one of eq. (2.1)."""
    if config.lam is not None:
        return config.lam
    width = config.space.max_edges + 2 * config.epsilon
    return torch.rand((), generator=generator).item() * width - config.epsilon


def trained_control_error(config: HypernetworkConfig, hypernetwork: Hypernetwork, optimal: Genotype) -> float:
    """The control error over the lambdas that were trained: all whole ones, or the fixed one."""
    if config.lam is None:
        return control_error(hypernetwork, optimal)
    return abs(config.lam - shared_edges(hypernetwork.genotype(config.lam), optimal))


def train_hypernetwork(
    config: HypernetworkConfig,
    data: Dataset,
    optimal: Genotype,
    *,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
    on_path: OnPath | None = None,
) -> HypernetworkResult:
    """Train the map from lambda to an architecture sharing lambda edges with `optimal`, eq. (2.3).

    c anneals from c_start to c_end and t from t_start to t_end, linearly by epoch. t is the temperature of every
    draw: of the penalty's and the passes' Gumbel-softmax, and of the paths, drawn from softmax(logits / t).
    `accumulate` and `on_path` as in `search_genotype`.
    Raises ConfigError if the images are too small for the cells or the spaces differ, DivergedError on a loss that
    is not finite.
    """
    if optimal.space != config.space:
        raise ConfigError(f"the optimal genotype is of another search space: {optimal.space}, not {config.space}.")
    loop = Bilevel(config, data, accumulate, on_path)
    hypernetwork = Hypernetwork(
        config.space, config.pivots, config.trainable_pivots, config.interpolation, loop.generator
    ).to(config.device)
    rates = [{"params": [hypernetwork.alpha, hypernetwork.beta]}]
    if config.trainable_pivots:
        rates.append({"params": [hypernetwork.widths], "lr": 0.1 * config.architecture_lr})
    optimizer = torch.optim.Adam(rates, config.architecture_lr, betas=(0.5, 0.999))
    first, metrics = 0, {}
    if resume is not None:
        loop.load(resume)
        hypernetwork.load_state_dict(resume["hypernetwork"])
        optimizer.load_state_dict(resume["architecture_optimizer"])
        first, metrics = resume["epoch"] + 1, resume["metrics"]

    for epoch in range(first, config.epochs):
        c = linear(config.c_start, config.c_end, epoch, config.epochs)
        t = linear(config.t_start, config.t_end, epoch, config.epochs)
        learning = epoch >= config.warmup * config.epochs
        totals = torch.zeros(3, device=config.device)
        for images, labels in loop.batches():
            lam = training_lambda(config, loop.generator)  # the same in both steps
            # the outer problem of eq. (2.3), on H: cross-entropy and c times the penalty
            lams = penalty_lambdas(config, loop.generator).to(config.device)
            penalty = shared_edge_penalty(hypernetwork(lams), optimal, lams, config.estimator, t, loop.generator).mean()
            loss = c * penalty
            if learning:
                surrogate, value = loop.architecture_loss(hypernetwork(lam), t, (images, labels))
                loss = loss + surrogate
                totals[1] += value
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            # the inner problem of eq. (2.3), on W
            with torch.no_grad():
                logits = hypernetwork(lam)
            totals[0] += loop.weight_step(images, labels, logits, t)
            totals[2] += penalty.detach()
        weight_loss, architecture_loss, mean_penalty = (totals / loop.steps).tolist()
        metrics = {
            "loss": weight_loss,
            "architecture_loss": architecture_loss,
            "penalty": mean_penalty,
            "c": c,
            "temperature": t,
            "control_error": trained_control_error(config, hypernetwork, optimal),
        }
        _finite(metrics, epoch, "hypernetwork")
        if report is not None:
            state = {"epoch": epoch, "hypernetwork": hypernetwork.state_dict(), "metrics": metrics}
            report(epoch, metrics, state | {"architecture_optimizer": optimizer.state_dict()} | loop.state())
    error = trained_control_error(config, hypernetwork, optimal)
    return HypernetworkResult(hypernetwork, loop.supernet, error, metrics)
