"""What the commands share: the study's folder, where its Optuna study is, and how they answer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from tune_jobs.study.saved import SavedStudy, open_saved


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A command: `run` does it and returns plain values, `text` says them to a person."""

    json: bool = False
    """Print JSON, for a program."""

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Do it; the answer as JSON-able values. Raises EdgeNESError with what to do."""

    @abstractmethod
    def text(self, answer: dict[str, Any]) -> str:
        """The answer in words."""

    def status(self, answer: dict[str, Any]) -> int:
        """The exit status: 0 unless the answer is bad news."""
        return 0


@dataclass(frozen=True, kw_only=True)
class StudyCommand(Command):
    """A command on one study."""

    study: Positional[Path]
    """The study's folder."""
    storage: str | None = None
    """The Optuna study, if it does not lie in the folder: as given to the sweep."""

    def open(self) -> SavedStudy:
        """The study."""
        return open_saved(self.study, self.storage)
