"""What a study of the annealing is; the command line is generated from it."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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

# No Gaussian process: Optuna's learns nothing from PRUNED and FAILed trials, and proposes them over again.
SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive-halving")
OPTIMA = ("darts", "halving")
"""Ways to find the optimal genotype."""
VALUES = ("retrained", "one-shot", "mean")
SWEEP_SMOKE = {**SMOKE, "hypernetwork_epochs": 12, "trials": 2, "finalists": 1}
CHANGEABLE = frozenset(("trials", "storage", "out", "dry_run", "preset", "smoke_test"))
"""The sweep's own fields that may change between two runs of one study."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Study how the annealing of EdgeNES decides the ensemble: sweep, finalists, final ensemble, report.

    Composed of pieces, so that each part of the harness receives its own. `SweepConfig.of` takes all options flat.
    """

    preset: Literal[*PRESETS] = "laptop"
    """Sizes and epochs: laptop (digits, minutes), paper (CIFAR-100, the paper's sizes), darts (DARTS's own sizes)."""
    optimal: str = "darts"
    """Where the optimal genotype comes from: darts (searched first), halving (successive halving of 8 random genotypes,
    or more where the operations of a search pay for them), or a genotype JSON file."""
    trials: int = 12
    """Trials of the sweep, complete and pruned ones together."""
    finalists: int = 3
    """Best feasible trials whose candidates are retrained fully, to choose the hypernetwork."""
    seeds_per_candidate: int = 1
    """Full retrainings of each candidate, from different seeds."""
    value: Literal[*VALUES] = "retrained"
    """Objective of a trial, on the validation images: accuracy of the best ensemble of shortly retrained candidates,
    chosen on one half and scored on the other; one-shot, the same with the supernet's weights (fast, ranks poorly); or
    mean, the mean accuracy of single retrained candidates."""
    objectives: tuple[Literal["value", "control"], ...] = ("value",)
    """value, or value and control: the second minimises the control error too."""
    sampler: Literal[*SAMPLERS] = "tpe"
    """Optuna's sampler."""
    pruner: Literal[*PRUNERS] = "none"
    """Optuna's pruner, asked after each retrained candidate."""
    prune_infeasible: bool = False
    """Do not retrain the candidates of a hypernetwork that misses the control error allowed."""
    baselines: bool = True
    """Retrain the optimal genotype and random genotypes too, to compare."""
    seed: int = 0
    """Seed of the whole study; equal seeds give equal numbers on the CPU."""
    storage: str | None = None
    """The Optuna study: an SQLAlchemy URL, or journal:PATH; by default study.db in the study's folder."""
    out: Path | None = None
    """Folder of the study; by default runs/anneal-DATASET."""
    dry_run: bool = False
    """Measure one step, print the trials, hours, memory and disk that the study takes, and stop."""
    smoke_test: bool = False
    """The same path in under a minute: a few tiny trials."""
    data: DataOptions = field(default_factory=DataOptions)
    networks: NetworkOptions = field(default_factory=NetworkOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    @classmethod
    def of(cls, **options: Any) -> "SweepConfig":
        """The configuration of flat options, named as on the command line; those not given are the preset's.

        Raises ConfigError for an unknown option, naming the nearest known one.

        >>> SweepConfig.of(trials=3, channels=4).networks.channels
        4
        """
        return composed(cls, with_preset(options, PRESETS, SWEEP_SMOKE))

    def __post_init__(self):
        object.__setattr__(self, "out", None if self.out is None else Path(self.out))
        object.__setattr__(self, "objectives", tuple(self.objectives))
        check_at_least(self, 1, "trials", "finalists", "seeds_per_candidate")
        check_at_most(self, MOST, "trials", "finalists", "seeds_per_candidate")
        check_at_least(self, 0, "seed")
        if self.budget.candidates > self.space.genotypes:
            raise ConfigError(
                f"{self.budget.candidates} distinct candidates are asked for, and the search space has "
                f"{self.space.genotypes} genotypes: lower --candidates or raise --nodes."
            )
        retrainings = self.finalists * self.budget.candidates * self.seeds_per_candidate
        if retrainings > MOST:
            raise ConfigError(
                f"{retrainings} full retrainings are asked for, and at most {MOST} are made: lower --finalists, "
                "--candidates or --seeds-per-candidate."
            )
        if self.objectives not in (("value",), ("value", "control")):
            raise ConfigError(f"objectives must be value, or value control, got {' '.join(self.objectives)}.")
        if len(self.objectives) == 2 and self.pruner != "none":
            raise ConfigError("Optuna has no pruning with two objectives: leave out --pruner or one objective.")
        defaults = SearchOptions()
        for name in ("search_warmup", "search_weight_decay", "max_parameter_free", "stop_parameter_free"):
            if self.optimal == "halving" and getattr(self.search, name) != getattr(defaults, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} belongs to --optimal darts: nothing else is searched so."
                )
        self.setting("cpu")  # each configuration checks its own fields

    @property
    def genotype_file(self) -> Path | None:
        """The user's own optimal genotype; None where the study finds one."""
        return None if self.optimal in OPTIMA else Path(self.optimal)

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return self.networks.space

    @property
    def folder(self) -> Path:
        """The study's folder."""
        name = f"anneal-{Path(self.data.dataset).stem}" + ("-smoke" if self.smoke_test else "")
        return (self.out or Path("runs") / name).absolute()

    def setting(self, device: str) -> Setting:
        """What the method takes: budgets, configurations and the seed."""
        return setting_of(self.networks, self.budget, self.search, device, self.seed)

    def defining(self) -> dict[str, Any]:
        """The options that make this study another study when they change; the data count by their digest."""
        own = {each.name for each in dataclasses.fields(self)} - CHANGEABLE
        defining = {name: value for name, value in flat(self).items() if name in own}
        return defining | flat(self.networks) | flat(self.budget) | flat(self.search)

    def to_dict(self) -> dict[str, Any]:
        """All options flat, as plain values; the storage is left out, since its URL may hold a password."""
        return flat(self) | {"storage": None}
