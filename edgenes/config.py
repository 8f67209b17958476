"""Settings of the three training functions: frozen, validated, with the defaults of the method."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.space.choices import ESTIMATORS, FORWARDS, INTERPOLATIONS
from edgenes.space.genotype import SearchSpace
from edgenes.space.operations import is_parameter_free
from edgenes.validation import check_at_least, check_choice, check_positive, check_types

LATER = {"darts_layout": False, "architecture_weight_decay": 0.0, "cutout": 0.0}
"""Fields that configurations did not always have: with these values, what was stored without them is found."""
WHERE = ("device", "networks_per_gpu")
"""Fields that say where, and not what, is computed."""
GRADIENTS = ("score", "straight_through")
WEIGHT_PATHS = ("fair", "architecture")
MOST_CELLS = 100
"""Cells of a network; a file that asks for a million could fill the memory with modules alone."""


def _given(config: Any, *names: str) -> list[str]:
    """Those of the named fields that are not None."""
    return [name for name in names if getattr(config, name) is not None]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Size of a network of cells, and the descent on its weights.

    `darts_layout` builds stem, pools and auxiliary head as DARTS's code does (`edgenes/nn/network.py`).
    """

    channels: int = 8
    cells: int = 1
    stem_kernel: int = 3
    darts_layout: bool = False
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    augment: bool = True
    mixed_precision: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "channels", "cells", "epochs", "stem_kernel")
        check_at_least(self, 2, "batch_size")  # batch norm needs more than one image
        check_at_least(self, 0, "momentum", "weight_decay", "seed")
        check_positive(self, "learning_rate", "gradient_clip")
        if self.stem_kernel % 2 == 0:
            raise ConfigError(f"stem_kernel must be odd, got {shown(self.stem_kernel)}.")
        if self.cells > MOST_CELLS:
            raise ConfigError(f"cells must be at most {MOST_CELLS}, got {shown(self.cells)}.")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(NetworkConfig):
    """DARTS search of the optimal genotype, eq. (1.1).

    Against collapse (`edgenes/training/collapse.py`): `max_parameter_free` caps the pools and skips of the found
    genotype, `stop_parameter_free` ends the search before its argmax genotype has more of them; None sets no limit.

    Example:
        >>> from edgenes import SearchConfig, SearchSpace
        >>> SearchConfig(space=SearchSpace(nodes=3), epochs=10).space.max_edges
        3
    """

    space: SearchSpace = field(default_factory=SearchSpace)
    architecture_lr: float = 0.1
    architecture_weight_decay: float = 0.0
    forward: str = "sampled"
    gradient: str = "score"
    weight_paths: str = "fair"
    paths: int = 8
    path_batch: int = 32
    t_start: float = 1.0
    t_end: float = 1.0
    warmup: float = 0.3
    second_order: bool = False
    partial_channels: int = 1
    max_parameter_free: int | None = None
    stop_parameter_free: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "partial_channels")
        check_at_least(self, 0, "architecture_weight_decay")
        if self.channels % self.partial_channels:
            raise ConfigError(
                f"partial_channels must divide the supernet's channels, {self.channels}, got {self.partial_channels}."
            )
        check_choice("forward", self.forward, FORWARDS)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_choice("weight_paths", self.weight_paths, WEIGHT_PATHS)
        if self.second_order and self.forward == "sampled" and self.gradient == "score":
            raise ConfigError(
                "second_order differentiates the forward pass, which score's paths only evaluate: set "
                "gradient='straight_through', or forward='mixture' or 'gdas'."
            )
        check_positive(self, "architecture_lr", "t_start", "t_end")
        check_at_least(self, 2, "paths", "path_batch")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup must be a fraction in [0, 1), got {shown(self.warmup)}.")
        check_at_least(self, 0, *_given(self, "max_parameter_free", "stop_parameter_free"))
        if self.max_parameter_free is not None and all(map(is_parameter_free, self.space.operations)):
            raise ConfigError(
                "max_parameter_free needs operations with parameters in the search space, which has "
                f"{', '.join(self.space.operations)}."
            )


