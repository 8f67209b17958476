"""What the cache of all studies holds, and how to clear it."""

from typing import Any

from tune_jobs.files.cache import LIMIT, OFF, VARIABLE, cache_setting, open_cache
from tune_jobs.progress.text import counted, size_text
from tune_jobs.tools.commands import CacheCommand


def run(command: CacheCommand) -> dict[str, Any]:
    """What the cache holds, and the bytes that were removed."""
    found = open_cache(cache_setting(command.cache))
    if found is None:
        return {"folder": None, "candidates": 0, "searches": 0, "bytes": 0, "removed": 0}
    removed = found.trim(0) if command.clear else 0
    files = found.files()
    entries = [path.name for path in files if path.suffix == ".pt" and not path.name.startswith(".")]
    return {
        "folder": str(found.folder),
        "candidates": sum(name.startswith("candidate-") for name in entries),
        "searches": sum(name.startswith("search-") for name in entries),
        "bytes": sum(status.st_size for status in files.values()),
        "removed": removed,
    }


def text(answer: dict[str, Any]) -> str:
    """One line."""
    if answer["folder"] is None:
        return f"the cache is {OFF}: see {VARIABLE} and --cache"
    held = f"{counted(answer['candidates'], 'candidate')}, {answer['searches']} searches"
    line = f"{answer['folder']}: {held}, {size_text(answer['bytes'])} of at most {size_text(LIMIT)}"
    return f"{line}; {size_text(answer['removed'])} removed" if answer["removed"] else line
