"""What all trials of a study share."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgenes.methods.budget import Setting
from edgenes.predictor import PerformancePredictor
from edgenes.seeds import stable_seed
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import Candidate, Hypernetwork, draw_candidates
from tune_jobs.files.layout import PREDICTOR, hypernetwork_path
from tune_jobs.files.workplace import Workplace
from tune_jobs.study.optuna_study import trial_seed

DRAWS = 10
"""Draws for each candidate wanted, after which a hypernetwork is taken to have no more."""


@dataclass(frozen=True)
class StudyContext:
    """The method's setting, the study's files, the optimal genotype, and what a trial is scored by."""

    setting: Setting
    place: Workplace
    optimal: Genotype
    guided: bool = False
    """Whether a predictor guides the study's hypernetworks."""
    value: str = "retrained"
    prune_infeasible: bool = False
    prunes: bool = False
    """Whether a pruner may end a trial after any of its candidates."""
    seeds_per_candidate: int = 1
    calibration: str = "temperature"
    best_prefix: bool = False
    latency: bool = False
    """Whether trials measure it."""

    @property
    def selecting(self) -> dict[str, Any]:
        """What `select_ensemble` takes of the study beside predictions and labels."""
        setting, how = self.setting, {"calibration": self.calibration, "best_prefix": self.best_prefix}
        return {"size": setting.size, "criterion": setting.criterion, "method": setting.selection, **how}

    @property
    def device(self) -> str:
        """Where trials compute."""
        return self.setting.search.device

    @property
    def folder(self) -> Path:
        """The study's folder on this machine."""
        return self.place.files.folder

    def on_this_node(self) -> "StudyContext":
        """The same for a worker, whose folder may be on another machine than the driver's."""
        return replace(self, place=self.place.on_this_node())

    def predictor(self) -> PerformancePredictor | None:
        """The guide of the study's hypernetworks; None where it is the supernet."""
        return PerformancePredictor.load(self.place.files.fetch(PREDICTOR)) if self.guided else None

    def hypernetwork(self, trial: int) -> Path:
        """The file of a trial's hypernetwork, fetched to this machine if it lies elsewhere."""
        return self.place.files.fetch(hypernetwork_path(trial))

    def candidates_of(self, trial: int) -> list[Candidate]:
        """The candidates that a trial was scored by."""
        hypernetwork = Hypernetwork.load(self.hypernetwork(trial))
        return self.candidates(hypernetwork, trial_seed(self.setting.seed, trial))

    def shared_edges(self, genotype: Genotype) -> int:
        """How many edges it shares with the optimal genotype, as the study counts them."""
        return shared_edges(genotype, self.optimal, self.setting.hypernetwork.either_input)

    def candidates(
        self, hypernetwork: Hypernetwork, trial_seed: int, low: float = 0.0, high: float | None = None
    ) -> list[Candidate]:
        """The candidates of a trial's hypernetwork, at lambda from `low` to `high`; the same ones each time."""
        setting = self.setting
        return draw_candidates(
            hypernetwork,
            setting.candidates,
            torch.Generator().manual_seed(stable_seed("candidates", trial_seed)),
            low,
            high,
            max_draws=max(200, DRAWS * setting.candidates),
            functions=self.guided,
            same_inputs=setting.same_inputs,
        )
