"""A trial's checkpoints among the files that driver and workers share: found again, and removed."""

import contextlib
import logging
import posixpath
from pathlib import Path
from typing import Any

from ray import tune

from edgenes.checkpoint import load_checkpoint
from edgenes.errors import CheckpointError, WriteError
from tune_jobs.files.layout import RAY
from tune_jobs.files.study_files import Remote

log = logging.getLogger(__name__)
STATE = "state.pt"
"""The file in a checkpoint."""


def resume_state(noted: str | None, shared: Remote, device: str) -> dict[str, Any] | None:
    """The newest sound checkpoint: Tune's own after a worker died, then the `noted` one of the shared files, or None.

    In the place of a damaged one comes the one before, which Tune keeps beside it.
    """
    own = tune.get_checkpoint()
    for newest in filter(None, (own and shared.name_of(own.path), noted)):
        place = posixpath.dirname(newest)
        beside = [name for name in shared.entries(place) if name.startswith(f"{place}/checkpoint_")]
        for name in (newest, *(older for older in reversed(beside) if older < newest)):
            try:
                with tune.Checkpoint(shared.path(name), shared.filesystem).as_directory() as folder:
                    return load_checkpoint(Path(folder) / STATE, "trial", device)
            except (CheckpointError, OSError) as error:
                log.warning("%s: %s The checkpoint before it is taken, or the trial starts over.", name, error)
    return None


def remove_earlier(shared: Remote, trial: int, keep: set[str]) -> None:
    """Remove what drivers before kept of a trial under Ray's folder: all its folders but those to keep."""
    with contextlib.suppress(WriteError):  # what is left costs space and no more
        for run in shared.entries(RAY):
            for place in shared.entries(run):
                if posixpath.basename(place).startswith(f"trial-{trial}-") and place not in keep:
                    shared.remove(place)
