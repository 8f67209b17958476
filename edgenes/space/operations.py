"""The operations that an edge may have: their names, labels, and the functions that make their modules.

The package's own are in `edgenes.nn.operations`; a search space names them and knows nothing of networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgenes.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Make = Callable[[int, int, bool, bool], "nn.Module"]
"""make(channels, stride, affine, track): see `register_operation`."""
DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations of a search space that names none, as in DARTS (Liu et al. 2018, section 3.1)."""


@dataclass(frozen=True)
class Operation:
    """How an operation is made, its label in drawings, and whether it has nothing to train, as pools and skips."""

    make: Make
    label: str
    parameter_free: bool


OPERATIONS: Registry[Operation] = Registry("operation", DARTS_OPERATIONS, home="edgenes.nn.operations")


def register_operation(name: str, make: Make, label: str | None = None, parameter_free: bool = False) -> None:
    """Add an operation of your own, for `SearchSpace(operations=(..., name))`.

    `make(channels, stride, affine, track)` gives a module from (batch, channels, H, W) to (batch, channels,
    ceil(H / stride), ceil(W / stride)), stride 1 or 2. Its batch norms get `affine=affine` and
    `track_running_stats=track`: a search has neither. `label` is a short text for drawings (the name by default);
    `parameter_free` operations count as pools and skips where a search is watched for collapse. Whatever process
    reads a genotype with the operation has to register it first.

    Raises ConfigError for the name of an operation of the package.

    Example:
        >>> from torch import nn
        >>> from edgenes import SearchSpace, register_operation
        >>> def dense_3x3(channels, stride, affine, track):
        ...     norm = nn.BatchNorm2d(channels, affine=affine, track_running_stats=track)
        ...     return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, stride, 1, bias=False), norm)
        >>> register_operation("dense_3x3", dense_3x3, label="dense 3×3")
        >>> SearchSpace(nodes=2, operations=("dense_3x3", "skip_connect")).genotypes
        24
    """
    OPERATIONS.add(name, Operation(make, name if label is None else label, parameter_free))


def label(name: str) -> str:
    """The operation's label in drawings; that of an unknown one is its name in words."""
    return OPERATIONS[name].label if name in OPERATIONS else name.replace("_", " ")


def is_parameter_free(name: str) -> bool:
    """Whether the operation has nothing to train."""
    return OPERATIONS[name].parameter_free
