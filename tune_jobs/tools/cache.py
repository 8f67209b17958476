"""What the cache of all studies holds, and an end to it."""

from dataclasses import dataclass
from typing import Any

from tune_jobs.files.cache import LIMIT, OFF, VARIABLE, cache_setting, open_cache
from tune_jobs.progress.text import counted, size_text
from tune_jobs.tools.command import Command


@dataclass(frozen=True, kw_only=True)
class CacheCommand(Command):
    """Say where your studies' cache is and what it holds, or clear it.

    No study needs it: each one's folder holds all of its own. What is cleared is computed again where it is asked for.
    """

    cache: str | None = None
    """The cache's folder, as given to the studies; by default what they take by default."""
    clear: bool = False
    """Remove all that it holds."""

    def run(self) -> dict[str, Any]:
        found = open_cache(cache_setting(self.cache))
        if found is None:
            return {"folder": None, "candidates": 0, "searches": 0, "bytes": 0, "removed": 0}
        removed = found.trim(0) if self.clear else 0
        files = found.files()
        entries = [path.name for path in files if path.suffix == ".pt" and not path.name.startswith(".")]
        return {
            "folder": str(found.folder),
            "candidates": sum(name.startswith("candidate-") for name in entries),
            "searches": sum(name.startswith("search-") for name in entries),
            "bytes": sum(status.st_size for status in files.values()),
            "removed": removed,
        }

    def text(self, answer: dict[str, Any]) -> str:
        if answer["folder"] is None:
            return f"the cache is {OFF}: see {VARIABLE} and --cache"
        held = f"{counted(answer['candidates'], 'candidate')}, {answer['searches']} searches"
        line = f"{answer['folder']}: {held}, {size_text(answer['bytes'])} of at most {size_text(LIMIT)}"
        return f"{line}; {size_text(answer['removed'])} removed" if self.clear else line
