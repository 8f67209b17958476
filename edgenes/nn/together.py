"""Several networks trained at once: in a step on small images a CPU spends less on layers than on starting them.

Layers of one form, each of another network or another edge and with an input of its own, run as one layer over all
their channels. A network's outputs are those that it has alone, and its gradients too, to the last bit, whichever
others are beside it. What no output depends on, as an input that no edge of a cell takes, is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edgenes.nn.depthwise import Depthwise, depthwise
from edgenes.nn.layers import (
    AveragePool,
    MaxPool,
    Norm,
    Pointwise,
    average_pool,
    beside,
    is_small,
    joined,
    max_pool,
    normalised,
    parted,
    pointwise,
)
from edgenes.nn.network import Cell, Network, total
from edgenes.nn.operations import FactorizedReduce, grids

Output = Tensor | tuple[Tensor, Tensor]
"""Of a network in training."""
Value = tuple[Hashable, ...]
"""The name of what a task makes; it begins with the number of its network."""
Size = tuple[int, int]
"""Channels, and how often the images' sides were halved."""


def _weights(layers: Sequence[nn.Conv2d]) -> Tensor:
    return beside([layer.weight for layer in layers])


def _depthwise(layers: Sequence[Depthwise], x: Tensor) -> Tensor:
    return depthwise(x, _weights(layers), layers[0].stride[0], layers[0].dilation[0])


def _pointwise(layers: Sequence[Pointwise], x: Tensor) -> Tensor:
    return pointwise(x, _weights(layers), len(layers))


def _factorized(layers: Sequence[FactorizedReduce], x: Tensor) -> Tensor:
    even, odd = grids(x)
    halves = _pointwise([each.even for each in layers], even), _pointwise([each.odd for each in layers], odd)
    pairs = zip(*(parted(half, len(layers)) for half in halves), strict=True)
    return normalised([each.norm for each in layers], joined([part for pair in pairs for part in pair]))


BESIDE: dict[type[nn.Module], Callable[[Sequence[Any], Tensor], Tensor]] = {
    nn.ReLU: lambda layers, x: F.relu(x),
    Depthwise: _depthwise,
    Pointwise: _pointwise,
    Norm: normalised,
    AveragePool: lambda layers, x: average_pool(x, layers[0].stride),
    MaxPool: lambda layers, x: max_pool(x, layers[0].stride),
    FactorizedReduce: _factorized,
}
"""What layers of one form make of images, the channels of each beside those of the others."""


@dataclass(frozen=True)
class _Task:
    """Makes a value of others: by `compute`, or by `layers` from images of one of `sizes` to those of the other."""

    makes: Value
    needs: tuple[Value, ...]
    compute: Callable[..., Any] | None = None
    layers: tuple[nn.Module, ...] = ()
    sizes: tuple[Size, Size] | None = None

    @property
    def form(self) -> Hashable:
        """What it has in common with the tasks beside which it can run."""
        if self.compute is not None:
            return self.makes
        return self.sizes, *((type(each), *(getattr(each, name, None) for name in _FORM)) for each in self.layers)


_FORM = ("kernel_size", "stride", "dilation", "in_channels", "out_channels", "eps", "momentum", "affine")


@dataclass(frozen=True)
class _Step:
    """Tasks of one form done at once; `reads` are what each needs, and as which of its readers."""

    tasks: list[_Task]
    reads: list[list[tuple[Value, int]]]

    def __call__(self, values: list[list[Any]], large: bool) -> Sequence[Any]:
        """What the tasks make of the values that they need; one after the other of large images, unless `large`."""
        if (compute := self.tasks[0].compute) is not None:
            return [compute(*values[0])]
        xs = [x for (x,) in values]
        if not (large or is_small(xs[0])):
            return [_in_turn(task.layers, x) for task, x in zip(self.tasks, xs, strict=True)]
        x = joined(xs)
        for layers in zip(*(task.layers for task in self.tasks), strict=True):
            x = BESIDE[type(layers[0])](layers, x)
        return parted(x, len(xs))


