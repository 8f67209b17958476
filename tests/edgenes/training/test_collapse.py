"""Collapse: its numbers, its warning, the exact cap, the early stop, and that without options nothing changes."""

import logging
import math

import pytest
import torch

from edgenes.checkpoint import load_checkpoint
from edgenes.config import HypernetworkConfig, SearchConfig
from edgenes.errors import ConfigError
from edgenes.methods.trainer import traced_search
from edgenes.space.genotype import CELL_TYPES, Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits, argmax_genotype, log_probability
from edgenes.space.operations import DARTS_OPERATIONS
from edgenes.training.collapse import (
    RARE,
    architecture_metrics,
    capped_genotype,
    chance,
    ends_early,
    parameter_free,
    warn_of_collapse,
)
from edgenes.training.darts import search_genotype
from tests.support.toys import (
    assert_same,
    blobs,
    enumerate_genotypes,
    one_hot_logits,
    random_logits,
    reports_of,
)

FREE, LEARNT = DARTS_OPERATIONS[:3], DARTS_OPERATIONS[3:]
SMALL = {"space": SearchSpace(nodes=2), "channels": 2, "epochs": 5, "batch_size": 32, "paths": 3, "path_batch": 16}
DATA = blobs()


def of_operations(*names: str, space: SearchSpace | None = None) -> Genotype:
    """The genotype of one cell whose nodes take input 0 by these operations."""
    space = space or SearchSpace(nodes=len(names))
    return Genotype.from_indices(
        space,
        [[[space.edge(node, 0)] for node in range(len(names))]],
        [[[space.operations.index(name)] for name in names]],
    )


class TestNumbers:
    """What an epoch reports."""

    def test_counts_are_those_of_the_argmax_genotype(self):
        names = ("skip_connect", "max_pool_3x3", "skip_connect", "sep_conv_5x5")
        found = architecture_metrics(one_hot_logits(of_operations(*names)), SearchSpace())
        counts = {name: found[f"edges_{name}"] for name in DARTS_OPERATIONS}
        assert counts == {name: names.count(name) for name in DARTS_OPERATIONS}
        assert found["parameter_free"] == 3
        assert all(type(value) in (int, float) for value in found.values())

    def test_one_operation_has_no_entropy(self):
        single = SearchSpace(nodes=2, operations=("skip_connect",))
        assert architecture_metrics(random_logits(single), single)["operation_entropy"] == 0

    def test_entropies_are_means_of_relative_ones(self):
        space = SearchSpace(nodes=2, operations=("skip_connect", "sep_conv_3x3"))
        alpha, beta = torch.zeros(1, 5, 2), torch.zeros(1, 5)
        alpha[0, 0, 0] = math.log(3)  # softmax 3/4, 1/4; the other four edges undecided
        beta[0, 2:] = torch.tensor([math.log(2), 0, 0])  # the second of the nodes: 1/2, 1/4, 1/4
        found = architecture_metrics(ArchitectureLogits(alpha, beta), space)
        quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
        assert found["operation_entropy"] == pytest.approx((quarter + 4) / 5)
        assert found["edge_entropy"] == pytest.approx((1 + 1.5 * math.log(2) / math.log(3)) / 2)

    def test_a_search_reports_them_each_epoch(self):
        reports = [metrics for _, metrics, _ in told(SMALL)[0]]
        assert len(reports) == 5
        for metrics in reports:
            assert sum(metrics[f"edges_{name}"] for name in DARTS_OPERATIONS) == 2
            assert metrics["parameter_free"] == sum(metrics[f"edges_{name}"] for name in FREE)
        entropies = [metrics["operation_entropy"] for metrics in reports]
        assert 1 >= entropies[0] > 0.999 > entropies[-1] > 0  # the first epoch is one of the warm-up


