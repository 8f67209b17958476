"""From logits to weights and genotypes: softmax, Gumbel noise, sampling, probabilities (section 1.3 of the paper).

A node chooses its inputs by beta alone (edge normalisation of PC-DARTS) and, on each chosen edge, its operation
by alpha. With two inputs a node they are drawn without replacement, as the Gumbel top-2 does.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from edgenes.errors import ConfigError
from edgenes.space.genotype import Genotype, SearchSpace


@dataclass(frozen=True)
class ArchitectureLogits:
    """alpha (types, edges, operations) and beta (types, edges), or both with a leading batch axis."""

    alpha: Tensor
    beta: Tensor

    def __post_init__(self) -> None:
        if self.alpha.shape[:-1] != self.beta.shape or self.beta.dim() not in (2, 3):
            raise ConfigError(
                "logits need alpha ([batch,] types, edges, operations) and beta ([batch,] types, edges), got "
                f"{tuple(self.alpha.shape)} and {tuple(self.beta.shape)}."
            )

    @property
    def batched(self) -> bool:
        """Whether there is a leading batch axis."""
        return self.beta.dim() == 3

    def detach(self) -> "ArchitectureLogits":
        """The same values outside the graph."""
        return ArchitectureLogits(self.alpha.detach(), self.beta.detach())


@lru_cache
def incoming(space: SearchSpace) -> tuple[Tensor, Tensor]:
    """(edge, missing), each (nodes, nodes + 1): a node's incoming edges, padded to the last node's number.

    `missing` is True at the padding; `edge` is 0 there.
    """
    width = space.nodes + 1
    edge = torch.zeros(space.nodes, width, dtype=torch.long)
    missing = torch.ones(space.nodes, width, dtype=torch.bool)
    for position, (node, i) in enumerate(space.edges):
        edge[node, i], missing[node, i] = position, False
    return edge, missing


def node_logits(beta: Tensor, space: SearchSpace) -> Tensor:
    """beta (..., edges) as (..., nodes, nodes + 1), minus infinity where a node has no such input."""
    edge, missing = incoming(space)
    return beta[..., edge].masked_fill(missing.to(beta.device), -torch.inf)


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of the shape and type of `like`; drawn on the CPU so that devices agree."""
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-12)))
    return noise.to(like.device, like.dtype)


def successive_top(scores: Tensor, k: int) -> Tensor:
    """Relaxed k-hot weights (..., choices), k = 1 or 2, summing to k: the chance to be among k successive draws.

    The second draw is a softmax without the first one's choice, averaged over it: two ones for scores far apart,
    and both choices of a pair exactly once. (Pushing down what is taken by scores + log(1 - softmax) instead, Xie &
    Ermon 2019, brings the first choice level with the second one, whatever the temperature: about 1.5 and 0.5.)
    """
    if k == 1:
        return scores.softmax(-1)
    ordered = _ordered_pairs(scores)
    return ordered.sum(-1) + ordered.sum(-2)


def _ordered_pairs(scores: Tensor) -> Tensor:
    """(..., choices, choices): the probability w_a P(b|a) to draw a, then b, P(b|a) the softmax without a."""
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    given = scores.unsqueeze(-2).masked_fill(itself, -torch.inf).softmax(-1)
    return scores.softmax(-1).unsqueeze(-1) * given


