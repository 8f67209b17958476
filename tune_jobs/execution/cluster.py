"""What a study has to know on a cluster that is not its own: that it runs as a job, and when the nodes are there."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from edgenes.errors import ConfigError
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.errors import StudyError
from tune_jobs.execution.resources import live_nodes
from tune_jobs.progress.display import Progress
from tune_jobs.study.storage import kept_from_children

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


def _address() -> str:
    """HOST:PORT of the Ray that this process is connected to."""
    return str(ray.get_runtime_context().gcs_address)


def _check_reachable(address: str) -> None:
    """Raise StudyError at once if nothing answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "local", "auto": Ray knows where
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise StudyError(f"no Ray cluster at {address}: {error}. Start it, or correct --address.") from error


@contextmanager
def ray_cluster(execution: ExecutionOptions, job: JobConfig, progress: Progress) -> Iterator[list[dict[str, float]]]:
    """Join or start Ray; yields its nodes' resources. Address: `--address`, else RAY_ADDRESS, else this machine."""
    if ray.is_initialized():  # a notebook's, which keeps it
        if execution.address not in (None, "auto") and execution.address != (here := _address()):
            raise StudyError(
                f"this process is connected to the Ray at {here}, not at {execution.address}: call ray.shutdown(), "
                "or leave --address out."
            )
        wait_for_nodes(execution.wait_for_nodes, progress.say)
        yield live_nodes()
        return
    address = execution.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    options["job_config"] = job
    if address == "local":
        options |= {"include_dashboard": execution.dashboard}
    _check_reachable(address)
    try:
        with kept_from_children():  # Ray's processes need no storage
            context = ray.init(**options)
    except Exception as error:  # Ray raises a bare one where a busy machine starts it too slowly
        reason = str(error).splitlines()[0]
        if address == "local":
            raise StudyError(f"Ray did not start on this machine: {reason} Run the same command again.") from error
        raise StudyError(f"no Ray cluster at {address}: {reason}. Check --address.") from error
    try:
        if context.dashboard_url:
            progress.say(f"Ray dashboard: http://{context.dashboard_url}")
        wait_for_nodes(execution.wait_for_nodes, progress.say)
        yield live_nodes()
    finally:
        ray.shutdown()


@contextmanager
def terminations() -> Iterator[None]:
    """SIGTERM, as SLURM sends it, stops the study as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