class TestWarning:
    """A genotype that chance does not explain brings a warning with the number."""

    @pytest.mark.parametrize(
        "space",
        [
            SearchSpace(nodes=2),
            SearchSpace(nodes=1, inputs_per_node=2),
            SearchSpace(nodes=2, operations=DARTS_OPERATIONS[1:5]),
        ],
    )
    def test_chance_is_the_share_of_all_genotypes(self, space):
        counts = [parameter_free(genotype) for genotype in enumerate_genotypes(space)]
        for k in range(space.max_edges + 1):
            assert chance(space, k) == pytest.approx(sum(count >= k for count in counts) / len(counts))

    @pytest.mark.parametrize(("nodes", "inputs", "enough"), [(4, 1, 4), (4, 2, 7), (2, 1, None)])
    def test_the_threshold_that_is_documented(self, nodes, inputs, enough):
        space = SearchSpace(nodes, inputs)
        rare = [k for k in range(space.max_edges + 1) if chance(space, k) < RARE]
        assert min(rare, default=None) == enough

    def test_it_names_the_number_the_operations_and_the_remedies(self, caplog):
        warn_of_collapse(of_operations("skip_connect", "skip_connect", "max_pool_3x3", "skip_connect"))
        [record] = caplog.records
        assert record.levelno == logging.WARNING and record.name == "edgenes.training.collapse"
        text = record.getMessage()
        assert all(word in text for word in ("4 of 4 edges", "1 max_pool_3x3, 3 skip_connect", "3.4%"))
        named = [word.strip(".,") for word in text.split() if word.strip(".,") in SearchConfig.__dataclass_fields__]
        assert named == ["max_parameter_free", "stop_parameter_free", "warmup", "weight_decay"]

    def test_what_chance_explains_is_none(self, caplog):
        warn_of_collapse(of_operations("skip_connect", "skip_connect", "max_pool_3x3", "sep_conv_3x3"))
        warn_of_collapse(of_operations("skip_connect", "skip_connect"))
        warn_of_collapse(of_operations(*["skip_connect"] * 4, space=SearchSpace(operations=FREE)))
        assert not caplog.records

    def test_a_search_that_ends_so_says_it_and_one_with_a_cap_does_not(self, caplog):
        settings = SMALL | {"space": SearchSpace(), "epochs": 1}
        collapsed = one_hot_logits(of_operations(*["avg_pool_3x3"] * 4))
        [(_, _, state)], _ = told(settings)
        state |= {"alpha": collapsed.alpha, "beta": collapsed.beta}
        caplog.clear()
        found = search_genotype(SearchConfig(**settings), DATA, resume=state).genotype
        assert parameter_free(found) == 4 and caplog.text.count("4 of 4 edges") == 1
        caplog.clear()
        found = search_genotype(SearchConfig(**settings, max_parameter_free=1), DATA, resume=state).genotype
        assert parameter_free(found) == 1 and not caplog.records


class TestCap:
    """The most probable operations that keep it, exactly."""

    @pytest.mark.parametrize(
        "space",
        [
            SearchSpace(nodes=2, operations=DARTS_OPERATIONS[1:5]),
            SearchSpace(nodes=2, inputs_per_node=2, operations=DARTS_OPERATIONS[2:4]),
            SearchSpace(nodes=1, inputs_per_node=2, cell_types=CELL_TYPES, operations=DARTS_OPERATIONS[1:4]),
        ],
    )
    def test_it_is_the_best_of_all_genotypes_on_the_chosen_edges(self, space):
        every = enumerate_genotypes(space)
        binding = 0
        for seed in range(12):
            logits = random_logits(space, seed, dtype=torch.float64)
            argmax = argmax_genotype(logits, space)
            same_inputs = [g for g in every if torch.equal(g.indices[0], argmax.indices[0])]
            scores = log_probability(logits, space, same_inputs)
            for most in range(space.max_edges + 1):
                allowed = [k for k, genotype in enumerate(same_inputs) if parameter_free(genotype) <= most]
                best = same_inputs[max(allowed, key=lambda k: scores[k])]
                assert capped_genotype(logits, space, most) == best
                binding += best != argmax
        assert binding > 5

    def test_a_search_returns_a_genotype_that_keeps_it_and_the_same_logits(self):
        free = search_genotype(SearchConfig(**SMALL), DATA)
        capped = search_genotype(SearchConfig(**SMALL, max_parameter_free=0), DATA)
        assert torch.equal(free.logits.alpha, capped.logits.alpha) and free.metrics == capped.metrics
        assert capped.genotype == capped_genotype(free.logits, SMALL["space"], 0)
        assert parameter_free(capped.genotype) == 0
        assert traced_search(SearchConfig(**SMALL, max_parameter_free=0), DATA).genotype == capped.genotype