def _in_turn(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class Together:
    """Networks of one configuration, in training: the images of each to the output of each.

    With `large`, layers run at once on images of any size, as suits a GPU; last bits then depend on the others.

    Example:
        >>> import torch
        >>> from edgenes import Network, SearchSpace, random_genotype
        >>> from edgenes.nn.together import Together
        >>> generator = torch.Generator().manual_seed(0)
        >>> genotypes = [random_genotype(SearchSpace(), generator) for _ in range(3)]
        >>> networks = [Network(genotype, image_channels=1, classes=10, channels=8, cells=2) for genotype in genotypes]
        >>> [tuple(logits.shape) for logits in Together(networks)([torch.zeros(4, 1, 8, 8)] * 3)]
        [(4, 10), (4, 10), (4, 10)]
    """

    def __init__(self, networks: Sequence[Network], large: bool = False):
        self._large = large
        tasks = [task for k, network in enumerate(networks) for task in _needed(k, network)]
        self._readers = Counter(need for task in tasks for need in task.needs)
        self._steps = _plan(tasks)

    def __call__(self, images: Sequence[Tensor]) -> list[Output]:
        values: dict[Value, list[Any]] = {}

        def made(name: Value, value: Any) -> None:
            readers = self._readers[name]
            values[name] = list(_Shared.apply(value, readers)) if readers >= _MANY else [value] * max(1, readers)

        def read(name: Value, reader: int) -> Any:
            value, values[name][reader] = values[name][reader], None  # what nobody reads any more takes no memory
            return value

        for k, each in enumerate(images):
            made((k, "images"), each)
        for step in self._steps:
            outs = step([[read(*each) for each in reads] for reads in step.reads], self._large)
            for task, out in zip(step.tasks, outs, strict=True):
                made(task.makes, out)
        return [values[k, "output"][0] for k in range(len(images))]


_MANY = 3
"""Gradients whose sum depends on their order."""


class _Shared(torch.autograd.Function):
    """A value for each of its readers, whose gradients are summed in the readers' order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, readers: int) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(x.view_as(x) for _ in range(readers))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        there = [grad for grad in grads if grad is not None]
        return (total(there) if there else None), None


def _needed(k: int, network: Network) -> list[_Task]:
    """The tasks on which the network's output depends."""
    found: list[_Task] = []
    wanted: set[Value] = {(k, "output")}
    for task in reversed(list(_tasks(k, network))):
        if task.makes in wanted:
            found.append(task)
            wanted.update(task.needs)
    return found[::-1]


def _tasks(k: int, network: Network) -> Iterator[_Task]:
    """The tasks of network number k, each after those that it needs."""
    outputs: list[Value] = [(k, "entered")] * 2
    sizes: list[Size] = [(cast(Norm, network.stem[1]).num_features, 0)] * 2
    yield _Task(outputs[0], ((k, "images"),), network.entered)
    for c, (cell_type, module) in enumerate(zip(network.cell_types, network.cells, strict=True)):
        cell = cast(Cell, module)
        inside = cell.width, sizes[-1][1]
        outside = cell.width, inside[1] + (cell_type == "reduction")
        states: list[Value] = [(k, c, 0), (k, c, 1)]
        for state, preprocess, given in zip(states, (cell.preprocess0, cell.preprocess1), (-2, -1), strict=True):
            yield from _layers(state, outputs[given], preprocess, sizes[given], inside)
        for node in network.choices[cell_type]:
            operations, outs = list[nn.Module](), list[Value]()
            for edge, i, name in node:
                operation = cell.operation(edge, name)
                operations.append(operation)
                outs.append((k, c, "edge", edge))
                yield from _layers(outs[-1], states[i], operation, inside if i < 2 else outside, outside)
            states.append((k, c, len(states)))
            yield _Task(states[-1], tuple(outs), partial(_node, network, operations))
        outputs.append((k, c, "output"))
        sizes.append((cell.width * (len(states) - 2), outside[1]))
        yield _Task(outputs[-1], tuple(states[2:]), lambda *nodes: joined(list(nodes)))
    yield _Task((k, "logits"), (outputs[-1],), network.classify)
    if network.auxiliary_at is None:
        yield _Task((k, "output"), ((k, "logits"),), lambda logits: logits)
    else:
        features = outputs[2 + network.auxiliary_at]
        yield _Task((k, "output"), ((k, "logits"), features), lambda logits, x: (logits, network.auxiliary(x)))


def _node(network: Network, operations: Sequence[nn.Module], *outs: Tensor) -> Tensor:
    if network.drop_path > 0:
        pairs = zip(operations, outs, strict=True)
        outs = tuple(network.dropped(operation, out) for operation, out in pairs)
    return total(outs)


def _layers(makes: Value, reads: Value, module: nn.Module, size: Size, after: Size) -> Iterator[_Task]:
    """The tasks of a module that brings images of one size to another: its layers, up to each batch norm, if known."""
    if isinstance(module, nn.Identity):
        yield _Task(makes, (reads,), lambda x: x.view_as(x))  # a value of its own, whose readers are counted apart
        return
    layers = tuple(module) if isinstance(module, nn.Sequential) else (module,)
    if not all(type(layer) in BESIDE for layer in layers):
        yield _Task(makes, (reads,), lambda x: module(x.clone()))  # it may change its input
        return
    ends = [end for end, layer in enumerate(layers, 1) if type(layer) is Norm or end == len(layers)]
    for begin, end in zip([0, *ends], ends, strict=False):
        name = makes if end == len(layers) else (*makes, end)
        yield _Task(name, (reads,), None, layers[begin:end], (size, after))
        reads, size = name, after


def _plan(tasks: list[_Task]) -> list[_Step]:
    """Steps that do all tasks: the layers of one form when all of them are ready, else those of the form with most."""
    readers: Counter[Value] = Counter()
    reads: dict[Value, list[tuple[Value, int]]] = {}
    for task in tasks:
        reads[task.makes] = [(need, readers[need]) for need in task.needs]
        readers.update(task.needs)
    there = {need for need in readers if need[1] == "images"}
    forms = {task.makes: task.form for task in tasks}
    left = Counter(forms.values())
    steps: list[_Step] = []
    while tasks:
        groups: dict[Hashable, list[_Task]] = defaultdict(list)
        for task in tasks:
            if there.issuperset(task.needs):
                groups[forms[task.makes]].append(task)
        whole = [form for form, group in groups.items() if len(group) == left[form]]
        for form in whole or [max(groups, key=lambda form: len(groups[form]))]:
            steps.append(_Step(groups[form], [reads[task.makes] for task in groups[form]]))
            there.update(task.makes for task in groups[form])
            left[form] -= len(groups[form])
        tasks = [task for task in tasks if task.makes not in there]
    return steps
