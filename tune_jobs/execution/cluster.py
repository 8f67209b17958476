"""What a study has to know on a cluster that is not its own: that it runs as a job, and when the nodes are there."""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import services  # there is no public way to what `auto` stands for
from ray.job_config import JobConfig

from edgenes.errors import ConfigError
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.errors import StudyError
from tune_jobs.execution.resources import live_nodes
from tune_jobs.progress.display import Progress
from tune_jobs.study.storage import kept_from_children

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable that Ray sets for the process of a job, and for no other."""
SOCKET = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""A socket in Ray's folder."""
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


def _check_reachable(address: str) -> None:
    """Raise StudyError at once if nothing answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise StudyError(f"no Ray cluster at {address}: {error}. Start it, or correct --address.") from error


def _check_found() -> None:
    """Raise StudyError where no Ray is to be found on this machine, or only one that another program keeps to itself.

    A study's own Ray listens on the loopback alone, and Ray would look for it elsewhere for minutes.
    """
    try:
        found = services.canonicalize_bootstrap_address("auto")
        if found is not None:
            _check_reachable(found)
    except (ConnectionError, StudyError) as error:
        reason = str(error).partition(". ")[0]
        raise StudyError(
            f"the address auto leads to no Ray that can be joined: {reason}. The Ray of another study on this machine "
            "is its own: leave out --address and unset RAY_ADDRESS, or start one for all with `ray start --head`."
        ) from error


def _check_temporary() -> None:
    """Raise StudyError where Ray cannot keep its files and sockets on this machine."""
    mac = sys.platform == "darwin"
    place = os.environ.get("RAY_TMPDIR") or (not mac and os.environ.get("TMPDIR")) or "/tmp"  # noqa: S108  as Ray does
    folder, longest = Path(place) / "ray", 103 if mac else 107  # bytes of a socket's path
    try:
        if len(os.fsencode(folder / SOCKET)) > longest:
            raise OSError(0, f"its sockets' paths would have more than {longest} bytes")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as error:
        raise StudyError(
            f"Ray cannot keep its files in {folder}: {error.strerror}. Set RAY_TMPDIR to a short folder of your own, "
            f"as RAY_TMPDIR=/tmp/{os.getuid()}."
        ) from error


@contextmanager
def ray_cluster(execution: ExecutionOptions, job: JobConfig, progress: Progress) -> Iterator[list[dict[str, float]]]:
    """Join or start Ray; yields its nodes' resources. Address: `--address`, else RAY_ADDRESS, else this machine."""
    if ray.is_initialized():  # a notebook's, which keeps it
        here = ray.get_runtime_context().gcs_address
        if execution.address not in (None, "auto", here):
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
        _check_temporary()
    elif address == "auto":
        _check_found()
    else:
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
    """SIGTERM, as SLURM sends it, stops the study as Ctrl-C does; in another thread than the main one, nothing does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
