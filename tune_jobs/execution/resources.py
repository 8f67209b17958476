"""What the nodes hold, and how many trials fit: a trial runs on one node, whatever the cluster has in all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
    import ray

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
    wanted = [name for name, amount in asked.items() if amount > 0]
    short = [name for name in wanted if asked[name] > max((node.get(name, 0) for node in nodes), default=0)]
    remedies = " or ".join(_REMEDIES[name] for name in short or wanted)
    kinds = Counter(_list(node, wanted) for node in nodes)
    there = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "none"
    raise ConfigError(
        f"a trial needs {_list(asked, wanted)} on one node, and no node has that (nodes: {there}): {remedies}, or "
        "join a larger cluster with --address."
    )


def _list(amounts: Resources, names: Iterable[str]) -> str:
    return " and ".join(
        f"{amounts.get(name, 0) / 2**30:.1f} GiB of memory" if name == "memory" else f"{amounts.get(name, 0):g} {name}s"
        for name in names
    )
