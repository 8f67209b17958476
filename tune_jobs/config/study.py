"""What every study takes: a preset, a folder, and the pieces of its configuration."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from edgenes.data.dataset import Dataset
from edgenes.space.genotype import SearchSpace
from tune_jobs.config.budget import BudgetOptions
from tune_jobs.config.composition import composed, flat, with_preset
from tune_jobs.config.data import DataOptions
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.config.networks import NetworkOptions
from tune_jobs.config.presets import PRESETS, SMOKE
from tune_jobs.config.search import SearchOptions


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A configuration composed of pieces, so that each part of the harness receives its own."""

    NAME: ClassVar[str] = "study"
    """The first part of the folder's name."""
    OPTIONS: ClassVar[dict[str, Any]] = {}
    """Options that the study has of its own, whatever the preset."""
    SMOKE: ClassVar[dict[str, Any]] = SMOKE
    """Options of the smoke test."""
    CHANGEABLE: ClassVar[frozenset[str]] = frozenset(("out", "preset", "smoke_test", "networks_per_gpu"))
    """Options that may change between two runs of the study; data and execution may, too."""

    preset: Literal[*PRESETS] = "laptop"
    """Sizes: laptop (minutes), paper (CIFAR-100), or darts (DARTS's own)."""
    smoke_test: bool = False
    """The same path in a minute or two, with tiny budgets."""
    out: Path | None = None
    """Folder of the study; by default runs/STUDY-DATASET, with -smoke for --smoke-test."""
    data: DataOptions = field(default_factory=DataOptions)
    networks: NetworkOptions = field(default_factory=NetworkOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The configuration of flat options, named as on the command line; those not given are the preset's.

        Raises ConfigError for an unknown option, naming the nearest known one.

        >>> from tune_jobs import SweepConfig
        >>> SweepConfig.of(trials=3, channels=4).networks.channels
        4
        """
        return composed(cls, with_preset({**cls.OPTIONS, **options}, PRESETS, cls.SMOKE))

    def __post_init__(self):
        object.__setattr__(self, "out", None if self.out is None else Path(self.out))

    @property
    def folder(self) -> Path:
        """The study's folder."""
        name = f"{self.NAME}-{Path(self.data.dataset).stem}" + ("-smoke" if self.smoke_test else "")
        return (self.out or Path("runs") / name).absolute()

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return self.networks.space

    def located(self) -> Self:
        """The same with absolute paths of data and folder."""
        return dataclasses.replace(self, out=self.folder, data=self.data.located())

    def load(self) -> Dataset:
        """The data; raises DataError or ConfigError if they, or their images, do not fit."""
        data = self.data.load()
        self.networks.check_images(data.image_size)
        return data

    def defining(self) -> dict[str, Any]:
        """The options that make this study another study when they change; the data count by their digest."""
        own = {each.name for each in dataclasses.fields(self)}
        defining = {name: value for name, value in flat(self).items() if name in own}
        defining |= flat(self.networks) | flat(self.budget) | flat(self.search)
        return {name: value for name, value in defining.items() if name not in self.CHANGEABLE}

    def to_dict(self) -> dict[str, Any]:
        """All options flat, as plain values."""
        return flat(self)
