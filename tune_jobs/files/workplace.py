"""What the workers of a study have in common: its files and its store."""

from dataclasses import dataclass, replace

from edgenes.data.dataset import Dataset
from tune_jobs.files.artifact_store import ArtifactStore
from tune_jobs.files.cache import OFF, open_cache
from tune_jobs.files.stored_trainer import Say, StoredTrainer, unheard
from tune_jobs.files.study_files import StudyFiles


@dataclass(frozen=True)
class Workplace:
    """A study's files, and the setting of the user's cache (`cache_setting`), by default none."""

    files: StudyFiles
    cache: str | None = OFF

    def on_this_node(self) -> "Workplace":
        """The same for a worker, whose folder may be on another machine than the driver's."""
        return replace(self, files=self.files.on_this_node())

    @property
    def store(self) -> ArtifactStore:
        """What was trained for the study, and for the user's other ones."""
        return ArtifactStore(self.files, open_cache(self.cache))

    def trainer(self, data: Dataset, say: Say = unheard, weights: bool = True) -> StoredTrainer:
        """A trainer over the store."""
        return StoredTrainer(data, self.store, say, weights)
