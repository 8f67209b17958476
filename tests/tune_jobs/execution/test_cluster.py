"""Which Ray a study joins."""

import pytest

from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.errors import StudyError
from tune_jobs.execution.cluster import ray_cluster
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
