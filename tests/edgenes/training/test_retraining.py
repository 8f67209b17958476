"""Retraining a genotype: it learns from W and H, resumes bit for bit, and predicts each image on its own."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgenes.config import TrainingConfig
from edgenes.data.dataset import Part, build_dataset
from edgenes.errors import ConfigError, DivergedError
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype, random_genotypes
from edgenes.space.operations import OPERATIONS, register_operation
from edgenes.training.retraining import AT_ONCE, at_once, make_network, predict, train_network, train_networks
from tests.support.toys import assert_same, blobs, interrupted_and_resumed, reports_of, seeded

DATA = blobs()
PAPER = random_genotype(SearchSpace(nodes=2), seeded(3))
DARTS = random_genotype(SearchSpace(nodes=2, inputs_per_node=2, cell_types=("normal", "reduction")), seeded(3))
RUNS = {
    "defaults": (PAPER, {}),
    "drop path and auxiliary head": (PAPER, {"drop_path": 0.4, "auxiliary": True}),
    "two inputs, two cell types": (DARTS, {"cells": 3, "drop_path": 0.2, "augment": False}),
    "mixed precision": (PAPER, {"mixed_precision": True}),
    "as DARTS": (DARTS, {"cells": 3, "darts_layout": True, "auxiliary": True, "cutout": 0.5}),
}


def config_of(**settings):
    return TrainingConfig(**{"channels": 4, "epochs": 3, "batch_size": 32} | settings)


def assert_same_weights(one, other):
    assert_same(dict(one.state_dict()), dict(other.state_dict()))


def losses_of(config, data=DATA, genotype=PAPER):
    """The epochs' losses, and the network."""
    reports, network = reports_of(lambda **callbacks: train_network(config, data, genotype, **callbacks))
    return [metrics["loss"] for _, metrics, _ in reports], network


@pytest.mark.parametrize("name", RUNS)
def test_resuming_equals_never_having_stopped(tmp_path, name):
    genotype, settings = RUNS[name]

    def run(**callbacks):
        return train_network(config_of(**settings), DATA, genotype, **callbacks)

    whole, network, resumed = interrupted_and_resumed(run, tmp_path / "state.pt")
    finished = run(resume=whole[-1][2])
    for other in (resumed, finished):
        assert_same_weights(network, other)
        assert not other.training
    assert np.array_equal(predict(network, DATA.validation, DATA), predict(resumed, DATA.validation, DATA))


GENOTYPES = random_genotypes(PAPER.space, 4, seeded(5))


def test_networks_that_are_trained_at_once_are_those_trained_alone():
    configs = [config_of(seed=k) for k in range(len(GENOTYPES))]
    reported = [[] for _ in configs]
    reports = [lambda *told, kept=kept: kept.append(copy.deepcopy(told)) for kept in reported]
    together = train_networks(configs, DATA, GENOTYPES, reports=reports)
    for config, genotype, network, told in zip(configs, GENOTYPES, together, reported, strict=True):
        found, alone = reports_of(lambda config=config, one=genotype, **how: train_network(config, DATA, one, **how))
        assert_same_weights(network, alone)
        assert [metrics for _, metrics, _ in told] == [metrics for _, metrics, _ in found]
    resumes = [told[0][2] for told in reported]
    for network, other in zip(together, train_networks(configs, DATA, GENOTYPES, resumes=resumes), strict=True):
        assert_same_weights(network, other)


def test_networks_of_different_configurations_are_not_trained_at_once():
    with pytest.raises(ConfigError, match="seeds and genotypes alone"):
        train_networks([config_of(), config_of(epochs=2)], DATA, GENOTYPES[:2])


@pytest.mark.parametrize(
    ("settings", "threads", "many"),
    [
        ({}, 1, AT_ONCE),
        ({"channels": 32, "batch_size": 512}, 1, 1),
        ({}, 2, 1),
        ({"device": "cuda"}, 1, 1),
        ({"device": "cuda", "networks_per_gpu": 8}, 2, 8),
        ({"drop_path": 0.1}, 1, 1),
    ],
)
def test_several_at_once_where_it_is_faster_and_changes_nothing(settings, threads, many):
    assert at_once(config_of(**settings), DATA, threads) == many
    assert at_once(config_of(), blobs(size=16), 1) == 1


def test_the_seed_decides_and_the_callers_random_states_are_untouched():
    config = config_of(epochs=1, drop_path=0.3, auxiliary=True)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    one = train_network(config, DATA, PAPER)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.rand(5)
    assert_same_weights(train_network(config, DATA, PAPER), one)
    other = train_network(config_of(epochs=1, drop_path=0.3, auxiliary=True, seed=1), DATA, PAPER)
    assert not torch.equal(one.stem[0].weight, other.stem[0].weight)
    assert_same_weights(make_network(config, PAPER, 1, 3), make_network(config, PAPER, 1, 3))


