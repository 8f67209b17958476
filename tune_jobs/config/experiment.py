"""What the paper's experiments have in common."""

from dataclasses import dataclass
from typing import Any, ClassVar

from edgenes.config import HypernetworkConfig
from edgenes.errors import ConfigError
from edgenes.methods.baselines import METHODS
from edgenes.methods.budget import Setting
from edgenes.validation import check_at_least, check_at_most, check_choice
from tune_jobs.config.budget import MOST
from tune_jobs.config.setting import setting_of
from tune_jobs.config.study import StudyConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(StudyConfig):
    """What all experiments take."""

    NAME: ClassVar[str] = "experiment"
    PAPERS_COUNT: ClassVar[bool] = True
    """Whether its results are numbers of shared edges, as the paper counts them."""
    SMOKE: ClassVar[dict[str, Any]] = {**StudyConfig.SMOKE, "seeds": 2}
    CHANGEABLE: ClassVar[frozenset[str]] = StudyConfig.CHANGEABLE | {"seeds"}

    seeds: int = 5
    """Independent searches; more of them continue a finished study."""
    c_start: float = HypernetworkConfig.c_start
    """Weight of the penalty in the first epoch."""
    c_end: float = HypernetworkConfig.c_end
    """Weight of the penalty in the last epoch."""
    t_start: float = HypernetworkConfig.t_start
    """Temperature in the first epoch."""
    t_end: float = HypernetworkConfig.t_end
    """Temperature in the last epoch."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 1, "seeds")
        check_at_most(self, MOST, "seeds")
        if self.search.estimator == "both":
            raise ConfigError("an experiment has one estimator of the penalty: give --estimator exact or gumbel.")
        if self.search.either_input and self.PAPERS_COUNT:
            raise ConfigError(f"the study {self.NAME} counts shared edges as the paper does: leave --either-input out.")
        if self.search.max_parameter_free is not None:
            check_at_most(self.search, self.space.max_edges, "max_parameter_free")
        self.setting("cpu")  # each configuration checks its own fields

    def setting(self, device: str) -> Setting:
        """The budgets, of seed 0."""
        annealing = {name: getattr(self, name) for name in ("c_start", "c_end", "t_start", "t_end")}
        return setting_of(self.networks, self.budget, self.search, device, 0, **annealing)


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(ExperimentConfig):
    """What experiments take that compare methods."""

    PAPERS_COUNT: ClassVar[bool] = False
    methods: tuple[str, ...] = tuple(METHODS)
    """The methods to compare; your own ones are added by edgenes.register_method."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))  # one named twice is run once
        if not self.methods:
            raise ConfigError(f"methods must name at least one of {', '.join(METHODS)}.")
        for name in self.methods:
            check_choice("methods", name, tuple(METHODS))
