"""A mixed cell, computed state by state instead of edge by edge (section 1.3 of the paper; eq. (1) of DARTS).

All edges that leave a state read the same tensor. So its pools, its ReLU and what they give after batch norm are
computed once; the convolutions of its edges run as one call for each kind, an edge a group of channels; and an
operation's weight in the sum is the scale of its last batch norm, so that it costs no pass over the data. An operation
that has no such way, as a user's own, is evaluated by its module on each edge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgenes.nn.depthwise import depthwise
from edgenes.nn.layers import average_pool, batch_norm, is_small, joined, max_pool, pointwise, subsample
from edgenes.nn.operations import partial_channels, shuffled
from edgenes.space.genotype import SearchSpace

SEPARABLE = ("sep_conv_3x3", "sep_conv_5x5")
DILATED = ("dil_conv_3x3", "dil_conv_5x5")
FAST = (*SEPARABLE, *DILATED, "max_pool_3x3", "avg_pool_3x3", "skip_connect")
TOGETHER = 1 << 20
"""Bytes up to which edges share a call: what does not stay in the processor's cache gains nothing by it."""
Modules = Sequence[Mapping[str, Any]]
"""Of each edge its operations; `Any`, since the parts of a module have no type of their own."""


def mixed_nodes(
    operations: nn.ModuleDict,
    space: SearchSpace,
    states: Sequence[Tensor],
    weights: Tensor,
    stride: int,
    parts: int = 1,
) -> list[Tensor]:
    """The nodes' outputs, each (batch, channels, H, W), of a cell whose two inputs are `states`.

    operations[edge][name] are the modules, without affine batch norm, on a part of the channels if `parts` is above 1;
    `stride` is that of the inputs' edges. A node is the sum over its edges and their operations of weights (edges,
    operations) times the operation's output.
    """
    nodes: list[Tensor] = []
    sums: list[list[Any]] = [[None, None] for _ in range(space.nodes)]  # operations' channels, the others
    for state in range(space.nodes + 1):
        x = states[state] if state < 2 else nodes[state - 2]
        targets = range(max(0, state - 1), space.nodes)
        edges = [space.edge(node, state) for node in targets]
        modules: list[Any] = [operations[str(edge)] for edge in edges]
        step = stride if state < 2 else 1
        others = None
        if parts > 1:
            modules = [{name: partial.operation for name, partial in edge.items()} for edge in modules]
            x, others = partial_channels(x, parts, step)
        outputs = _outgoing(modules, space.operations, x, weights[edges], step)
        for node, edge, out in zip(targets, edges, outputs, strict=True):
            sums[node][0] = _sum(sums[node][0], out)
            if others is not None:
                sums[node][1] = _sum(sums[node][1], weights[edge].sum() * others)
        if state > 0:  # the node that this state was the last input of
            first, others = sums[state - 1]
            nodes.append(first if others is None else shuffled(first, others, parts))
    return nodes


def _sum(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first + second


def _outgoing(modules: Modules, names: Sequence[str], x: Tensor, weights: Tensor, stride: int) -> list[Tensor]:
    """For each edge that leaves x the sum of its operations' outputs by weights (edges, operations)."""
    of = dict(zip(names, weights.unbind(1), strict=True))
    rectified = F.relu(x)
    size = max(1, TOGETHER // (x.numel() * x.element_size()))
    own: list[Tensor | None] = []  # of each edge
    for first in range(0, len(modules), size):
        part = slice(first, first + size)
        own += _own(modules[part], {name: weight[part] for name, weight in of.items()}, rectified, stride)
    for name in (name for name in names if name not in FAST):
        own = [_sum(out, of[name][k] * edge[name](x)) for k, (edge, out) in enumerate(zip(modules, own, strict=True))]
    alike = {}  # the same for all edges, up to the weight
    if "max_pool_3x3" in of:
        alike["max_pool_3x3"] = batch_norm(max_pool(x, stride))
    if "avg_pool_3x3" in of:
        alike["avg_pool_3x3"] = batch_norm(average_pool(x, stride))
    if "skip_connect" in of and stride == 1:
        alike["skip_connect"] = x
    if not alike:
        return [out for out in own if out is not None]
    small = is_small(next(iter(alike.values())))
    # The numbers as they lie in memory.
    there, back = ((1, 0, 2, 3), (0, 2, 1, 3, 4)) if small else ((0, 2, 3, 1), (0, 1, 4, 2, 3))
    shared = torch.stack([out.permute(there) for out in alike.values()])
    mixed = torch.stack([of[name] for name in alike], 1) @ shared.flatten(1)
    mixed = mixed.view(-1, *shared.shape[1:]).permute(back)
    # `mixed` first: its layout is the sum's, and so the order of later sums.
    return [m if out is None else m + out for m, out in zip(mixed, own, strict=True)]


def _own(modules: Modules, of: dict[str, Tensor], rectified: Tensor, stride: int) -> list[Tensor | None]:
    """The weighted sum of the operations that have convolutions, of each edge; None if there is none."""
    terms = []  # (batch, edges * channels, H, W) each
    if "skip_connect" in of and stride > 1:
        terms.append(_reduced(rectified, modules, of["skip_connect"]))
    convolutions = [name for name in (*SEPARABLE, *DILATED) if name in of]
    if convolutions and len(modules) > 1:
        rectified = joined([rectified] * len(modules))
    for name in convolutions:
        terms.append(_convolved(rectified, [m[name] for m in modules], of[name], stride, name in SEPARABLE))
    if not terms:
        return [None] * len(modules)
    return list(sum(terms[1:], terms[0]).chunk(len(modules), 1))


def _scaled_norm(x: Tensor, scale: Tensor) -> Tensor:
    """Batch norm; scale (groups,) multiplies each group of channels."""
    return batch_norm(x, scale.repeat_interleave(x.shape[1] // len(scale)))


def _pointwise(x: Tensor, weights: list[Tensor]) -> Tensor:
    return pointwise(x, torch.cat(weights), groups=len(weights))


def _convolved(x: Tensor, modules: list[Any], scale: Tensor, stride: int, separable: bool) -> Tensor:
    """Depthwise, pointwise, batch norm; for separable convolutions twice, with a ReLU between."""
    dilation = modules[0][1].dilation[0]
    x = depthwise(x, torch.cat([m[1].weight for m in modules]), stride, dilation)
    x = _pointwise(x, [m[2].weight for m in modules])
    if separable:
        x = F.relu(batch_norm(x))
        x = depthwise(x, torch.cat([m[5].weight for m in modules]))
        x = _pointwise(x, [m[6].weight for m in modules])
    return _scaled_norm(x, scale)


def _reduced(x: Tensor, modules: Modules, scale: Tensor) -> Tensor:
    """The skip connections of stride 2, from the rectified state."""
    reducers = [m["skip_connect"] for m in modules]
    height, width = x.shape[2:]
    even = pointwise(subsample(x, 2), torch.cat([r.even.weight for r in reducers]))
    odd = F.pad(subsample(x, 2, first=1), (0, width % 2, 0, height % 2))
    odd = pointwise(odd, torch.cat([r.odd.weight for r in reducers]))
    halves = [half.unflatten(1, (len(modules), -1)) for half in (even, odd)]
    out = torch.cat(halves, 2).flatten(1, 2)
    return _scaled_norm(out if is_small(out) else out.contiguous(memory_format=torch.channels_last), scale)
