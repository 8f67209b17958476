"""How much a study trains, and what chooses its ensembles."""

from dataclasses import dataclass
from typing import Literal

from edgenes.errors import ConfigError
from edgenes.selection import CRITERIA
from edgenes.space.choices import LEAST_SURVEY
from edgenes.validation import check_at_least, check_at_most

MOST = 100_000
"""Largest number of trials, epochs, candidates, retrainings: a configuration from a stranger may name any."""


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """Epochs of each training, candidates of a hypernetwork, members of an ensemble."""

    search_epochs: int = 20
    """Epochs of the DARTS search."""
    hypernetwork_epochs: int = 35
    """Epochs of a hypernetwork."""
    survey: int = 48
    """Genotypes retrained briefly to fit the performance predictor."""
    survey_epochs: int = 16
    """Epochs of each of them."""
    short_epochs: int = 4
    """Epochs of the short retraining that scores a trial's candidates."""
    final_epochs: int = 25
    """Epochs of a full retraining."""
    candidates: int = 8
    """Distinct genotypes drawn from a hypernetwork."""
    ensemble_size: int = 3
    """Members of an ensemble."""
    criterion: Literal[*CRITERIA] = "nll"
    """What is best on the validation images."""
    selection: str = "auto"
    """Method that chooses the members; auto: exact where that takes seconds."""

    def __post_init__(self):
        epochs = ("search_epochs", "hypernetwork_epochs", "survey_epochs", "short_epochs", "final_epochs")
        counts = (*epochs, "survey", "candidates", "ensemble_size")
        check_at_least(self, 1, *counts)
        check_at_most(self, MOST, *counts)
        check_at_least(self, LEAST_SURVEY, "survey")
        if self.short_epochs > self.final_epochs:
            raise ConfigError(
                f"a short retraining of {self.short_epochs} epochs is longer than a full one of {self.final_epochs}: "
                "lower --short-epochs or raise --final-epochs."
            )
        if self.ensemble_size > self.candidates:
            raise ConfigError(
                f"an ensemble of {self.ensemble_size} cannot be chosen from {self.candidates} candidates: "
                "raise --candidates or lower --ensemble-size."
            )
