"""The supernet: all operations on all edges, and the ways to pass through it."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from edgenes.nn.layers import joined
from edgenes.nn.mixed_cell import mixed_nodes
from edgenes.nn.network import Backbone, Cell, Mix, Network, calibrate, choices, total
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.logits import (
    ArchitectureLogits,
    gumbel_logits,
    gumbel_weights,
    harden,
    largest_choice,
    relaxed_weights,
)


class Supernet(Backbone):
    """All candidate operations on all edges, without affine batch norm and without running statistics.

    Batch norm uses each batch's own statistics, since paths mix; `as_network` gives a genotype its own.

    Example:
        >>> from edgenes import SearchSpace, Supernet
        >>> net = Supernet(SearchSpace(), image_channels=1, classes=10, channels=8, cells=1)
        >>> sum(weight.numel() for weight in net.parameters()) > 10_000
        True
    """

    def __init__(
        self,
        space: SearchSpace,
        image_channels: int,
        classes: int,
        channels: int,
        cells: int,
        stem_kernel: int = 3,
        parts: int = 1,
        darts_layout: bool = False,
    ):
        everything = {edge: space.operations for edge in range(len(space.edges))}
        super().__init__(
            space,
            dict.fromkeys(space.cell_types, everything),
            image_channels,
            classes,
            channels,
            cells,
            stem_kernel,
            affine=False,
            track=False,
            parts=parts,
            darts_layout=darts_layout,
        )
        self.parts = parts
        self.darts_layout = darts_layout
        self.sizes = (image_channels, classes, channels, cells, stem_kernel)

    def sampled(self, images: Tensor, genotype: Genotype, gates: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) along the genotype's edges only; gates (types, nodes, k) scale their outputs."""
        chosen = choices(genotype)

        def mix_of(cell_type: str) -> Mix:
            kind = self.space.cell_types.index(cell_type)

            def mix(cell: Cell, states: list[Tensor]) -> list[Tensor]:
                for node, edges in enumerate(chosen[cell_type]):
                    outputs = [cell.operation(edge, name)(states[i]) for edge, i, name in edges]
                    if gates is not None:
                        outputs = [out * gates[kind, node, k] for k, out in enumerate(outputs)]
                    states.append(total(outputs))
                return states[2:]

            return mix

        return self.classify(self.features(images, mix_of)[-1])

    def along(self, images: Tensor, genotypes: Sequence[Genotype]) -> Tensor:
        """Logits (genotypes, batch, classes): `sampled` for each, what they share up to the first cell computed once.

        Later cells hardly ever have equal inputs.
        """
        known: dict[
            tuple[Any, ...], Tensor
        ] = {}  # by what is computed, and the identities of the tensors it is computed from

        def once(what: tuple[Any, ...], function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
            key = (*what, *map(id, inputs))
            if key not in known:
                known[key] = function(*inputs)
            return known[key]

        def afresh(what: tuple[Any, ...], function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
            return function(*inputs)

        stem, outputs = self.entered(images), []
        for genotype in genotypes:
            before = previous = stem
            chosen = choices(genotype)
            compute = once
            for cell_type, module in zip(self.cell_types, self.cells, strict=True):
                cell = cast(Cell, module)
                states = [compute((0,), cell.preprocess0, before), compute((1,), cell.preprocess1, previous)]
                for node in chosen[cell_type]:
                    ends = [compute((e, name), cell.operation(e, name), states[i]) for e, i, name in node]
                    states.append(total(ends) if len(ends) == 1 else compute(("sum",), torch.add, *ends))
                before, previous = previous, joined(states[2:])
                compute = afresh
            outputs.append(self.classify(previous))
        return torch.stack(outputs)

    def mixture(self, images: Tensor, operations: Tensor, edges: Tensor) -> Tensor:
        """Logits (batch, classes) of the weighted sum over all edges and operations (section 1.3).

        operations (types, edges, operations), edges (types, edges). An operation whose weight is exactly 0 is not
        evaluated and gives that weight no gradient, which makes `gdas` out of hard operation weights.
        """
        needed = (operations.detach() != 0).tolist()

        def mix_of(cell_type: str) -> Mix:
            kind = self.space.cell_types.index(cell_type)
            everything = all(all(edge) for edge in needed[kind])
            stride = 2 if cell_type == "reduction" else 1

            def mix(cell: Cell, states: list[Tensor]) -> list[Tensor]:
                if everything:
                    weights = operations[kind] * edges[kind].unsqueeze(-1)
                    return mixed_nodes(cell.operations, self.space, states, weights, stride, self.parts)
                for node in range(self.space.nodes):
                    incoming_edges = []
                    for i in range(node + 2):
                        edge = self.space.edge(node, i)
                        outputs = [
                            operations[kind, edge, o] * cell.operation(edge, name)(states[i])
                            for o, name in enumerate(self.space.operations)
                            if needed[kind][edge][o]
                        ]
                        if outputs:
                            incoming_edges.append(edges[kind, edge] * total(outputs))
                    states.append(total(incoming_edges))
                return states[2:]

            return mix

        return self.classify(self.features(images, mix_of)[-1])

    def relaxed(
        self,
        images: Tensor,
        logits: ArchitectureLogits,
        forward: str,
        temperature: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Logits (batch, classes) of one Gumbel-softmax draw, differentiable in the architecture's logits.

        `mixture`: soft weights on all edges and operations. `gdas`: soft edges, one hard operation on each (Dong &
        Yang 2019). `sampled`: a hard draw of both, straight-through, so only the drawn path is evaluated.
        """
        if forward == "sampled":
            genotype, gates = straight_through(logits, self.space, temperature, generator)
            return self.sampled(images, genotype, gates)
        operations, edges = gumbel_weights(logits, self.space, temperature, generator)
        if forward == "gdas":
            operations = harden(operations, operations.detach() == operations.detach().amax(-1, keepdim=True))
        return self.mixture(images, operations, edges)

    @torch.no_grad()
    def as_network(self, genotype: Genotype, calibration: Tensor) -> Network:
        """The genotype with the supernet's weights, its batch norm set on `calibration` images; in eval mode."""
        with torch.random.fork_rng(devices=[]):  # its initial weights are overwritten
            network = Network(genotype, *self.sizes, affine=False, parts=self.parts, darts_layout=self.darts_layout).to(
                calibration.device
            )
        own = self.state_dict()
        network.load_state_dict({name: own.get(name, value) for name, value in network.state_dict().items()})
        calibrate(network, calibration)
        return network


def straight_through(
    logits: ArchitectureLogits, space: SearchSpace, temperature: float, generator: torch.Generator
) -> tuple[Genotype, Tensor]:
    """A genotype drawn by Gumbel-softmax and gates (types, nodes, k): 1 forward, the relaxation's gradient backward."""
    noisy = gumbel_logits(logits, temperature, generator)
    of_operations, of_edges = relaxed_weights(noisy, space)
    edges, operations = largest_choice(of_operations.detach(), noisy.beta.detach(), space)
    types = torch.arange(edges.shape[0], device=edges.device).view(-1, 1, 1)
    genotype = Genotype.from_indices(space, edges.tolist(), operations.tolist())
    one = of_edges.new_ones(())
    return genotype, harden(of_edges[types, edges], one) * harden(of_operations[types, edges, operations], one)
