"""How far a study is."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tune_jobs.tools.command import StudyCommand


@dataclass(frozen=True, kw_only=True)
class Status(StudyCommand):
    """Say how far a study is."""

    def run(self) -> dict[str, Any]:
        saved = self.open()
        states = Counter(trial.state.name for trial in saved.study.get_trials(deepcopy=False))
        return {"folder": str(saved.folder), "trials": dict(states)}

    def text(self, answer: dict[str, Any]) -> str:
        return f"{answer['folder']}: {answer['trials']}"
