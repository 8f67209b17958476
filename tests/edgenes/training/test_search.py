"""The bilevel loops: unbiased gradients, fair paths, resuming bit for bit, control, and images that matter."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Part, build_dataset
from edgenes.errors import ConfigError, DivergedError
from edgenes.methods.budget import Setting
from edgenes.methods.survey import guided_search
from edgenes.methods.trainer import LocalTrainer
from edgenes.nn.supernet import Supernet
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype, shared_edges
from edgenes.space.logits import log_probability
from edgenes.training.bilevel import Bilevel, initialised
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import penalty_lambdas, train_hypernetwork
from edgenes.training.paths import FairPaths, score_loss
from tests.support.toys import (
    assert_same,
    blobs,
    enumerate_genotypes,
    interrupted_and_resumed,
    random_logits,
    reports_of,
    seeded,
    spaces,
)

# --- fair paths -----------------------------------------------------------------------------------------------------


def times_chosen(space, paths):
    """How often each (input, operation) came, one Counter a cell type and node."""
    counts = [Counter() for _ in range(len(space.cell_types) * space.nodes)]
    for genotype in paths:
        for counter, node in zip(counts, (node for cell in genotype.cells for node in cell), strict=True):
            counter.update(node)
    return counts


@settings(max_examples=20)
@given(space=spaces(4), seed=st.integers(0, 1000), paths=st.integers(1, 120))
def test_every_choice_of_a_node_comes_equally_often(space, seed, paths):
    fair = FairPaths(space, seeded(seed))
    counts = times_chosen(space, [fair.next() for _ in range(paths)])
    for position, counter in enumerate(counts):
        node = position % space.nodes
        numbers = [counter[Edge(i, name)] for i in range(node + 2) for name in space.operations]
        assert sum(numbers) == paths * space.inputs_per_node
        # within one deck; with two inputs, cards of a taken input wait for the next path
        assert max(numbers) - min(numbers) <= (1 if space.inputs_per_node == 1 else 2)


def test_no_card_is_lost_over_many_paths_with_two_inputs():
    fair = FairPaths(space := SearchSpace(nodes=3, inputs_per_node=2), seeded())
    for counter in times_chosen(space, [fair.next() for _ in range(1500)]):
        assert max(counter.values()) - min(counter.values()) <= 2


def test_fair_paths_are_shuffled():
    space = SearchSpace(nodes=1)
    fair = FairPaths(space, seeded())
    decks = [tuple(fair.next() for _ in range(14)) for _ in range(4)]
    assert len(set(decks)) == 4
    assert len({frozenset(deck) for deck in decks}) == 1


# --- the score gradient ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs_per_node", "temperature"), [(1, 0.5), (2, 1.0)])
def test_the_score_gradient_is_the_gradient_of_the_expected_loss(inputs_per_node, temperature):
    operations = ("skip_connect", "max_pool_3x3", "dil_conv_3x3")[: 4 - inputs_per_node]
    space = SearchSpace(nodes=2, inputs_per_node=inputs_per_node, operations=operations)
    supernet = initialised(2, lambda: Supernet(space, 1, 3, 4, 1)).double()
    images = torch.randn(12, 1, 4, 4, generator=seeded(1), dtype=torch.float64)
    labels = torch.arange(12) % 3
    with torch.no_grad():
        supernet.classifier.weight *= 10  # paths that differ in their loss
    logits = random_logits(space, 3, 0.5, dtype=torch.float64)
    leaves = (logits.alpha.requires_grad_(), logits.beta.requires_grad_())

    every = enumerate_genotypes(space)
    with torch.no_grad():
        losses = torch.stack([torch.nn.functional.cross_entropy(supernet.sampled(images, g), labels) for g in every])
    expected_loss = (log_probability(logits, space, every, temperature).exp() * losses).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(expected_loss, leaves)])
    of_beta = slice(leaves[0].numel(), None)

    generator, draws, values = seeded(4), [], []
    for _ in range(250):
        surrogate, value = score_loss(supernet, logits, images, labels, 4, temperature, generator)
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, leaves)]))
        values.append(value)
    draws, values = torch.stack(draws), torch.stack(values)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - exact).abs() <= 4.5 * error + 1e-12).all()
    seen = exact.abs() > 4.5 * error  # of another sign or twice the size would have failed
    assert seen.sum() >= 5
    assert seen[of_beta].any()
    assert abs(values.mean() - expected_loss) < 4 * values.std() / len(values) ** 0.5
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_penalty_lambdas_are_stratified_over_the_whole_range():
    config = HypernetworkConfig(penalty_lambdas=8, epsilon=0.5)
    generator = seeded()
    lams = torch.stack([penalty_lambdas(config, generator) for _ in range(500)])
    edges = torch.linspace(-0.5, 4.5, 9)
    assert ((lams >= edges[:-1]) & (lams <= edges[1:])).all()
    centres = (edges[1:] + edges[:-1]) / 2
    assert torch.allclose(lams.mean(0), centres, atol=4 * 0.625 / 12**0.5 / 500**0.5)


# --- runs -----------------------------------------------------------------------------------------------------------

DATA = blobs()
SMALL = {"channels": 4, "epochs": 4, "batch_size": 32, "paths": 3, "path_batch": 16}
PAPER = SearchSpace(nodes=2)
DARTS = SearchSpace(nodes=2, inputs_per_node=2, cell_types=("normal", "reduction"))
RUNS = {
    "defaults": {"space": PAPER},
    "two inputs": {"space": DARTS, "cells": 3, "t_end": 0.3},
    "straight through": {"space": PAPER, "gradient": "straight_through", "weight_paths": "architecture"},
    "gdas": {"space": PAPER, "forward": "gdas", "augment": False},
    "mixture": {"space": PAPER, "forward": "mixture"},
    "mixed precision": {"space": PAPER, "mixed_precision": True},
    "second order, partial channels": {
        "space": SearchSpace(nodes=1),
        "forward": "mixture",
        "second_order": True,
        "partial_channels": 2,
    },
}
HYPER = {
    "two inputs": {"estimator": "gumbel", "trainable_pivots": True},
    "gdas": {"interpolation": "as_printed", "warmup": 0.5},
}


def run_search(settings, name, **callbacks):
    return search_genotype(SearchConfig(**SMALL | RUNS[name] | settings), DATA, **callbacks)


def run_hypernetwork(settings, name, **callbacks):
    config = HypernetworkConfig(**SMALL | RUNS[name] | HYPER.get(name, {}) | settings)
    return train_hypernetwork(config, DATA, random_genotype(config.space, seeded(8)), **callbacks)


BOTH = pytest.mark.parametrize("train", [run_search, run_hypernetwork])


# In the quick tests the hypernetwork has the two runs with something of its own to resume.
RESUMED = [
    *((run_search, name) for name in RUNS),
    *(pytest.param(run_hypernetwork, name, marks=[] if name in HYPER else pytest.mark.slow) for name in RUNS),
]


@pytest.mark.parametrize(("train", "name"), RESUMED)
def test_resuming_equals_never_having_stopped(tmp_path, train, name):
    def run(**callbacks):
        return train({"epochs": 3}, name, **callbacks)

    whole, result, resumed = interrupted_and_resumed(run, tmp_path / "state.pt")
    finished = run(resume=whole[-1][2])
    for other in (resumed, finished):
        assert result.metrics == other.metrics
        if train is run_search:
            assert result.genotype == other.genotype
            assert_same([*vars(result.logits).values()], [*vars(other.logits).values()])
        else:
            assert result.control_error == other.control_error
            for part in ("hypernetwork", "supernet"):
                assert_same(getattr(result, part).state_dict(), getattr(other, part).state_dict())


@BOTH
def test_the_seed_decides_and_the_callers_random_states_are_untouched(train):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    one = train({"epochs": 1}, "two inputs").metrics
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.rand(5)
    assert train({"epochs": 1}, "two inputs").metrics == one
    assert train({"epochs": 1, "seed": 1}, "two inputs").metrics != one


@pytest.mark.parametrize("name", ["defaults", "mixture"])
@BOTH
def test_a_run_that_diverges_is_an_error(train, name):
    """A weight decay of lr * 3e-4 = 3e8 a step soon overflows."""
    with pytest.raises(DivergedError, match="Lower the learning rates"):
        train({"learning_rate": 1e12, "epochs": 8}, name)


def test_a_penalty_that_is_too_heavy_says_what_to_lower():
    with pytest.raises(DivergedError, match="c_start"):
        run_hypernetwork({"c_start": 1e300, "c_end": 1e300, "epochs": 1}, "defaults")


def test_the_architecture_waits_for_the_warmup():
    reports, _ = reports_of(lambda **callbacks: run_search({"warmup": 0.5}, "defaults", **callbacks))
    alphas = [state["alpha"] for _, _, state in reports]
    assert torch.equal(alphas[0], alphas[1])
    assert alphas[0].abs().max() < 0.01
    assert (alphas[2] - alphas[1]).abs().max() > 0.05
    assert [metrics["architecture_loss"] > 0 for _, metrics, _ in reports] == [False, False, True, True]


def test_the_layout_of_darts_reaches_the_search():
    config = SearchConfig(space=SearchSpace(nodes=1, operations=("skip_connect",)), channels=2, darts_layout=True)
    assert Bilevel(config, DATA).supernet.stem[0].out_channels == 6


def test_weight_decay_pulls_the_architecture_towards_zero():
    def size(decay):
        logits = run_search({"epochs": 2, "architecture_weight_decay": decay}, "defaults").logits
        return torch.cat([logits.alpha.flatten(), logits.beta.flatten()]).norm().item()

    assert size(10.0) < 0.7 * size(0.0)


def test_annealing_reaches_both_ends_by_epoch():
    settings = {"c_start": 0.2, "c_end": 0.8, "t_start": 2.0, "t_end": 0.5}
    reports, result = reports_of(lambda **callbacks: run_hypernetwork(settings, "defaults", **callbacks))
    assert [metrics["c"] for _, metrics, _ in reports] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [metrics["temperature"] for _, metrics, _ in reports] == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert result.metrics == reports[-1][1]


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("name", ["defaults", "mixture"])
def test_both_parts_are_augmented_only_if_told(monkeypatch, name, augment):
    seen = []
    batch = DeviceData.batch

    def spy(self, indices, generator=None, augment=False, *cutout):
        seen.append(augment)
        return batch(self, indices, generator, augment, *cutout)

    monkeypatch.setattr(DeviceData, "batch", spy)
    run_search({"epochs": 1, "warmup": 0.0, "augment": augment}, name)
    assert len(seen) == 6  # three steps on W, three on H
    assert set(seen) == {augment}


def test_trainable_pivots_move_at_a_tenth_of_the_rate_and_fixed_ones_do_not():
    moved = run_hypernetwork({"trainable_pivots": True, "epochs": 2}, "defaults").hypernetwork
    assert 0 < moved.widths.abs().max() <= 6 * 0.1 * 0.1 * 1.5  # six Adam steps of about a tenth of 0.1
    fixed = run_hypernetwork({"epochs": 2}, "defaults").hypernetwork
    assert not fixed.widths.any()


def test_what_cannot_be_trained_is_refused_at_once():
    optimal = random_genotype(PAPER, seeded())
    for space in (DARTS, SearchSpace(nodes=2, inputs_per_node=2)):  # the second of the same size
        with pytest.raises(ConfigError, match="another search space"):
            train_hypernetwork(HypernetworkConfig(space=space, cells=3), DATA, optimal)
    for wrong in ({"cells": 4}, {"space": DARTS}):
        with pytest.raises(ConfigError, match="cells"):
            search_genotype(SearchConfig(**wrong), DATA)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", RUNS)
@BOTH
def test_runs_on_a_gpu_start_from_the_same_numbers(train, name):
    state = torch.cuda.get_rng_state()
    on_gpu = train({"device": "cuda", "epochs": 1}, name).metrics
    assert on_gpu["loss"] == pytest.approx(train({"epochs": 1}, name).metrics["loss"], rel=1e-2)
    assert torch.equal(torch.cuda.get_rng_state(), state)


# --- what the method is for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("either_input", [False, True])
def test_lambda_controls_the_shared_edges(either_input):
    optimal = random_genotype(SearchSpace(), seeded(100))
    config = HypernetworkConfig(**SMALL | {"epochs": 20}, either_input=either_input)
    result = train_hypernetwork(config, DATA, optimal)
    assert result.control_error <= 0.25
    for lam in (0, 4):
        assert shared_edges(result.hypernetwork.genotype(lam), optimal, either_input) == lam


def dominoes(count, rng):
    """8x8 images of +-1: rows tiled by 1x2 dominoes at a random cyclic offset, each of a random sign; or columns.

    A class is the transpose of the other: pools, skips, 1x1 convolutions, batch norm and ReLU cannot tell them apart
    before the mean over pixels, and a single dilated convolution is linear there. Only separable convolutions can.
    """
    signs = rng.integers(0, 2, (count, 8, 4)).repeat(2, axis=2)
    offset = rng.integers(0, 2, (count, 8, 1))
    rows = np.where(offset == 1, np.roll(signs, 1, axis=2), signs)
    labels = rng.integers(0, 2, count)
    images = np.where(labels[:, None, None] == 1, rows.transpose(0, 2, 1), rows)
    return Part((255 * images[:, None]).astype(np.uint8), labels)


def domino_data(seed, shuffled):
    rng = np.random.default_rng(seed)
    parts = [dominoes(count, rng) for count in (IMAGES, IMAGES, 20)]
    if shuffled:
        parts = [Part(part.images, rng.permutation(part.labels)) for part in parts]
    return build_dataset("dominoes", ("rows", "columns"), *parts)


SEEDS, IMAGES = 4, 1000
PLANTED = {
    "space": SearchSpace(nodes=1, cell_types=("normal",)),
    "stem_kernel": 1,
    "augment": False,
    "channels": 4,
    "batch_size": 32,
}


def searched(seed, data):
    return [search_genotype(SearchConfig(**PLANTED, epochs=4, seed=seed), data).genotype]


def at_each_end_and_between(seed, data):
    """With c = 0 lambda means nothing, and the images alone decide, wherever along lambda one looks."""
    config = HypernetworkConfig(**PLANTED, epochs=9, seed=seed, c_start=0, c_end=0)
    skip = Genotype(config.space, (((Edge(0, "skip_connect"),),),))
    hypernetwork = train_hypernetwork(config, data, skip).hypernetwork
    return [hypernetwork.genotype(lam) for lam in (0, 0.5, 1)]


def by_the_predictor(seed, data):
    """The optimal genotype by the predictor, and those of the hypernetwork that it guides with c = 0."""
    space = PLANTED["space"]
    training = TrainingConfig(**{name: value for name, value in PLANTED.items() if name != "space"}, cells=1)
    configs = {"search": SearchConfig(space=space), "hypernetwork": HypernetworkConfig(space=space)}
    setting = Setting(**configs, training=training, survey=14, survey_epochs=2, seed=seed)
    optimal, predictor = guided_search(setting, LocalTrainer(data))
    skip = Genotype(space, (((Edge(0, "skip_connect"),),),))
    config = HypernetworkConfig(space=space, epochs=20, seed=seed, c_start=0, c_end=0)
    hypernetwork = train_hypernetwork(config, data, skip, guide=predictor).hypernetwork
    return [optimal, *(hypernetwork.genotype(lam) for lam in (0, 0.5, 1))]


@pytest.mark.slow
@pytest.mark.parametrize("choose", [searched, at_each_end_and_between, by_the_predictor])
@pytest.mark.parametrize("shuffled", [False, True], ids=["real labels", "shuffled labels"])
def test_the_images_decide_the_architecture(choose, shuffled):
    """Two of seven operations solve the task: by chance all of SEEDS seeds choose one with probability 0.007."""
    seeds = [choose(seed, domino_data(seed, shuffled)) for seed in range(SEEDS)]
    separable = [sum("sep_conv" in str(genotype) for genotype in column) for column in zip(*seeds, strict=True)]
    if shuffled:
        assert max(separable) < SEEDS
    else:
        assert min(separable) == SEEDS
