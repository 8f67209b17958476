"""An ensemble as a service on Ray Serve, until Ctrl-C or SIGTERM."""

import logging
import os
import signal
import socket
import time
from typing import Any

from rich.console import Console

from edgenes.ensemble import Ensemble
from edgenes.errors import ConfigError
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.errors import StudyError
from tune_jobs.execution.quiet import quiet_ray
from tune_jobs.execution.resources import slots
from tune_jobs.progress.display import Progress
from tune_jobs.tools.commands import Serve


def run(command: Serve) -> dict[str, Any]:
    """Serve the ensemble until the process is interrupted or terminated; running requests are then answered."""
    check_at_least(command, 1, "port", "replicas", "cpus_per_replica", "batch_size", "max_bytes", "max_pixels")
    check_at_most(command, 65535, "port")
    _check_free(command.host, command.port)
    address = command.address or os.environ.get("RAY_ADDRESS")
    quiet_ray(local=not address)  # before Ray is imported
    try:
        from ray import serve
        from ray.serve.exceptions import RayServeException

        from tune_jobs.execution.service import Limits, Service
    except ImportError as error:
        raise ConfigError("a service needs more packages: pip install 'edgenes-studio[serve]'.") from error
    import ray
    from ray.job_config import JobConfig

    from tune_jobs.execution.cluster import ray_cluster
    from tune_jobs.tools.folder import ensemble_file

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ensemble = Ensemble.load(ensemble_file(command.ensemble))
    progress, name = Progress(Console(stderr=True)), f"edgenes-{os.getpid()}"
    deployment = serve.deployment(
        num_replicas=command.replicas,
        max_ongoing_requests=4 * command.batch_size,
        ray_actor_options={"num_cpus": command.cpus_per_replica},
    )(Service)
    app = deployment.bind(ensemble, Limits(command.max_bytes, command.max_pixels), command.batch_size)
    with ray_cluster(ExecutionOptions(address=command.address), JobConfig(), progress) as nodes:
        for each in (signal.SIGINT, signal.SIGTERM):  # Ray has its own; a shell's background job ignores SIGINT
            signal.signal(each, signal.default_int_handler)
        fitting = slots(nodes, {"CPU": command.cpus_per_replica})
        if command.replicas > fitting:
            raise ConfigError(f"{fitting} replicas fit, not {command.replicas}: lower --replicas, --cpus-per-replica.")
        try:
            serve.start(http_options={"host": command.host, "port": command.port})
            serve.run(app, name=name, route_prefix="/")
            metrics = "http://{NodeManagerAddress}:{MetricsExportPort}/metrics".format(**ray.nodes()[0])
            progress.say(f"Serving at http://{command.host}:{command.port}: POST /predict, GET /health. Ctrl-C stops.")
            progress.say(f"Metrics: {metrics}")
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            progress.say("Stopping: running requests are answered first.")
        except (RayServeException, RuntimeError) as error:
            raise StudyError(f"Ray Serve did not start the service: {error}") from error
        finally:
            serve.delete(name)
            if address and not serve.status().applications:  # those of others on a common cluster stay
                serve.shutdown()
    return {"stopped": True}


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise StudyError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port, --host.") from error


def text(answer: dict[str, Any]) -> str:
    """That it has ended."""
    return "Stopped."
