"""The shared-edge penalty of eqs. (2.1) and (2.3): how far an architecture is from sharing lambda edges."""

import torch
from torch import Tensor

from edgenes.errors import ConfigError
from edgenes.space.choices import ESTIMATORS
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits, gumbel_weights, incoming, node_logits, pair_probabilities
from edgenes.validation import check_choice


def _optimal_mask(optimal: Genotype, like: Tensor, either_input: bool) -> Tensor:
    """(types, edges, operations): 1 at the edges and operations of the optimal genotype, else 0."""
    edges, operations = (index.to(like.device) for index in optimal.indices)
    types = torch.arange(edges.shape[0], device=like.device).view(-1, 1, 1)
    mask = torch.zeros(like.shape[-3:], dtype=like.dtype, device=like.device)
    mask[types, edges, operations] = 1
    if either_input:
        for node in range(optimal.space.nodes):
            pair = [optimal.space.edge(node, 0), optimal.space.edge(node, 1)]
            mask[:, pair] = mask[:, pair].amax(1, keepdim=True)
    return mask


def _exact(logits: ArchitectureLogits, optimal: Genotype, lam: Tensor, either_input: bool) -> Tensor:
    """E (lambda - shared)^2 over genotypes drawn from the logits, in closed form: bias squared plus variance."""
    space = optimal.space
    edge, missing = incoming(space)
    hit = (logits.alpha.softmax(-1) * _optimal_mask(optimal, logits.alpha, either_input)).sum(-1)
    hit = hit[..., edge].masked_fill(missing.to(hit.device), 0)  # s_i: (..., types, nodes, inputs)
    if space.inputs_per_node == 1:
        mean = (node_logits(logits.beta, space).softmax(-1) * hit).sum(-1)
        square = mean  # a node shares one edge or none
    else:
        pairs = pair_probabilities(logits.beta, space)
        both = hit.unsqueeze(-1) + hit.unsqueeze(-2)
        mean = (pairs * both).sum((-2, -1))
        square = (pairs * (both + 2 * hit.unsqueeze(-1) * hit.unsqueeze(-2))).sum((-2, -1))
    bias = lam - mean.sum((-2, -1))
    return bias.square() + (square - mean.square()).sum((-2, -1))


def shared_edge_penalty(
    logits: ArchitectureLogits,
    optimal: Genotype,
    lam: float | Tensor,
    estimator: str = "exact",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    either_input: bool = False,
) -> Tensor:
    """(lambda - number of edges shared with `optimal`)^2 of the relaxed architecture.

    logits without a batch axis and a float lambda give a scalar; with one, lam is (batch,) and so is the result.
    `exact` is the expectation over sampled genotypes, (lambda - mu)^2 + variance: no noise, no temperature;
    `gumbel` is the paper's single Gumbel-softmax sample at `temperature`, its noise from `generator`.
    `either_input` as in `shared_edges`. Raises ConfigError on an unknown estimator, a temperature <= 0, or `gumbel`
    without a generator.

    Example:
        >>> import torch
        >>> from edgenes import Hypernetwork, SearchSpace, random_genotype, shared_edge_penalty
        >>> generator = torch.Generator().manual_seed(0)
        >>> hypernetwork = Hypernetwork(SearchSpace(), generator=generator)
        >>> penalty = shared_edge_penalty(hypernetwork(2.0), random_genotype(SearchSpace(), generator), 2.0)
        >>> penalty.shape, bool(penalty > 0)
        (torch.Size([]), True)
    """
    space: SearchSpace = optimal.space
    if logits.alpha.shape[-3:] != (len(space.cell_types), len(space.edges), len(space.operations)):
        raise ConfigError("the logits and the optimal genotype are of different search spaces.")
    check_choice("estimator", estimator, ESTIMATORS)
    lam = torch.as_tensor(lam, dtype=logits.alpha.dtype, device=logits.alpha.device)
    if estimator == "exact":
        return _exact(logits, optimal, lam, either_input)
    if temperature <= 0 or generator is None:
        raise ConfigError(f"the gumbel estimator needs a temperature > 0 and a generator, got {temperature}.")
    # (lambda - <optimal, GS(logits)>)^2, as printed in eq. (2.3)
    operations, edges = gumbel_weights(logits, space, temperature, generator)
    share = (operations * _optimal_mask(optimal, operations, either_input)).sum(-1) * edges
    return (lam - share.sum((-2, -1))).square()
