"""What a study has to know on a cluster that is not its own: that it runs as a job, and when the nodes are there."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from edgenes.errors import ConfigError, StudyError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable that Ray sets for the process of a job, and for no other."""
NODES_LIMIT = 1800.0  # seconds: a cloud may be slow to give a machine


def check_job_folder(out: Path | None) -> None:
    """Raise ConfigError where a Ray job would write its study into its copy of the code, which Ray deletes."""
    if JOB in os.environ and not (out is not None and out.is_absolute()):
        raise ConfigError(
            "this runs as a Ray job, in a temporary copy of the code, where a study would be lost: give --out an "
            f"absolute folder that all nodes share, as --out /shared/anneal-digits; got {out or 'none'}."
        )


def wait_for_nodes(nodes: int, say: Callable[[str], None], limit: float = NODES_LIMIT) -> None:
    """Wait until `nodes` nodes have joined Ray, since a study plans with those that are there when it begins.

    Raises StudyError after `limit` seconds.
    """
    import ray

    until, seen = time.monotonic() + limit, 0
    while (alive := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > until:
            raise StudyError(
                f"{alive} of {nodes} nodes joined the Ray cluster in {limit:.0f} seconds: see what `ray status` says "
                "on its head, or lower --wait-for-nodes."
            )
        if alive != seen:
            say(f"Waiting for nodes: {alive} of {nodes} are there.")
            seen = alive
        time.sleep(0.5)