@dataclass(frozen=True, kw_only=True)
class HypernetworkConfig(SearchConfig):
    """Training of the hypernetwork with the shared-edge penalty, eqs. (2.2) and (2.3).

    With `lam`, a number of shared edges in [0, Lambda], lambda is always that: the search of eq. (2.1), as (2.3) with
    all of p(lambda) at one point. `either_input` is how lambda counts (see `shared_edges`).

    Example:
        >>> from edgenes import HypernetworkConfig
        >>> HypernetworkConfig(c_start=0.1, c_end=1.0, t_start=1.0, t_end=0.2, pivots=5).epochs
        35
    """

    epochs: int = 35
    t_end: float = 0.2
    warmup: float = 0.0
    c_start: float = 0.1
    c_end: float = 1.0
    pivots: int = 5
    trainable_pivots: bool = False
    interpolation: str = "corrected"
    epsilon: float = 0.2
    estimator: str = "exact"
    penalty_lambdas: int = 8
    lam: float | None = None
    either_input: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("estimator", self.estimator, ESTIMATORS)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_at_least(self, 0, "c_start", "c_end", "epsilon")
        check_at_least(self, 2, "pivots")
        check_at_least(self, 1, "penalty_lambdas")
        if self.lam is not None and not 0 <= self.lam <= self.space.max_edges:
            raise ConfigError(f"lam must be between 0 and {self.space.max_edges} edges, got {shown(self.lam)}.")
        decay = ["architecture_weight_decay"] if self.architecture_weight_decay else []
        for name in [*_given(self, "max_parameter_free", "stop_parameter_free"), *decay]:
            raise ConfigError(f"{name} belongs to the search: a hypernetwork follows the genotype that it found.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(NetworkConfig):
    """Retraining of a genotype's network from scratch (section 3.1).

    `cutout` is the side of the square that is cut out of each augmented image, as a share of the image's side;
    `networks_per_gpu` how many networks a GPU trains at once (`edgenes.training.retraining.at_once`).

    Example:
        >>> from edgenes import TrainingConfig
        >>> TrainingConfig(channels=16, epochs=50).batch_size
        64
    """

    cells: int = 2
    epochs: int = 15
    drop_path: float = 0.0
    auxiliary: bool = False
    cutout: float = 0.0
    networks_per_gpu: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path must be a probability in [0, 1), got {shown(self.drop_path)}.")
        if not 0 <= self.cutout < 1:
            raise ConfigError(f"cutout must be a share in [0, 1), got {shown(self.cutout)}.")
        check_at_least(self, 1, "networks_per_gpu")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values of a configuration, tuples as lists."""
    # Jobs that were stored before there was `networks_per_gpu` are found by their plain values.
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return {name: value for name, value in plain.items() if (name, value) != ("networks_per_gpu", 1)}


def from_dict(cls: type, value: dict[str, Any]) -> Any:
    """The inverse of `to_dict`; an unknown key is a ConfigError that names the nearest known one."""
    if not isinstance(value, dict):
        raise ConfigError(f"a {cls.__name__} must be a dict of its fields, got {shown(value)}.")
    known = tuple(f.name for f in dataclasses.fields(cls))
    for key in value:
        check_choice(f"a key of {cls.__name__}", key, known)
    if isinstance(value.get("space"), dict):
        value = {**value, "space": from_dict(SearchSpace, value["space"])}
    return cls(**value)


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that name configurations and plain values by content.

    Fields of `WHERE` do not count, nor do those of `LATER` that say what was done before there were any.
    """
    plain = [to_dict(part) if dataclasses.is_dataclass(part) else part for part in parts]
    plain = [
        {k: v for k, v in p.items() if k not in WHERE and (k not in LATER or v != LATER[k])}
        if isinstance(p, dict)
        else p
        for p in plain
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
