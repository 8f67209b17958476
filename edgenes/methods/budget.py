"""What all methods share: the budgets of search and retraining, the pool's and the ensemble's size, and one seed."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.errors import ConfigError
from edgenes.seeds import stable_seed
from edgenes.selection import CRITERIA
from edgenes.selection import METHODS as SELECTION_METHODS
from edgenes.space.choices import LEAST_SURVEY
from edgenes.space.genotype import Genotype, SearchSpace, random_genotypes
from edgenes.validation import check_at_least, check_choice

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One run of a method: configurations, whose seeds follow from `seed` and from what it trains.

    Runs of different seeds share nothing but the data, so that they are independent; methods of one seed share what
    they have in common, as the search.
    """

    search: SearchConfig = field(default_factory=SearchConfig)
    hypernetwork: HypernetworkConfig = field(default_factory=HypernetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    short_epochs: int = 4
    """Epochs of the first, shortest retraining of `halving`."""
    survey: int = 48
    """Genotypes retrained shortly, on W alone, to fit the predictor."""
    survey_epochs: int = 16
    """Epochs of each of them."""
    candidates: int = 8
    """Networks retrained for the pool from which an ensemble is chosen."""
    size: int = 3
    """Members of an ensemble."""
    criterion: str = "nll"
    """What is best on V: nll or accuracy."""
    selection: str = "auto"
    """The method of `edgenes.selection` that chooses an ensemble."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self, 1, "short_epochs", "survey_epochs", "candidates", "size")
        check_at_least(self, LEAST_SURVEY, "survey")
        check_at_least(self, 0, "seed")
        check_choice("criterion", self.criterion, CRITERIA)
        SELECTION_METHODS.find(self.selection)
        if self.size > self.candidates:
            raise ConfigError(f"an ensemble of {self.size} cannot be chosen from {self.candidates} candidates.")
        if self.candidates > self.space.genotypes:
            raise ConfigError(f"candidates must be at most {self.space.genotypes} genotypes, got {self.candidates}.")

    @property
    def same_inputs(self) -> bool:
        """Whether a cell's two inputs carry the same data, as they do in a network of one cell."""
        return self.training.cells == 1

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return self.search.space

    def of_seed(self, seed: int) -> "Setting":
        """The same with another seed."""
        return replace(self, seed=seed)

    def search_config(self, run: int = 0) -> SearchConfig:
        """The search of this seed; `run` counts independent ones."""
        return replace(self.search, seed=stable_seed("search", self.seed, *([run] if run else [])))

    def hypernetwork_config(self, run: int = 0, **changes: Any) -> HypernetworkConfig:
        """The hypernetwork of this seed, with changes."""
        seed = stable_seed("hypernetwork", self.seed, *([run] if run else []))
        return replace(self.hypernetwork, seed=seed, **changes)

    def training_config(self, genotype: Genotype, repeat: int = 0, epochs: int | None = None) -> TrainingConfig:
        """A retraining of the genotype; `repeat` counts independent ones.

        Its seed is the genotype's own: members of an ensemble that began with the same weights and saw the same
        batches would err alike.
        """
        epochs = self.training.epochs if epochs is None else epochs
        seed = stable_seed("retraining", self.seed, repeat, genotype.digest)
        return replace(self.training, epochs=epochs, seed=seed)

    def random_genotypes(self, count: int) -> list[Genotype]:
        """Distinct random genotypes of this seed; fewer ones are the first of more."""
        return random_genotypes(self.space, count, self.generator("random genotypes"))

    def generator(self, *what: int | str) -> "torch.Generator":
        """Random numbers for `what`, of this seed."""
        import torch

        return torch.Generator().manual_seed(stable_seed(*what, self.seed))
