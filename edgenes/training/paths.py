"""Single paths through the supernet: fair ones for its weights, and the score gradient of sampled ones."""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import Edge, Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits, log_probability, sample_genotypes


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
                deck = next(decks)
                chosen: list[Edge] = []
                for _ in range(self.space.inputs_per_node):
                    chosen.append(self._draw(deck, node, chosen))
                nodes.append(tuple(chosen))
            cells.append(tuple(nodes))
        return Genotype(self.space, tuple(cells))


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
    with torch.no_grad():
        losses = torch.stack([F.cross_entropy(output, labels) for output in supernet.along(images, distinct)])
    losses = losses[[distinct.index(path) for path in drawn]]
    advantages = (losses - losses.mean()) * paths / (paths - 1)
    log_probabilities = log_probability(logits, supernet.space, drawn, temperature)
    return (advantages * log_probabilities).mean(), losses.mean()