@pytest.mark.parametrize("settings", [{}, {"auxiliary": True}])
def test_one_hot_targets_equal_training_on_those_labels(settings):
    config, others = config_of(epochs=2, **settings), (DATA.training.labels + 1) % 3
    relabelled = replace(DATA, training=Part(DATA.training.images, others))
    expected = train_network(config, relabelled, PAPER).state_dict()
    found = train_network(config, DATA, PAPER, targets=np.eye(3, dtype=np.float32)[others]).state_dict()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("option", [{"cutout": 0.5}, {"darts_layout": True}])
def test_options_of_darts_reach_the_training(option):
    small = random_genotype(SearchSpace(nodes=1, operations=("max_pool_3x3",)), seeded(0))
    assert losses_of(config_of(epochs=1, **option), DATA, small)[0] != losses_of(config_of(epochs=1), DATA, small)[0]


def test_training_learns_from_w_and_h_together():
    """W holds the first two classes only and H the third only: whoever knows all three has seen both."""

    def only(part, classes):
        keep = np.isin(part.labels, classes)
        return Part(part.images[keep], part.labels[keep])

    data = blobs(count=240)
    parts = only(data.weights, [0, 1]), only(data.architecture, [2]), data.validation
    split = build_dataset("split", data.class_names, *parts)
    genotype = Genotype(SearchSpace(nodes=1), (((Edge(1, "sep_conv_3x3"),),),))
    losses, network = losses_of(config_of(epochs=12, channels=8, augment=False, batch_size=16), split, genotype)
    assert losses[-1] < 0.5 * losses[0]
    right = predict(network, split.validation, split).argmax(1) == split.validation.labels
    for label in range(3):
        assert right[split.validation.labels == label].mean() > 0.8


def test_predictions_are_log_probabilities_in_order_whatever_the_batch():
    network = train_network(config_of(), DATA, PAPER)
    together = predict(network, DATA.validation, DATA)
    assert together.shape == (96, 3)
    assert together.dtype == np.float32
    assert np.allclose(np.exp(together).sum(1), 1, atol=1e-5)
    assert np.allclose(predict(network, DATA.validation, DATA, batch_size=7), together, atol=1e-5)
    one = Part(DATA.validation.images[40:41], DATA.validation.labels[40:41])
    assert np.allclose(predict(network, one, DATA)[0], together[40], atol=1e-5)


def test_what_cannot_be_trained_is_an_error():
    with pytest.raises(DivergedError, match="Lower the learning rate"):
        train_network(config_of(learning_rate=1e12, epochs=20), DATA, PAPER)
    with pytest.raises(ConfigError, match="3 cells"):
        train_network(config_of(cells=3), DATA, PAPER)


def test_drop_path_grows_from_nothing():
    """The first epoch drops nothing, so it is the same with and without; later ones differ."""
    plain, dropped = (losses_of(config_of(drop_path=share, augment=False, epochs=2))[0] for share in (0.0, 0.4))
    assert plain[0] == dropped[0] and plain[1] != dropped[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_starts_from_the_same_numbers():
    losses = {}
    for device in ("cpu", "cuda"):
        [losses[device]], network = losses_of(config_of(device=device, epochs=1, drop_path=0.2))
        assert predict(network, DATA.validation, DATA, device).shape == (96, 3)
    assert losses["cpu"] == pytest.approx(losses["cuda"], rel=1e-2)


def test_mixed_precision_passes_in_bfloat16_and_keeps_weights_and_losses_in_float32():
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    try:
        losses, network = losses_of(config_of(mixed_precision=True))
    finally:
        hook.remove()
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in network.state_dict().values() if p.is_floating_point()} == {torch.float32}
    assert losses[-1] < 0.8 * losses[0]


class Late(nn.Module):
    """Its convolution takes part from the second pass on."""

    def __init__(self, channels, stride):
        super().__init__()
        self.pool = nn.AvgPool2d(1, stride)
        self.convolution = nn.Conv2d(channels, channels, 1, stride)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.pool(x) if self.passes == 1 else self.convolution(x)


def test_an_own_operation_may_use_a_weight_late(monkeypatch):
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))
    register_operation("late", lambda channels, stride, *_: Late(channels, stride))
    genotype = random_genotype(SearchSpace(nodes=1, operations=("late",)), seeded(0))
    losses, _ = losses_of(config_of(epochs=2, cells=1), genotype=genotype)
    assert len(losses) == 2
