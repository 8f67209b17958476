"""What the nodes hold, and how many trials fit: a trial runs on one node, whatever the cluster has in all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import ray

from edgenes.errors import ConfigError

UNIT = 10_000
"""Ray counts a resource in ten-thousandths."""
Resources = Mapping[str, float]
"""CPU, GPU, and memory in bytes, as Ray names them: what a node has, or a trial asks for."""
_REMEDIES = {
    "CPU": "lower --cpus-per-trial",
    "GPU": "lower --gpus-per-trial",
    "memory": "lower --batch-size or the channels",
}


def live_nodes() -> list[dict[str, float]]:
    """The resources of each live node of the Ray cluster that this process has joined."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def trials_on(node: Resources, asked: Resources) -> int:
    """How many trials fit on one node at once; a share of a GPU lies on one card."""
    return min(_times(name, node.get(name, 0), amount) for name, amount in asked.items() if amount > 0)


def _times(name: str, there: float, amount: float) -> int:
    units = round(amount * UNIT)
    if name == "GPU" and amount < 1:
        return int(there) * (UNIT // units)
    return round(there * UNIT) // units


def slots(nodes: Sequence[Resources], asked: Resources) -> int:
    """How many trials run at once on these nodes."""
    return sum(trials_on(node, asked) for node in nodes)


def check_fits(nodes: Sequence[Resources], asked: Resources) -> None:
    """Raise ConfigError where a trial fits no single node: it would wait for ever."""
    if slots(nodes, asked):
        return
    wanted = {name: amount for name, amount in asked.items() if amount > 0}
    largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
    short = [name for name, amount in wanted.items() if amount > largest[name]]
    if short:
        wanted = {name: wanted[name] for name in short}
        problem = f"the largest node has {_list(largest, short)}"
    else:
        problem = "no single node has all of that"
    remedies = " or ".join(_REMEDIES[name] for name in wanted)
    raise ConfigError(
        f"a trial asks for {_list(wanted, wanted)} and {problem} (nodes: {describe(nodes, asked)}): {remedies}, or "
        "join a larger cluster with --address."
    )


def describe(nodes: Sequence[Resources], names: Iterable[str]) -> str:
    """What the nodes have of these resources, in words, equal ones together: "2 x 8 CPUs, 1 x 4 CPUs and 1 GPUs"."""
    kinds = Counter(_list(node, [name for name in names if node.get(name)]) or "none of it" for node in nodes)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "none"


def _list(amounts: Resources, names: Iterable[str]) -> str:
    return " and ".join(
        f"{amounts[name] / 2**30:.1f} GiB of memory" if name == "memory" else f"{amounts[name]:g} {name}s"
        for name in names
    )
