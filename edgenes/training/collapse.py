"""Collapse: a search that ends in pools and skips; how it is seen, and two remedies: a cap and an early stop.

DARTS's one-shot weights favour operations that need no training (Zela et al., 2020). The other remedies are settings
that a search has anyway: `warmup`, in which the architecture waits for the weights, and `weight_decay`.
"""

import logging
import math
from collections import Counter

import torch
from torch import Tensor

from edgenes.config import SearchConfig
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits, argmax_genotype, node_logits
from edgenes.space.operations import is_parameter_free

log = logging.getLogger(__name__)
RARE = 0.05
"""A genotype counts as collapsed if fewer random genotypes than this share have as many parameter-free edges.

That is 4 of 4 edges (3.4%; 3 of 4 have 21%), 7 of 8, 11 of 16; two edges are too few to tell.
"""


def operation_counts(genotype: Genotype) -> dict[str, int]:
    """Edges of each operation of the space."""
    found = Counter(edge.operation for _, _, edge in genotype.edge_set)
    return {name: found[name] for name in genotype.space.operations}


def parameter_free(genotype: Genotype) -> int:
    """Number of edges that are pools or skips, 0 .. Lambda."""
    return sum(is_parameter_free(edge.operation) for _, _, edge in genotype.edge_set)


def _relative_entropy(logits: Tensor, choices: Tensor) -> float:
    """Mean entropy of the softmax over the last axis, as a share of log(choices), its maximum."""
    entropy = torch.special.entr(logits.double().softmax(-1)).sum(-1)
    return (entropy / choices.clamp_min(2).double().log()).mean().item()


def architecture_metrics(logits: ArchitectureLogits, space: SearchSpace) -> dict[str, float]:
    """What an epoch of a search reports of its architecture, without a batch axis.

    `edges_OPERATION` and `parameter_free`: edges of the argmax genotype; `operation_entropy` and `edge_entropy`: mean
    entropy of the edges' operations and of the nodes' inputs, each relative to its maximum: 1 where all choices are
    alike, 0 where each is made.
    """
    alpha, beta = logits.alpha.detach().cpu(), logits.beta.detach().cpu()
    genotype = argmax_genotype(logits, space)
    return {
        **{f"edges_{name}": count for name, count in operation_counts(genotype).items()},
        "parameter_free": parameter_free(genotype),
        "operation_entropy": _relative_entropy(alpha, torch.tensor(len(space.operations))),
        "edge_entropy": _relative_entropy(node_logits(beta, space), torch.arange(2, space.nodes + 2)),
    }


def chance(space: SearchSpace, count: int) -> float:
    """Share of the space's genotypes that have at least `count` parameter-free edges."""
    edges, share = space.max_edges, sum(map(is_parameter_free, space.operations)) / len(space.operations)
    return sum(math.comb(edges, k) * share**k * (1 - share) ** (edges - k) for k in range(count, edges + 1))


def warn_of_collapse(genotype: Genotype) -> None:
    """Log a warning if a searched genotype has more parameter-free edges than chance explains."""
    count = parameter_free(genotype)
    share = chance(genotype.space, count)
    if share >= RARE:
        return
    counts = operation_counts(genotype)
    which = ", ".join(f"{n} {name}" for name, n in counts.items() if n and is_parameter_free(name))
    log.warning(
        "%d of %d edges of the searched genotype are pools or skips (%s); of random genotypes %.2g%% have as many. The "
        "search has probably collapsed. Set max_parameter_free or stop_parameter_free, or raise the search's warmup "
        "or weight_decay.",
        *(count, genotype.space.max_edges, which, 100 * share),
    )


def capped_genotype(logits: ArchitectureLogits, space: SearchSpace, most: int | None) -> Genotype:
    """The argmax genotype with at most `most` parameter-free edges, as P-DARTS caps skips; None sets no cap.

    Inputs are chosen by beta alone, as ever. Of all operations on these edges that keep the cap, those of the greatest
    product of probabilities: each edge that changes costs the difference of two logarithms, and the cheapest change.
    """
    genotype = argmax_genotype(logits, space)
    excess = 0 if most is None else parameter_free(genotype) - most
    if excess <= 0:
        return genotype
    edges, operations = genotype.indices  # (types, nodes, inputs_per_node)
    types = torch.arange(len(edges)).view(-1, 1, 1)
    scores = logits.alpha.detach().cpu()[types, edges]  # of an edge's operations: log-probabilities but for a constant
    free = torch.tensor([is_parameter_free(name) for name in space.operations])
    best, replacement = scores.masked_fill(free, -torch.inf).max(-1)
    cost = (scores.amax(-1) - best).masked_fill(~free[operations], torch.inf)
    changed = cost.flatten().argsort(stable=True)[:excess]
    operations = operations.flatten().scatter(0, changed, replacement.flatten()[changed]).view_as(operations)
    return Genotype.from_indices(space, edges.tolist(), operations.tolist())


def ends_early(config: SearchConfig, epoch: int, before: ArchitectureLogits, after: ArchitectureLogits) -> bool:
    """Whether `stop_parameter_free` ends the search with this epoch, from `before` to `after`, and leaves it `before`.

    DARTS+ ends a search at the second skip of a normal cell (Liang et al., 2019). Here pools count too, and the epoch
    before must have learned: a random architecture is nothing to go back to.
    """
    most = config.stop_parameter_free
    if most is None or epoch < config.warmup * config.epochs + 1:
        return False
    had, has = (parameter_free(argmax_genotype(logits, config.space)) for logits in (before, after))
    if not had <= most < has:
        return False
    log.warning(
        "The search ends after %d of %d epochs, with %d pools or skips: the next epoch brought %d, more than "
        "stop_parameter_free=%d.",
        *(epoch, config.epochs, had, has, most),
    )
    return True
