"""A worker's copy of the data is none: it reads the node's one, whatever a trial does with it; and its threads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune

from edgenes.data.dataset import Part, build_dataset
from tests.support import running
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.worker import use_resources

MIB = 2**20
IMAGES = 40_000  # of 3 KiB in W and H: 117 MiB


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)

    def part(count):
        images = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        return Part(images, np.arange(count) % 3)

    return build_dataset("noise", ("a", "b", "c"), part(IMAGES // 2), part(IMAGES // 2), part(999), part(999))


@pytest.fixture
def run_of(ray_local, data, tmp_path):
    def make(**options):
        config = SweepConfig.of(out=tmp_path, nodes=1, search_channels=2, channels=2, cells=1, **options)
        return running.run_of(config, data)

    return make


def probe():
    """A trainable that uses the data as a trial does and says how much memory of its own that took."""

    def trainable(config, data):
        import torch

        from edgenes.data.batches import DeviceData
        from edgenes.training.bilevel import Bilevel
        from edgenes.training.retraining import predict
        from tests.support.toys import seeded
        from tune_jobs.config.sweep import SweepConfig
        from tune_jobs.execution.worker import use_resources

        def own():
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

        use_resources()
        settings = SweepConfig.of(nodes=1, search_channels=2, channels=2, cells=1).setting("cpu").search
        loop = Bilevel(settings, data)
        network = loop.supernet.as_network(loop.fair.next(), loop.weights.draw(64, loop.generator)[0])
        predict(network, data.validation, data)
        before = own()
        arrays = [data.training.images, data.weights.images, data.architecture.images, data.validation.images]
        training = DeviceData(data.training, data, "cpu")
        next(training.epoch(64, seeded()))
        total = int(sum(array.sum(dtype=int) for array in arrays))  # every page is read
        after = own()
        kept = data.training.images.copy() if config["copy"] else None
        found = {
            "grown": after - before,
            "copied": own() - after,
            "writeable": any(array.flags.writeable for array in arrays),
            "same": training.images.data_ptr() == data.weights.images.ctypes.data,
            "test": data.test is not None,
            "total": total,
            "threads": torch.get_num_threads(),
            "kept": kept is not None,
        }
        tune.report({"status": "complete", "attributes": found})

    return trainable


def test_two_workers_use_one_copy_of_the_data_and_one_thread_each(run_of, data):
    run = run_of()
    space = {"copy": tune.grid_search([False, True])}
    with run.progress.stage("Probe", total=2):
        outcomes = run.tune("probe", probe(), space, lambda trial: trial.trial_id, {"data": run.data_ref})
    size = data.training.images.nbytes / MIB
    parts = (data.training, data.weights, data.architecture, data.validation)
    outcomes = [outcome.attributes for outcome in outcomes]
    for outcome in outcomes:
        assert outcome["total"] == sum(int(part.images.sum(dtype=int)) for part in parts)
        assert not outcome["writeable"] and outcome["same"] and not outcome["test"]
        assert outcome["grown"] < size / 4
        assert outcome["threads"] == 1
    copied = {outcome["kept"]: outcome["copied"] for outcome in outcomes}
    assert copied[True] > 0.9 * size > size / 4 > copied[False]  # the measure sees a copy where there is one


def test_a_trial_computes_with_as_many_threads_as_it_has_cpus(ray_local, tmp_path):
    def trainable(config):
        torch.set_num_threads(4)  # what an earlier trial of the actor left behind
        use_resources()
        tune.report({"threads": torch.get_num_threads()})

    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: tune.PlacementGroupFactory([{"CPU": config["cpus"]}])),
        param_space={"cpus": tune.grid_search([2, 0.5])},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    found = {result.config["cpus"]: result.metrics["threads"] for result in tuner.fit()}
    assert found == {2: 2, 0.5: 1}