def told(settings, **options):
    """The reports of a search, and its result."""
    return reports_of(lambda **callbacks: search_genotype(SearchConfig(**settings), DATA, **callbacks), **options)


def first_crossing(reports, most):
    """The first epoch, from the second that learns, in which the argmax genotype comes to have more than `most`."""
    counts = [metrics["parameter_free"] for _, metrics, _ in reports]
    return next((k for k in range(1, len(counts)) if counts[k - 1] <= most < counts[k]), None)


@pytest.fixture(scope="module")
def crossing():
    """(settings, reports without the option, epoch) of a search whose count comes to exceed 0 late enough."""
    for seed in range(20):
        settings = SMALL | {"seed": seed, "warmup": 0.0}
        reports, _ = told(settings)
        epoch = first_crossing(reports, 0)
        if epoch in (2, 3):
            return settings, reports, epoch
    raise AssertionError("no seed has such a search")


class TestEarlyStop:
    """Ends before the epoch that brings more, and resumes to the same."""

    def test_it_ends_with_the_logits_of_the_epoch_before(self, crossing, caplog):
        settings, whole, epoch = crossing
        reports, result = told(settings | {"stop_parameter_free": 0})
        assert [each[0] for each in reports] == list(range(epoch + 1))
        assert [each[1] for each in reports] == [each[1] for each in whole[: epoch + 1]]
        for name in ("alpha", "beta"):
            kept = whole[epoch - 1][2][name]
            assert torch.equal(getattr(result.logits, name), kept) and torch.equal(reports[-1][2][name], kept)
        assert result.genotype == argmax_genotype(result.logits, settings["space"])
        assert parameter_free(result.genotype) == 0
        traced = traced_search(SearchConfig(**settings, stop_parameter_free=0), DATA)
        assert traced.genotype == result.genotype and len(traced.trace) == epoch + 1
        assert caplog.text.count(f"after {epoch} of 5 epochs") == 2 and "stop_parameter_free=0" in caplog.text

    def test_interrupted_in_any_epoch_it_resumes_to_the_same(self, crossing, tmp_path):
        settings, _, epoch = crossing
        settings = settings | {"stop_parameter_free": 0}
        whole, result = told(settings)
        for stop in range(epoch + 1):
            before, _ = told(settings, path=tmp_path / "state.pt", stop_after=stop)
            after, resumed = told(settings, resume=load_checkpoint(tmp_path / "state.pt", "trial"))
            assert_same(whole, before + after)
            assert resumed.genotype == result.genotype and resumed.metrics == result.metrics
            assert_same([*vars(resumed.logits).values()], [*vars(result.logits).values()])

    def test_the_warm_up_and_the_first_epoch_that_learns_end_nothing(self):
        """Epochs 0 to 2 are the warm-up; what epoch 3 brings is nothing to go back from."""
        logits = [one_hot_logits(of_operations(*["skip_connect"] * free, *LEARNT[: 4 - free])) for free in (0, 3)]
        config = SearchConfig(epochs=5, warmup=0.6, stop_parameter_free=1)
        assert [ends_early(config, epoch, *logits) for epoch in range(5)] == [False] * 4 + [True]
        assert not ends_early(config, 4, *logits[::-1]) and not ends_early(config, 4, logits[1], logits[1])


@pytest.mark.parametrize("name", ["max_parameter_free", "stop_parameter_free"])
def test_options_that_cannot_work_are_refused(name):
    for config, value in ((SearchConfig, -1), (SearchConfig, 1.5), (HypernetworkConfig, 1)):
        with pytest.raises(ConfigError, match=name):
            config(**{name: value})
    with pytest.raises(ConfigError, match="operations with parameters"):
        SearchConfig(space=SearchSpace(operations=FREE), max_parameter_free=1)
