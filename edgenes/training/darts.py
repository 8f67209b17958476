"""DARTS: the search of the optimal genotype, eq. (1.1)."""

from dataclasses import dataclass
from typing import Any

import torch

from edgenes.config import SearchConfig
from edgenes.data.dataset import Dataset
from edgenes.space.genotype import Genotype
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.bilevel import Bilevel, OnPath, Report, check_finite
from edgenes.training.collapse import architecture_metrics, capped_genotype, ends_early, warn_of_collapse
from edgenes.training.schedules import linear


@dataclass(frozen=True)
class SearchResult:
    """The optimal genotype, the logits (types, edges, operations) and (types, edges) it came from, last metrics."""

    genotype: Genotype
    logits: ArchitectureLogits
    metrics: dict[str, float]


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

    Example:
        >>> from edgenes import SearchConfig, load_data, search_genotype
        >>> data = load_data("digits", images=200)
        >>> found = search_genotype(SearchConfig(epochs=2, channels=4, batch_size=32), data)
        >>> len(found.genotype.edge_set), found.logits.alpha.shape
        (4, torch.Size([1, 14, 7]))
    """
    loop = Bilevel(config, data, accumulate, on_path)
    space = config.space
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    alpha = (1e-3 * torch.randn(shape, generator=loop.generator)).to(config.device).requires_grad_()
    beta = (1e-3 * torch.randn(shape[:2], generator=loop.generator)).to(config.device).requires_grad_()
    logits = ArchitectureLogits(alpha, beta)
    optimizer = torch.optim.Adam(
        [alpha, beta], config.architecture_lr, betas=(0.5, 0.999), weight_decay=config.architecture_weight_decay
    )
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
        check_finite(metrics, epoch, "search")
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
