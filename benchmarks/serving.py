"""Requests a second of a served ensemble, and how long they take, with and without batching, on the loopback.

`python -m benchmarks serving ENSEMBLE` starts `python -m tune_jobs serve` for each batch size; clients in threads of
this process send one PNG each again and again over connections that stay open. All share this machine's cores.
"""

import http.client
import io
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from benchmarks.printing import machine, table
from edgenes.errors import EdgeNESError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Load a service."""

    ensemble: tyro.conf.Positional[Path]
    """Folder of the ensemble, or of its study."""
    seconds: float = 60.0
    """Seconds of each load."""
    clients: tuple[int, ...] = (1, 16)
    """Clients at once."""
    batch_sizes: tuple[int, ...] = (32, 1)
    """Values of --batch-size."""
    port: int = 8765
    """Port of the service."""


def connection(port: int) -> http.client.HTTPConnection:
    """A connection to the service."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60)


def wait_until_served(process: subprocess.Popen, port: int) -> int:
    """Wait until the service answers; returns the pixels a side of its images."""
    while process.poll() is None:
        try:
            client = connection(port)
            client.request("GET", "/health")
            answer = client.getresponse()
            if answer.status == 200:
                return json.loads(answer.read().decode())["image_size"]
        except OSError:
            pass
        time.sleep(0.5)
    raise EdgeNESError(f"the service ended with status {process.returncode}.")


def client(port: int, body: bytes, until: float) -> list[tuple[float, bool]]:
    """Seconds of each request until then, and whether it was answered with 200."""
    found, server = [], connection(port)
    while (start := time.perf_counter()) < until:
        try:
            server.request("POST", "/predict", body, {"Content-Type": "image/png"})
            answer = server.getresponse()
            right = answer.status == 200 and b"label" in answer.read()
        except (OSError, http.client.HTTPException):
            right, server = False, connection(port)
        found.append((time.perf_counter() - start, right))
    return found


def load(port: int, size: int, clients: int, seconds: float) -> list[str]:
    """Requests a second, median and 99% of their milliseconds, and errors."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(client, port, file.getvalue(), start + seconds) for _ in range(clients)]
        found = [each for job in jobs for each in job.result()]
    rate = sum(right for _, right in found) / (time.perf_counter() - start)
    middle, most = np.quantile([1e3 * taken for taken, _ in found], [0.5, 0.99])
    return [f"{rate:.0f}", f"{middle:.1f}", f"{most:.1f}", str(sum(not right for _, right in found))]


def main(options: Options) -> None:
    """Print the table."""
    rows = []
    for batch_size in options.batch_sizes:
        words = ["serve", str(options.ensemble), "--port", str(options.port), "--batch-size", str(batch_size)]
        process = subprocess.Popen([sys.executable, "-m", "tune_jobs", *words])
        try:
            size = wait_until_served(process, options.port)
            load(options.port, size, 4, 3)  # warm
            for clients in options.clients:
                rows.append([str(batch_size), str(clients), *load(options.port, size, clients, options.seconds)])
        finally:
            process.terminate()
            process.wait()
    header = ["batch size", "clients", "requests/s", "p50, ms", "p99, ms", "errors"]
    print(f"{table(header, rows)}\n\n{machine('ray')}")
