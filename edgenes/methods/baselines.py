"""The methods by name; `edgenes/methods/catalogue.py` has what they do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgenes.registry import Registry

if TYPE_CHECKING:
    from edgenes.methods.budget import Setting
    from edgenes.methods.trainer import Member, Trainer

Found = tuple[list["Member"], list[int]]
"""A pool of fully retrained networks, and the positions of the ensemble's members in it."""
Method = Callable[["Setting", "Trainer"], Found]


@dataclass(frozen=True)
class Baseline:
    """How a method is run, and its name in tables."""

    run: Method
    label: str


METHODS: Registry[Baseline] = Registry(
    "baseline",
    (
        "darts",
        "random",
        "darts-ens",
        "random-nes",
        "random-d-nes",
        "edge-nes",
        "edge-nes-seeds",
        "edge-nes-supernet",
        "predicted",
        "predicted-single",
        "predicted-deep-ens",
        "edges",
        "deep-ens",
        "nes-rs",
        "nes-re",
        "halving",
    ),
    home="edgenes.methods.catalogue",
)


def register_method(name: str, run: Method, label: str | None = None) -> None:
    """Add a method of your own, for `run_method(name, ...)`: `run(setting, trainer)` gives its pool and its members.

    The pool are fully retrained networks, members positions in it; `label` is its name in tables. Raises ConfigError
    for the name of a method of the package.

    Example:
        >>> from edgenes import register_method
        >>> def one_random(setting, trainer):
        ...     from edgenes.methods.catalogue import run_method
        ...     found = run_method("random", setting, trainer)
        ...     return found.pool, [0]
        >>> register_method("one-random", one_random, "One random genotype")
    """
    METHODS.add(name, Baseline(run, name if label is None else label))
