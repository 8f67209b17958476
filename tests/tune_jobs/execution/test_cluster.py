"""Which Ray a study joins."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from ray._private import services

from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.errors import StudyError
from tune_jobs.execution.cluster import ray_cluster, terminations
from tune_jobs.execution.run import no_handler_left
from tune_jobs.progress.display import Progress
from tune_jobs.watch.names import job_config


def test_a_ray_of_this_process_is_taken_and_another_address_refused(ray_local, tmp_path):
    job, progress = job_config(tmp_path, "digits"), Progress()
    here = ray_local.get_runtime_context().gcs_address
    for address in (None, here):
        with ray_cluster(ExecutionOptions(address=address), job, progress) as nodes:
            assert nodes
    with (
        pytest.raises(StudyError, match=f"{here}.*127.0.0.1:1"),
        ray_cluster(ExecutionOptions(address="127.0.0.1:1"), job, progress),
    ):
        pass
    assert ray_local.is_initialized()


def start(tmp_path, address="local"):
    """Try to join or start a Ray that cannot be."""
    with ray_cluster(ExecutionOptions(address=address), job_config(tmp_path, "digits"), Progress()):
        raise AssertionError("Ray has started")


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize("kind", ["long", "file", "missing in a file"])
def test_a_temporary_folder_that_cannot_be_rays_is_named_with_the_way_out(
    tmp_path, monkeypatch, no_ray, variable, kind
):
    (tmp_path / "file").write_text("")
    place = {"long": tmp_path / ("x" * 60), "file": tmp_path / "file", "missing in a file": tmp_path / "file" / "x"}[
        kind
    ]
    monkeypatch.setenv(variable, str(place))
    with pytest.raises(StudyError, match="RAY_TMPDIR") as caught:
        start(tmp_path)
    assert str(place / "ray") in str(caught.value)


def test_the_ray_of_another_study_is_not_waited_for(tmp_path, monkeypatch, no_ray):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: [f"127.0.0.1:{port}"])
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(StudyError, match="RAY_ADDRESS"):
        start(tmp_path, "auto")


def test_signals_stay_as_they_are_in_another_thread():
    def run():
        with terminations(), no_handler_left():
            return [signal.getsignal(number) for number in numbers]

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() == before
