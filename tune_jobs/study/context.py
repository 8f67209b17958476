"""What all trials of a study share."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edgenes.seeds import stable_seed
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import Candidate, Hypernetwork, draw_candidates
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.cache import OFF, open_cache
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.layout import PREDICTIONS, hypernetwork_path
from tune_jobs.files.study_files import Remote, StudyFiles


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a study share: configuration, folder, optimal genotype, device, files beyond this machine.

    `cache` is a `cache_setting`: what other studies have computed counts only where a driver says so.
    """

    config: SweepConfig
    folder: Path
    optimal: Genotype
    device: str
    remote: Remote | None = None
    cache: str | None = OFF

    @property
    def files(self) -> StudyFiles:
        """The study's files as this process sees them."""
        return StudyFiles(self.folder, self.remote)

    @property
    def store(self) -> PredictionStore:
        """The retrained candidates of the study."""
        return PredictionStore(self.files.below(PREDICTIONS), open_cache(self.cache))

    def on_this_node(self) -> "TrialSettings":
        """The settings of a worker, whose folder may be on another machine than the driver's."""
        return replace(self, folder=self.files.on_this_node().folder)

    def hypernetwork(self, trial: int) -> Path:
        """The file of a trial's hypernetwork, fetched to this machine if it lies elsewhere."""
        return self.files.fetch(hypernetwork_path(trial))


def trial_candidates(config: SweepConfig, hypernetwork: Hypernetwork, trial_seed: int) -> list[Candidate]:
    """The candidates of a trial's hypernetwork: the same in the sweep and in the final retraining."""
    generator = torch.Generator().manual_seed(stable_seed("candidates", trial_seed))
    return draw_candidates(hypernetwork, config.candidates, generator)
