"""How the supernet and the hypernetwork are trained."""

from dataclasses import dataclass
from typing import Literal

from edgenes.config import GRADIENTS, HypernetworkConfig, SearchConfig
from edgenes.errors import ConfigError
from edgenes.space.choices import ESTIMATORS, FORWARDS
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.budget import MOST


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The supernet's passes and gradients, the penalty's estimator, and what acts against collapse."""

    estimator: Literal[*ESTIMATORS, "both"] = "exact"
    """Penalty in closed form, by the paper's Gumbel sample, or either."""
    penalty_lambdas: int = HypernetworkConfig.penalty_lambdas
    """Lambdas over which a step of the penalty is averaged."""
    either_input: bool = False
    """Lambda counts an edge as shared from either input of its cell; these differ after the first cell."""
    forward: Literal[*FORWARDS] = "sampled"
    """Forward pass of the supernet."""
    gradient: Literal[*GRADIENTS] = "score"
    """Gradient of the architecture for the sampled forward pass."""
    second_order: bool = False
    """Differentiate the architecture's loss through a step of the weights."""
    search_warmup: float = SearchConfig.warmup
    """Share of the search in which the weights learn alone."""
    search_weight_decay: float = SearchConfig.weight_decay
    """Weight decay of the search's supernet."""
    architecture_weight_decay: float = SearchConfig.architecture_weight_decay
    """Weight decay of the search's architecture."""
    max_parameter_free: int | None = None
    """Most pools and skips in the searched genotype; others replace the rest."""
    stop_parameter_free: int | None = None
    """End the search before its genotype has more pools and skips."""

    def __post_init__(self):
        check_at_least(self, 1, "penalty_lambdas")
        check_at_most(self, MOST, "penalty_lambdas")
        if not 0 <= self.search_warmup < 1:
            raise ConfigError(f"search_warmup must be a fraction in [0, 1), got {self.search_warmup}.")
        if self.gradient == "straight_through" and self.forward != "sampled":
            raise ConfigError(f"--gradient straight_through belongs to --forward sampled, not {self.forward}.")
