"""The memory of a trial: measured by real dry steps, turned into a share of a card, and waited for."""

import pytest
import ray
from hypothesis import example, given
from hypothesis import strategies as st
from ray import tune

from edgenes.errors import ConfigError, OutOfMemoryError
from edgenes.training.bilevel import Bilevel
from tests.support import running
from tests.support.toys import blobs
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution import footprint
from tune_jobs.execution.footprint import (
    CONTEXT,
    HEADROOM,
    MOST,
    Footprint,
    largest,
    share_of_card,
    trial_bytes,
    wait_for_memory,
)
from tune_jobs.execution.resources import trials_on

GIB = 2**30
OPTIONS = {"nodes": 2, "search_channels": 2, "channels": 2, "cells": 1, "batch_size": 32}
SMALL = SweepConfig.of(**OPTIONS).setting("cpu")


@given(needed=st.integers(0, 200 * GIB), card=st.integers(1, 300 * GIB))
@example(needed=0, card=88_261_577_933)
def test_a_share_is_one_kth_with_room_for_k_trials_and_for_no_more(needed, card):
    trials = trials_on({"GPU": 1}, {"GPU": share_of_card(needed, card)})
    one = (needed + CONTEXT) * HEADROOM
    assert 1 <= trials <= MOST
    assert trials == 1 or trials * one <= card
    assert trials == MOST or (trials + 1) * one > card


def test_the_largest_trial_and_the_smallest_card_decide():
    counted = largest([Footprint(3 * GIB, 80 * GIB, 2), Footprint(4 * GIB, 16 * GIB, 1)])
    assert counted == Footprint(4 * GIB, 16 * GIB, 2)
    assert counted.share == 0.5 and counted.memory == 2
    assert Footprint(0, 0, GIB).share == 0


def test_dry_steps_try_every_operation_of_search_and_retraining_before_the_peak_is_read(monkeypatch):
    data, steps, retrained, read = blobs(), [], [], []
    step, train = Bilevel.weight_step, footprint.train_networks
    monkeypatch.setattr(Bilevel, "weight_step", lambda *given: steps.append(len(given[1])) or step(*given))

    def watched(configs, data, genotypes):
        retrained.append(({edge.operation for _, _, edge in genotypes[0].edge_set}, len(data.training)))
        return train(configs, data, genotypes)

    monkeypatch.setattr(footprint, "train_networks", watched)

    def peak(device):
        read.append((device, len(steps), len(retrained)))
        return 123

    assert trial_bytes(SMALL, data, peak=peak) == 123
    operations = SMALL.space.operations
    assert read == [("cpu", 3 * len(operations), len(operations))]
    assert set(steps) == {SMALL.search.batch_size}
    trial_bytes(SMALL, data, supernet=False, peak=peak)
    assert read[1] == ("cpu", 3 * len(operations), 2 * len(operations)), "no further step of a supernet"


def test_waiting_ends_when_there_is_enough_memory_or_with_a_reason():
    free = iter([GIB, 2 * GIB, 3 * GIB, 4 * GIB])
    wait_for_memory(3 * GIB, lambda: next(free), pause=0)
    assert next(free) == 4 * GIB  # asked three times, and no more
    asked = []
    with pytest.raises(OutOfMemoryError) as raised:
        wait_for_memory(3 * GIB, lambda: asked.append(1) or GIB, seconds=0.05, pause=0.01)
    for word in ("1.00 GiB", "3.00 GiB", "Another program", "nvidia-smi"):
        assert word in str(raised.value)
    assert 2 <= len(asked) < 20


def run_of(out, **options):
    config = SweepConfig.of(**OPTIONS | options, gpus_per_trial="auto", out=out)
    return running.run_of(config, blobs()), config.setting("cpu")


def test_auto_measures_on_a_worker_and_trials_then_ask_for_that_memory(ray_local, tmp_path, capsys):
    run, setting = run_of(tmp_path)
    assert run.asked == {"CPU": 1, "GPU": 0}
    run.check_resources()
    run.measure(setting)
    assert (run.gpus, run.device) == (0, "cpu")
    assert run.asked == {"CPU": 1, "GPU": 0, "memory": run.footprint.memory}
    assert 2**27 < run.footprint.memory < 64 * GIB and 1 <= run.slots <= 2
    assert f"{run.footprint.host / GIB:.1f} GiB of memory: {run.slots} at once" in " ".join(
        capsys.readouterr().out.split()
    )

    def trainable(config):
        tune.report({"value": ray.get_runtime_context().get_assigned_resources()["memory"]})

    with run.progress.stage("Probe", total=1):
        assert run.tune("probe", trainable, {}, lambda trial: "probe", {})[0].value == run.footprint.memory


def test_what_a_trial_would_raise_on_a_worker_is_raised_here(ray_local, tmp_path):
    with pytest.raises(ConfigError, match="cells"):
        run, setting = run_of(tmp_path, cells=30)
        run.measure(setting)
