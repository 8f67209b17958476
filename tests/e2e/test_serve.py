"""A real service: answers, batches, metrics, the loopback, and a stop that loses no request."""

import http.client
import io
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgenes import Ensemble, TrainingConfig, random_genotype
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tests.faults.harness import wait_for
from tests.faults.supervise import descendants
from tests.support.servers import LOOPBACK, free_port, listening, started
from tests.support.toys import blobs, seeded
from tests.support.watching import get

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
CONFIG = TrainingConfig(channels=4, cells=1)
OURS = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE")
"""What the command sets by itself."""


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Path:
    networks = [make_network(CONFIG, random_genotype(SearchSpace(nodes=2), seeded(k)), 1, 3).eval() for k in (0, 1)]
    Ensemble.of(networks, [CONFIG] * 2, blobs()).save(folder := tmp_path_factory.mktemp("served") / "ensemble")
    return folder


def post(url, body, kind):
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def png(pixels):
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def test_a_service_answers_as_predict_does_and_stops_when_all_is_answered(ensemble, tmp_path):
    pytest.importorskip("ray.serve", reason="needs the extra serve")
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "tune_jobs", "serve", str(ensemble), "--port", str(port), "--max-bytes", "100000"]
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    with started([sys.executable, "-m", "tests.faults.supervise", *command], log, env=environment) as process:
        wait_for(lambda: "Metrics: " in log.read_text(), process)
        url = f"http://127.0.0.1:{port}"
        assert get(f"{url}/health")["classes"] == [f"third {k}" for k in range(3)]
        addresses = listening(descendants(process.pid))
        assert addresses and addresses <= LOOPBACK

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda image: post(f"{url}/predict", png(image), "image/png"), IMAGES))
        probabilities = [list(answer["predictions"][0]["probabilities"].values()) for _, answer in found]
        np.testing.assert_allclose(probabilities, Ensemble.load(ensemble).predict(IMAGES), atol=1e-5)
        assert post(f"{url}/predict", b"x", "image/png")[0] == 400
        assert post(f"{url}/predict", b"x", "text/plain")[0] == 415
        assert post(f"{url}/predict", b"x" * 200_000, "image/png")[0] == 413
        assert post(f"{url}/health", b"", "image/png")[0] == 405 and post(url, b"", "image/png")[0] == 404
        metrics = log.read_text().partition("Metrics: ")[2].split()[0]
        wait_for(lambda: b"ray_serve_batch" in get(metrics), process)

        body = json.dumps({"images": IMAGES.tolist()}).encode()
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", str(len(body)))
        slow.endheaders(body[:100])
        time.sleep(1)  # until a replica has it
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Stopping" in log.read_text(), process)
        slow.send(body[100:])
        answer = slow.getresponse()
        assert answer.status == 200 and len(json.loads(answer.read())["predictions"]) == len(IMAGES)
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()
