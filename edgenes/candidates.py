"""Candidate genotypes of a trained hypernetwork (Algorithm 1 of the paper, without repeats)."""

from dataclasses import dataclass

import torch

from edgenes.genotype import Genotype
from edgenes.hypernetwork import Hypernetwork


@dataclass(frozen=True)
class Candidate:
    """A genotype with the lambda it was drawn at, by argmax or as a sample."""

    genotype: Genotype
    lam: float
    source: str


def draw_candidates(
    hypernetwork: Hypernetwork,
    count: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float | None = None,
    max_draws: int = 200,
) -> list[Candidate]:
    """Up to `count` distinct genotypes at lambda stratified over [low, high] (default: [0, Lambda]), in drawing order.

    The argmax genotypes on an even grid come first, both ends included; then genotypes are sampled, stratum after
    stratum, until there are enough or `max_draws` draws were made: a hypernetwork that collapsed gives fewer.
    """
    high = hypernetwork.space.max_edges if high is None else high
    found: dict[Genotype, Candidate] = {}
    for draw in range(max(max_draws, count)):
        if len(found) == count:
            break
        if draw < count:
            lam = low + (high - low) * (draw / (count - 1) if count > 1 else 0.5)
            genotype, source = hypernetwork.genotype(lam), "argmax"
        else:
            within = torch.rand((), generator=generator).item()
            lam = low + (high - low) * (draw % count + within) / count
            genotype, source = hypernetwork.sample_genotypes(lam, 1, generator)[0], "sample"
        found.setdefault(genotype, Candidate(genotype, lam, source))
    return list(found.values())
