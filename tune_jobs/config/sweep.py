"""What a study of the annealing is; the command line is generated from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tyro.conf import UseAppendAction

from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.parsing import reason, shown
from edgenes.selection import CALIBRATIONS
from edgenes.space.choices import GUIDES
from edgenes.space.published import PUBLISHED, published_genotype
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.budget import MOST
from tune_jobs.config.presets import PRESETS
from tune_jobs.config.search import SearchOptions
from tune_jobs.config.setting import setting_of
from tune_jobs.config.study import StudyConfig

# No Gaussian process: Optuna's learns nothing from PRUNED and FAILed trials, and proposes them over again.
SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive-halving")
OPTIMA = ("auto", "darts", "halving")
"""Ways to find the optimal genotype."""
VALUES = ("retrained", "one-shot", "mean")


@dataclass(frozen=True, kw_only=True)
class SweepConfig(StudyConfig):
    """Study how the annealing of EdgeNES decides the ensemble: sweep, finalists, final ensemble, report."""

    NAME: ClassVar[str] = "anneal"
    SMOKE: ClassVar[dict[str, Any]] = {**StudyConfig.SMOKE, "hypernetwork_epochs": 12, "trials": 2, "finalists": 1}
    CHANGEABLE: ClassVar[frozenset[str]] = StudyConfig.CHANGEABLE | {
        *("trials", "hours", "patience", "enqueue", "warm_start", "storage", "dry_run")
    }

    guide: Literal["auto", *GUIDES] = "auto"
    """What estimates a genotype's loss; auto: supernet with --preset paper, else predictor."""
    optimal: str = "auto"
    """Source of the optimal genotype: auto, darts, halving, DARTS_V2, or a file."""
    trials: int = 12
    """Trials of the sweep, complete and pruned ones together."""
    hours: float | None = None
    """Hours after which no further trial starts."""
    patience: int | None = None
    """Trials in a row without a better one that end the sweep."""
    enqueue: UseAppendAction[tuple[str, ...]] = ()
    """Parameters of a trial to run first, as JSON."""
    warm_start: Path | None = None
    """Folder of an earlier study, whose trials teach the sampler."""
    finalists: int = 3
    """Best feasible trials whose candidates are retrained fully, to choose the hypernetwork."""
    seeds_per_candidate: int = 1
    """Full retrainings of each candidate, from different seeds."""
    value: Literal[*VALUES] = "retrained"
    """Objective: retrained candidates' ensemble, the supernet's (one-shot), or candidates' mean."""
    objectives: tuple[Literal["value", "control", "parameters", "latency"], ...] = ("value",)
    """value; two of control, parameters, latency may be minimised beside it."""
    sampler: Literal[*SAMPLERS] = "tpe"
    """Optuna's sampler."""
    pruner: Literal[*PRUNERS] = "none"
    """Optuna's pruner, asked after each retrained candidate."""
    prune_infeasible: bool = False
    """Retrain no candidates of a trial whose control error is too large."""
    calibration: Literal[*CALIBRATIONS] = "temperature"
    """Correction of the ensemble's confidence, fitted on the validation images."""
    best_prefix: bool = False
    """Let the ensemble be smaller than --ensemble-size where that is better."""
    baselines: bool = True
    """Retrain random genotypes too, at equal cost, to compare."""
    seed: int = 0
    """Seed of the study; equal seeds give equal numbers on the CPU."""
    storage: str | None = None
    """The Optuna study: an SQLAlchemy URL or journal:PATH, else study.db."""
    dry_run: bool = False
    """Print the hours, memory and disk that the study takes, and stop."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "objectives", tuple(self.objectives))
        object.__setattr__(self, "enqueue", tuple(self.enqueue))
        object.__setattr__(self, "warm_start", None if self.warm_start is None else Path(self.warm_start))
        if self.guide == "auto":  # decided here, as a study may be continued under another preset
            object.__setattr__(self, "guide", "supernet" if self.preset == "paper" else "predictor")
        check_at_least(self, 1, "trials", "finalists", "seeds_per_candidate")
        check_at_most(self, MOST, "trials", "finalists", "seeds_per_candidate")
        check_at_least(self, 0, "seed")
        if self.patience is not None:
            check_at_least(self, 1, "patience")
        if self.hours is not None and not 0 < self.hours < MOST:
            raise ConfigError(f"hours must be a number above 0 and below {MOST}, got {self.hours}.")
        if self.budget.candidates > self.space.genotypes:
            raise ConfigError(
                f"{self.budget.candidates} distinct candidates are more than the search space has: "
                f"{self.space.genotypes} genotypes. Lower --candidates or raise --nodes."
            )
        retrainings = self.finalists * self.budget.candidates * self.seeds_per_candidate
        if retrainings > MOST:
            raise ConfigError(
                f"{retrainings} full retrainings are more than {MOST}: lower --finalists, "
                "--candidates or --seeds-per-candidate."
            )
        if self.objectives[:1] != ("value",) or not len(set(self.objectives)) == len(self.objectives) <= 3:
            raise ConfigError(
                "objectives must be value, then up to two of control, parameters and latency, got "
                f"{' '.join(self.objectives)}."
            )
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ConfigError("Optuna has no pruning with several objectives: leave out --pruner or one objective.")
        if self.guided and self.value == "one-shot":
            raise ConfigError("--value one-shot scores with the supernet's weights: it needs --guide supernet.")
        for name in (
            "search_warmup",
            "search_weight_decay",
            "architecture_weight_decay",
            "max_parameter_free",
            "stop_parameter_free",
        ):
            default = getattr(SearchOptions, name)
            unasked = (default, PRESETS[self.preset].get(name, default))
            if self.optimal_by != "darts" and getattr(self.search, name) not in unasked:
                raise ConfigError(
                    f"--{name.replace('_', '-')} belongs to --optimal darts: nothing else is searched so."
                )
        if self.optimal_by == "published":
            published_genotype(self.optimal, self.space)  # the search space must have it
        self.setting("cpu")  # each configuration checks its own fields
        for text in self.enqueue:
            _parameters(text)

    @property
    def guided(self) -> bool:
        """Whether a predictor guides the study, and not a supernet."""
        return self.guide == "predictor"

    @property
    def trains_supernet(self) -> bool:
        """Whether a supernet is trained: to guide the study, or to search the optimal genotype."""
        return not self.guided or self.optimal_by == "darts"

    @property
    def optimal_by(self) -> str:
        """How the optimal genotype is found: predictor, darts or halving; else published, or file: one's own."""
        if self.optimal in PUBLISHED:
            return "published"
        if self.genotype_file is not None:
            return "file"
        return self.optimal if self.optimal != "auto" else "predictor" if self.guided else "darts"

    @property
    def genotype_file(self) -> Path | None:
        """The user's own optimal genotype; None where the study finds one."""
        return None if self.optimal in (*OPTIMA, *PUBLISHED) else Path(self.optimal)

    @property
    def enqueued(self) -> list[dict[str, Any]]:
        """The parameters of the trials that run first."""
        return [_parameters(text) for text in self.enqueue]

    def setting(self, device: str) -> Setting:
        """What the method takes: budgets, configurations and the seed."""
        return setting_of(self.networks, self.budget, self.search, device, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """All options flat, as plain values; the storage is left out, since its URL may hold a password."""
        return super().to_dict() | {"storage": None}


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        found, why = None, f" ({reason(error)})"
    else:
        why = ""
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"--enqueue takes parameters in JSON, as '{{\"c_end\": 0.5}}', got {shown(text)}{why}.")
    return found