def gumbel_weights(
    logits: ArchitectureLogits, space: SearchSpace, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One Gumbel-softmax sample: operation weights (..., types, edges, operations), edge weights (..., types, edges).

    A node's edge weights sum to `inputs_per_node`. Jang et al. (2016); GS in eqs. (2.1) and (2.3).
    """
    return relaxed_weights(gumbel_logits(logits, temperature, generator), space)


def gumbel_logits(logits: ArchitectureLogits, temperature: float, generator: torch.Generator) -> ArchitectureLogits:
    """The logits with Gumbel noise, divided by the temperature."""
    alpha = (logits.alpha + gumbel_noise(logits.alpha, generator)) / temperature
    return ArchitectureLogits(alpha, (logits.beta + gumbel_noise(logits.beta, generator)) / temperature)


def relaxed_weights(noisy: ArchitectureLogits, space: SearchSpace) -> tuple[Tensor, Tensor]:
    """The `gumbel_weights` of logits with noise."""
    per_node = successive_top(node_logits(noisy.beta, space), space.inputs_per_node)
    _, missing = incoming(space)
    return noisy.alpha.softmax(-1), per_node[..., ~missing]  # row by row, which is the order of the edges


def harden(weights: Tensor, chosen: Tensor) -> Tensor:
    """Straight-through: the 0/1 values of `chosen` forward, the gradient of `weights` backward."""
    return chosen.to(weights) - weights.detach() + weights


Choice = tuple[Tensor, Tensor]
"""(edges, operations) of genotypes, each (genotypes, types, nodes, inputs_per_node) int64, as `Genotype.indices`."""


def largest_choice(alpha: Tensor, beta: Tensor, space: SearchSpace) -> Choice:
    """The choice by the largest logits, of each batch element if there is a batch."""
    edge, _ = incoming(space)
    inputs = node_logits(beta, space).topk(space.inputs_per_node, dim=-1).indices.sort(-1).values
    edges = edge.to(inputs.device).expand(*inputs.shape[:-1], -1).gather(-1, inputs)  # ([batch,] types, nodes, k)
    best = alpha.argmax(-1)  # ([batch,] types, edges)
    return edges, best.gather(-1, edges.flatten(-2)).view_as(edges)


def _genotypes(space: SearchSpace, choice: Choice) -> list[Genotype]:
    return [Genotype.from_indices(space, e, o) for e, o in zip(*(each.tolist() for each in choice), strict=True)]


def argmax_genotype(logits: ArchitectureLogits, space: SearchSpace) -> Genotype:
    """The genotype of the largest logits: each node's best inputs by beta, each input's best operation by alpha."""
    alpha, beta = logits.alpha.detach().cpu(), logits.beta.detach().cpu()
    return _genotypes(space, largest_choice(alpha[None], beta[None], space))[0]


def sample_genotypes(
    logits: ArchitectureLogits,
    space: SearchSpace,
    n: int,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> list[Genotype]:
    """n genotypes drawn from softmax(logits / temperature) by the Gumbel-max trick, inputs without replacement.

    A high temperature explores every choice alike, a low one follows the largest logits. Logits without a batch.
    """
    alpha = logits.alpha.detach().cpu().expand(n, -1, -1, -1)
    beta = logits.beta.detach().cpu().expand(n, -1, -1)
    return _genotypes(space, sample_choice(ArchitectureLogits(alpha, beta), space, generator, temperature))


def sample_choice(
    logits: ArchitectureLogits, space: SearchSpace, generator: torch.Generator, temperature: float = 1.0
) -> Choice:
    """One genotype for each element of the logits' batch, drawn as `sample_genotypes` does, as indices on the CPU."""
    alpha, beta = logits.alpha.detach().cpu() / temperature, logits.beta.detach().cpu() / temperature
    return largest_choice(alpha + gumbel_noise(alpha, generator), beta + gumbel_noise(beta, generator), space)


def pair_probabilities(beta: Tensor, space: SearchSpace) -> Tensor:
    """Probability (..., nodes, inputs, inputs) that a node takes inputs a and b; a < b, other entries are 0.

    pi_ab = w_a P(b|a) + w_b P(a|b), with P(b|a) the softmax of beta without a: never w / (1 - w), which loses
    its gradient near 0 and 1.
    """
    ordered = _ordered_pairs(node_logits(beta, space))
    return (ordered + ordered.transpose(-1, -2)).triu(1)


def log_probability(
    logits: ArchitectureLogits, space: SearchSpace, genotypes: list[Genotype], temperature: float = 1.0
) -> Tensor:
    """log of the probability (genotypes,) that `sample_genotypes` draws each of them; differentiable in the logits."""
    edges, operations = (torch.stack(each) for each in zip(*(g.indices for g in genotypes), strict=True))
    return choice_log_probability(logits, space, (edges, operations), temperature)


def choice_log_probability(
    logits: ArchitectureLogits, space: SearchSpace, choice: Choice, temperature: float = 1.0
) -> Tensor:
    """`log_probability` of a choice; batched logits have one element a genotype."""
    device = logits.alpha.device
    edges, operations = (each.to(device) for each in choice)  # (genotypes, types, nodes, k)
    count = len(edges)
    log_alpha = (logits.alpha / temperature).log_softmax(-1)
    types = torch.arange(edges.shape[1], device=device).view(1, -1, 1, 1)
    own = (torch.arange(count, device=device).view(-1, 1, 1, 1),) if logits.batched else ()
    of_operations = log_alpha[(*own, types, edges, operations)].flatten(1).sum(1)
    first = torch.tensor([space.edge(j, 0) for j in range(space.nodes)], device=device)
    inputs = edges - first.view(1, 1, -1, 1)
    beta = logits.beta / temperature
    if space.inputs_per_node == 1:
        log_beta = node_logits(beta, space).log_softmax(-1).expand(count, -1, -1, -1)
        return of_operations + log_beta.gather(-1, inputs).flatten(1).sum(1)
    pairs = pair_probabilities(beta, space).expand(count, -1, -1, -1, -1)
    a, b = inputs[..., :1], inputs[..., 1:]  # sorted, since a node's edges are
    row = pairs.gather(-2, a.unsqueeze(-1).expand(*a.shape, pairs.shape[-1])).squeeze(-2)
    return of_operations + row.gather(-1, b).clamp_min(1e-30).log().flatten(1).sum(1)
