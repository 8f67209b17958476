"""Ray nodes of different kinds: this file is also the process that has such a cluster, since a process has one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def seen():
    """What the process below has seen."""
    inherited = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env=inherited)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_each_live_node_is_counted_with_its_own_resources(seen):
    kinds = sorted((node.get("CPU", 0), node.get("GPU", 0)) for node in seen["nodes"])
    assert kinds == [(0, 0), (1, 0), (2, 1)]


def test_trials_run_where_they_fit_and_as_many_at_once_as_counted(seen):
    assert seen["slots"] == seen["together"] == 2  # half a GPU each: only one node has one
    assert len(seen["places"]) == 1


def test_sixths_of_a_card_rounded_down_are_six_trials_on_it_for_ray_too(seen):
    assert seen["sixths"] == 6


def test_a_gpu_that_cannot_be_measured_is_said_with_what_to_do(seen):
    for words in ("a trial's memory could not be measured", "--gpus-per-trial a number"):
        assert words in seen["measured"]


def test_a_trial_whose_gpu_never_has_the_memory_fails_with_the_reason(seen):
    assert seen["waited"]["status"] == "failed"
    assert "0.00 GiB of memory free and a trial needs 0.25 GiB" in seen["waited"]["reason"]
    assert seen["started"]["status"] == "complete"


def main() -> None:
    """Start the cluster, ask it all of the above, and print the answers as JSON."""
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster
    from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

    from edgenes.errors import ConfigError
    from tests.support.toys import blobs
    from tune_jobs.config.sweep import SweepConfig
    from tune_jobs.execution.footprint import measure, share_of_card, when_memory_is_free
    from tune_jobs.execution.resources import live_nodes, slots

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=2, num_gpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        cluster.wait_for_nodes()
        nodes = live_nodes()
        asked = {"CPU": 1, "GPU": 0.5}
        found = {"nodes": nodes, "slots": slots(nodes, asked)}

        def placed(count, **resources):
            """The nodes of those of `count` such requests that Ray finds a place for."""
            groups = [placement_group([resources]) for _ in range(count)]
            ready = [group for group in groups if group.wait(3)]
            places = [placement_group_table(group)["bundles_to_node_id"][0] for group in ready]
            for group in groups:
                remove_placement_group(group)
            return places

        found["together"] = len(places := placed(3, CPU=1, GPU=0.5))
        found["places"] = sorted(set(places))
        found["sixths"] = len(placed(7, GPU=share_of_card(2 * 2**30, 18 * 2**30 + 1)))
        try:
            found["measured"] = f"nothing was raised: {measure(SweepConfig().setting('cuda'), ray.put(blobs()), 1)}"
        except ConfigError as error:
            found["measured"] = str(error)

        def trainable(config, word):
            tune.report({"status": word})

        with tempfile.TemporaryDirectory() as folder:
            for name, free in {"waited": 0, "started": 2**30}.items():
                waiting = when_memory_is_free(trainable, 0.5, 0, lambda free=free: (free, 2**30), seconds=0.1)
                tuner = tune.Tuner(
                    tune.with_resources(tune.with_parameters(waiting, word="complete"), asked),
                    run_config=tune.RunConfig(storage_path=str(Path(folder)), name=name, verbose=0),
                )
                metrics = tuner.fit()[0].metrics
                found[name] = {key: metrics.get(key) for key in ("status", "reason")}
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
