"""How many trials fit on which nodes, checked against a placement one by one, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenes.errors import ConfigError
from tune_jobs.config.execution import ExecutionOptions
from tune_jobs.execution.resources import check_fits, slots, trials_on

GIB = 2**30


def placed(node, asked):
    """Trials put on a node one after the other, each on the first card with room, as Ray counts: in 1 / 10000."""
    cpus, memory = round(node.get("CPU", 0) * 1e4), node.get("memory", 0)
    cards = [10_000] * int(node.get("GPU", 0))
    count = 0
    while True:
        cpus -= round(asked["CPU"] * 1e4)
        memory -= asked.get("memory", 0)
        for _ in range(int(asked["GPU"]) if asked["GPU"] >= 1 else 1 if asked["GPU"] else 0):
            share = min(10_000, round(asked["GPU"] * 1e4))
            card = next((k for k, left in enumerate(cards) if left >= share), None)
            if card is None:
                return count
            cards[card] -= share
        if cpus < 0 or memory < 0:
            return count
        count += 1


@given(
    node=st.fixed_dictionaries(
        {},
        optional={
            "CPU": st.integers(0, 20).map(float),
            "GPU": st.integers(0, 5).map(float),
            "memory": st.integers(0, 20).map(lambda k: float(k * GIB)),
            "accelerator_type:T4": st.just(1.0),
        },
    ),
    asked=st.fixed_dictionaries(
        {"CPU": st.integers(1, 5), "GPU": st.sampled_from([0, 1 / 8, 1 / 7, 1 / 6, 0.3, 0.4, 0.5, 0.75, 1, 2.0])},
        optional={"memory": st.integers(1, 5 * GIB)},
    ),
)
def test_as_many_trials_fit_on_a_node_as_can_be_placed_one_by_one(node, asked):
    assert trials_on(node, asked) == placed(node, asked)


@pytest.mark.parametrize(
    ("nodes", "asked", "count"),
    [
        ([{"CPU": 4.0}, {"CPU": 3.0}], {"CPU": 2, "GPU": 0}, 3),  # as the sum would say
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"CPU": 2, "GPU": 0}, 2),  # the sum would say 3
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], {"CPU": 1, "GPU": 1}, 2),  # nodes without a GPU do not count
        ([{"CPU": 64.0, "GPU": 4.0}], {"CPU": 1, "GPU": 0.4}, 8),  # two on a card, and not 4 // 0.4 = 10
        ([{}, {"GPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}], {"CPU": 1, "GPU": 0.5}, 1),  # a head without CPUs
        ([{"CPU": 8.0, "memory": 5.0 * GIB}] * 2, {"CPU": 1, "GPU": 0, "memory": 2 * GIB}, 4),
    ],
)
def test_slots_are_counted_node_by_node(nodes, asked, count):
    assert slots(nodes, asked) == count
    check_fits(nodes, asked)


@pytest.mark.parametrize(
    ("nodes", "asked", "words"),
    [
        ([{"CPU": 4.0}] * 3, {"CPU": 6, "GPU": 0}, ("6 CPUs", "3 x 4 CPUs", "--cpus-per-trial")),
        ([{"CPU": 4.0}], {"CPU": 1, "GPU": 0.5}, ("0.5 GPUs", "1 x 4 CPUs and 0 GPUs", "lower --gpus-per-trial")),
        ([{"CPU": 9.0}, {"CPU": 2.0, "GPU": 1.0}], {"CPU": 4, "GPU": 1}, ("--cpus-per-trial or lower --gpus-per",)),
        ([{"CPU": 2.0, "memory": GIB}], {"CPU": 1, "GPU": 0, "memory": 3 * GIB}, ("3.0 GiB of", "--batch-size")),
        ([], {"CPU": 1, "GPU": 0}, ("1 CPUs", "nodes: none")),
    ],
)
def test_a_trial_that_fits_no_single_node_is_refused(nodes, asked, words):
    with pytest.raises(ConfigError) as raised:
        check_fits(nodes, asked)
    for word in (*words, "--address"):
        assert word in str(raised.value)


@pytest.mark.parametrize("gpus", [-1, 1.5, float("nan"), "half"])
def test_other_numbers_of_gpus_are_refused(gpus):
    with pytest.raises(ConfigError, match="gpus_per_trial"):
        ExecutionOptions(gpus_per_trial=gpus)
