"""Training of the hypernetwork, eqs. (2.2) and (2.3)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgenes.config import HypernetworkConfig
from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork, control_error
from edgenes.space.penalty import shared_edge_penalty
from edgenes.training.bilevel import Bilevel, OnPath, Report, check_finite
from edgenes.training.guided import Guide, Guided
from edgenes.training.schedules import linear


@dataclass(frozen=True)
class HypernetworkResult:
    """The hypernetwork, the supernet it was trained with (None with a guide), its control error, the last metrics."""

    hypernetwork: Hypernetwork
    supernet: Supernet | None
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
        return control_error(hypernetwork, optimal, config.either_input)
    return abs(config.lam - shared_edges(hypernetwork.genotype(config.lam), optimal, config.either_input))


def train_hypernetwork(
    config: HypernetworkConfig,
    data: Dataset,
    optimal: Genotype,
    *,
    resume: dict[str, Any] | None = None,
    report: Report | None = None,
    accumulate: int = 1,
    on_path: OnPath | None = None,
    guide: Guide | None = None,
) -> HypernetworkResult:
    """Train the map from lambda to an architecture sharing lambda edges with `optimal`, eq. (2.3).

    Without a `guide` the loss on H is the supernet's, whose weights are trained beside, as in the paper. A guide,
    a fitted `PerformancePredictor`, takes its place: no image is seen, and no weight is trained.

    c anneals from c_start to c_end and t from t_start to t_end, linearly by epoch. t is the temperature of every
    draw: of the penalty's and the passes' Gumbel-softmax, and of the paths, drawn from softmax(logits / t).
    `accumulate` and `on_path` as in `search_genotype`.
    Raises ConfigError if the images are too small for the cells or the spaces differ, DivergedError on a loss that
    is not finite.

    Example:
        >>> import torch
        >>> from edgenes import HypernetworkConfig, SearchSpace, load_data, random_genotype, train_hypernetwork
        >>> data = load_data("digits", images=200)
        >>> optimal = random_genotype(SearchSpace(), torch.Generator().manual_seed(0))
        >>> config = HypernetworkConfig(epochs=2, channels=4, batch_size=32)
        >>> trained = train_hypernetwork(config, data, optimal)
        >>> 0 <= trained.control_error <= optimal.space.max_edges
        True
    """
    if optimal.space != config.space:
        raise ConfigError(f"the optimal genotype is of another search space: {optimal.space}, not {config.space}.")
    loop = Bilevel(config, data, accumulate, on_path) if guide is None else Guided(config, guide)
    hypernetwork = Hypernetwork(
        config.space, config.pivots, config.trainable_pivots, config.interpolation, loop.generator
    ).to(config.device)
    rates: list[dict[str, Any]] = [{"params": [hypernetwork.alpha, hypernetwork.beta]}]
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
        for batch in loop.batches():
            lam = training_lambda(config, loop.generator)  # the same in both steps
            # the outer problem of eq. (2.3), on H: the loss and c times the penalty
            lams = penalty_lambdas(config, loop.generator).to(config.device)
            penalty = shared_edge_penalty(
                hypernetwork(lams), optimal, lams, config.estimator, t, loop.generator, config.either_input
            ).mean()
            loss = c * penalty
            if learning:
                if isinstance(loop, Guided):
                    surrogate, value = loop.architecture_loss(hypernetwork(lams), t)
                else:
                    surrogate, value = loop.architecture_loss(hypernetwork(lam), t, batch)
                loss = loss + surrogate
                totals[1] += value
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            totals[2] += penalty.detach()
            if isinstance(loop, Bilevel):  # the inner problem of eq. (2.3), on W; a guide knows its answer
                images, labels = batch
                with torch.no_grad():
                    logits = hypernetwork(lam)
                totals[0] += loop.weight_step(images, labels, logits, t)
        weight_loss, architecture_loss, mean_penalty = (totals / loop.steps).tolist()
        metrics = {
            "loss": weight_loss if guide is None else architecture_loss,
            "architecture_loss": architecture_loss,
            "penalty": mean_penalty,
            "c": c,
            "temperature": t,
            "control_error": trained_control_error(config, hypernetwork, optimal),
        }
        check_finite(metrics, epoch, "hypernetwork")
        if report is not None:
            state = {"epoch": epoch, "hypernetwork": hypernetwork.state_dict(), "metrics": metrics}
            report(epoch, metrics, state | {"architecture_optimizer": optimizer.state_dict()} | loop.state())
    error = trained_control_error(config, hypernetwork, optimal)
    supernet = loop.supernet if isinstance(loop, Bilevel) else None
    return HypernetworkResult(hypernetwork, supernet, error, metrics)
