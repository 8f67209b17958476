"""What the paper's experiments have in common."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from edgenes.config import HypernetworkConfig
from edgenes.data.dataset import Dataset
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.space.genotype import SearchSpace
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.budget import MOST, BudgetOptions
from tune_jobs.config.composition import composed, flat, with_preset
from tune_jobs.config.data import DataOptions
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.config.networks import NetworkOptions
from tune_jobs.config.presets import PRESETS, SMOKE
from tune_jobs.config.search import SearchOptions
from tune_jobs.config.setting import setting_of

CHANGEABLE = frozenset(("seeds", "out", "smoke_test", "preset"))
"""An experiment's own fields that may change between two runs of it."""


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """What all experiments take, composed of the same pieces as a sweep. `of` takes all options flat."""

    NAME: ClassVar[str] = "experiment"
    """The study's name, and the first part of its folder's."""
    OPTIONS: ClassVar[dict[str, Any]] = {}
    """Options that the study has of its own, whatever the preset."""
    SMOKE: ClassVar[dict[str, Any]] = {**SMOKE, "seeds": 2}
    """Options of the smoke test."""

    preset: Literal[*PRESETS] = "laptop"
    """Sizes and epochs: laptop (digits, minutes), paper (CIFAR-100, the paper's sizes), darts (DARTS's own sizes)."""
    seeds: int = 5
    """Independent searches; more of them continue a finished study."""
    smoke_test: bool = False
    """The same path in a minute or two: two seeds and tiny budgets."""
    c_start: float = HypernetworkConfig.c_start
    """Weight of the penalty in the first epoch."""
    c_end: float = HypernetworkConfig.c_end
    """Weight of the penalty in the last epoch."""
    t_start: float = HypernetworkConfig.t_start
    """Temperature in the first epoch."""
    t_end: float = HypernetworkConfig.t_end
    """Temperature in the last epoch."""
    out: Path | None = None
    """Folder of the study; by default runs/STUDY-DATASET."""
    data: DataOptions = field(default_factory=DataOptions)
    networks: NetworkOptions = field(default_factory=NetworkOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The configuration of flat options, named as on the command line; those not given are the preset's."""
        return composed(cls, with_preset({**cls.OPTIONS, **options}, PRESETS, cls.SMOKE))

    def __post_init__(self):
        object.__setattr__(self, "out", None if self.out is None else Path(self.out))
        check_at_least(self, 1, "seeds")
        check_at_most(self, MOST, "seeds")
        if self.search.estimator == "both":
            raise ConfigError("an experiment has one estimator of the penalty: give --estimator exact or gumbel.")
        if self.search.max_parameter_free is not None:
            check_at_most(self.search, self.space.max_edges, "max_parameter_free")
        self.setting("cpu")  # each configuration checks its own fields

    @property
    def folder(self) -> Path:
        """The study's folder."""
        name = f"{self.NAME}-{Path(self.data.dataset).stem}" + ("-smoke" if self.smoke_test else "")
        return (self.out or Path("runs") / name).absolute()

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return self.networks.space

    def setting(self, device: str, seed: int = 0) -> Setting:
        """The budgets of one seed."""
        annealing = {name: getattr(self, name) for name in ("c_start", "c_end", "t_start", "t_end")}
        return setting_of(self.networks, self.budget, self.search, device, seed, **annealing)

    def load(self) -> Dataset:
        """The data; raises DataError or ConfigError if they, or their images, do not fit."""
        data = self.data.load()
        self.networks.check_images(data.image_size)
        return data

    def defining(self) -> dict[str, Any]:
        """The options that make this study another study when they change; the data count by their digest."""
        own = {each.name for each in dataclasses.fields(self)} - CHANGEABLE
        defining = {name: value for name, value in flat(self).items() if name in own}
        return defining | flat(self.networks) | flat(self.budget) | flat(self.search)

    def to_dict(self) -> dict[str, Any]:
        """All options flat, as plain values."""
        return flat(self)
