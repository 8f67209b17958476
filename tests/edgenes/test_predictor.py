"""The predictor: planted losses recovered, chance called chance, functions seen as one, files read back bit for bit."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import nn

from edgenes.errors import CheckpointError, ConfigError
from edgenes.predictor import PerformancePredictor, rank_correlation
from edgenes.space.choices import LEAST_SURVEY
from edgenes.space.encoding import canonical
from edgenes.space.genotype import CELL_TYPES, Edge, Genotype, SearchSpace, random_genotypes
from edgenes.space.operations import register_operation
from tests.support.toys import enumerate_genotypes, seeded

SMALL = SearchSpace(2, operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3"))


def planted(space, seed, along_edges):
    """A loss of a cost per input and operation; `along_edges` scales another for pairs of operations along edges."""
    rng, kinds, types = np.random.default_rng(seed), len(space.operations), len(space.cell_types)
    cost = rng.uniform(0, 1, (types, 3, kinds))
    pair = along_edges * rng.uniform(0, 1, (types, kinds, kinds))

    def loss(genotype):
        total = 0.2
        for c, cell in enumerate(genotype.cells):
            for edge in (edge for node in cell for edge in node):
                own = space.operations.index(edge.operation)
                total += cost[c, min(edge.input, 2), own]
                if edge.input >= 2:
                    total += sum(pair[c, space.operations.index(e.operation), own] for e in cell[edge.input - 2])
        return total

    return loss


def fitted(space, loss, count=100, seed=0, **options):
    genotypes = random_genotypes(space, count, seeded(seed))
    return PerformancePredictor(space, **options).fit(genotypes, [loss(genotype) for genotype in genotypes])


@pytest.mark.parametrize(
    ("space", "along_edges"),
    [
        pytest.param(SearchSpace(), 0, id="paper, additive"),
        pytest.param(SearchSpace(2, 1, CELL_TYPES), 0, id="both cells, additive"),
        pytest.param(SearchSpace(), 1.5, id="paper, pairwise"),
        pytest.param(SearchSpace(2, 2), 1.5, id="two inputs, pairwise"),
    ],
)
def test_a_planted_loss_is_recovered_from_100_observations(space, along_edges):
    loss = planted(space, 1, along_edges)
    predictor = fitted(space, loss)
    unseen = [g for g in random_genotypes(space, 400, seeded(9)) if g not in predictor.genotypes]
    truth = np.array([loss(genotype) for genotype in unseen])
    mean, deviation = predictor.predict(unseen)
    assert spearmanr(mean, truth)[0] >= 0.8
    assert predictor.rank_correlation.above_chance
    assert deviation.min() > 0 and (np.abs(truth - mean) < 2 * deviation).mean() > 0.8
    best = predictor.best(5, seeded())
    assert np.mean([loss(genotype) for genotype in best]) < np.quantile(truth, 0.02)


def test_a_rank_correlation_is_spearmans_with_an_interval_that_noise_seldom_escapes():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 20, (2, 60))  # with ties
    found = rank_correlation(first, second)
    assert found.value == pytest.approx(spearmanr(first, second)[0])
    assert found.low < found.value < found.high
    draws = [rank_correlation(*rng.normal(size=(2, 48))) for _ in range(100)]
    assert 0 < sum(each.above_chance for each in draws) <= 5
    assert 0 < sum(each.high < 0 for each in draws) <= 5
    assert rank_correlation(np.ones(9), np.arange(9.0)).value == 0


def test_noise_is_called_chance():
    """By cross-validation the noise's correlation is a little below 0, as each fold's mean errs to the other side."""
    draws = []
    for seed in range(6):
        losses = np.random.default_rng(seed).lognormal(size=40)
        genotypes = random_genotypes(SMALL, 40, seeded(seed))
        draws.append(PerformancePredictor(SMALL).fit(genotypes, losses).rank_correlation)
    assert sum(found.above_chance for found in draws) <= 1
    assert np.mean([found.value for found in draws]) < 0.1


def test_it_finds_the_best_of_the_space_and_no_function_twice():
    loss = planted(SMALL, 3, 0)
    predictor = fitted(SMALL, loss, count=48, same_inputs=True)
    every = enumerate_genotypes(SMALL)
    predicted = dict(zip(every, predictor.predict(every)[0], strict=True))
    best = predictor.best(5, seeded())
    assert len(best) == len({canonical(genotype, same_inputs=True) for genotype in best}) == 5
    losses = [predicted[genotype] for genotype in best]
    assert losses == sorted(losses) and losses[0] == pytest.approx(min(predicted.values()))
    functions = len({canonical(genotype, same_inputs=True) for genotype in every})
    assert len(predictor.best(functions + 1, seeded())) == functions


def test_it_finds_the_planted_optimum():
    space = SearchSpace()
    optimum = Genotype(space, (tuple((Edge(0, "sep_conv_3x3"),) for _ in range(4)),))
    predictor = fitted(space, lambda genotype: 5 - len(genotype.edge_set & optimum.edge_set), count=150)
    assert predictor.best(1, seeded()) == [optimum]


def test_genotypes_of_one_function_have_one_prediction():
    predictor = fitted(SMALL, planted(SMALL, 0, 1), count=30, same_inputs=True)
    every = enumerate_genotypes(SMALL)
    mean, deviation = predictor.predict(every)
    again = predictor.predict([canonical(genotype, same_inputs=True) for genotype in every])
    np.testing.assert_array_equal([mean, deviation], again)
    assert len(np.unique(mean)) > 1


def test_an_operation_of_the_users_own_counts_as_any_other():
    register_operation("own", lambda channels, stride, affine, track: nn.AvgPool2d(3, stride, 1), parameter_free=True)
    space = SearchSpace(3, operations=("skip_connect", "sep_conv_3x3", "own"))
    predictor = fitted(space, lambda genotype: 4 - str(genotype).count("own"))
    assert str(predictor.best(1, seeded())[0]).count("own") == 3
    assert predictor.rank_correlation.value > 0.9


@pytest.mark.parametrize("space", [SearchSpace(2), SearchSpace(1, 2, CELL_TYPES)])
def test_a_file_gives_the_same_predictor_to_the_last_bit(tmp_path, space):
    predictor = fitted(space, planted(space, 0, 1), count=30, same_inputs=True)
    predictor.save(tmp_path / "predictor.json")
    read = PerformancePredictor.load(tmp_path / "predictor.json")
    asked = random_genotypes(space, 50, seeded(5))
    for one, other in zip(predictor.predict(asked), read.predict(asked), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read.rank_correlation == predictor.rank_correlation and read.digest == predictor.digest
    assert read.best(3, seeded()) == predictor.best(3, seeded())
    other = PerformancePredictor(space).fit(predictor.genotypes, predictor.losses)
    assert other.digest != predictor.digest


DAMAGE = {
    "cut off": lambda text, state: text[:-20],
    "no object": lambda text, state: "[]",
    "a missing part": lambda text, state: json.dumps({**state, "losses": None}),
    "another space": lambda text, state: json.dumps({**state, "space": {**state["space"], "nodes": 3}}),
    "a loss too few": lambda text, state: json.dumps({**state, "losses": state["losses"][1:]}),
    "a loss below 0": lambda text, state: json.dumps({**state, "losses": [-1.0, *state["losses"][1:]]}),
    "a word": lambda text, state: json.dumps({**state, "losses": ["much", *state["losses"][1:]]}),
    "a huge number": lambda text, state: json.dumps({**state, "losses": [10**400, *state["losses"][1:]]}),
    "too few": lambda text, state: json.dumps({**state, "genotypes": [], "losses": []}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_a_checkpoint_error(tmp_path, damage):
    path = tmp_path / "predictor.json"
    predictor = fitted(SMALL, planted(SMALL, 0, 0), count=12)
    predictor.save(path)
    path.write_text(damage(path.read_text(), predictor.to_dict()))
    with pytest.raises(CheckpointError, match=r"predictor\.json"):
        PerformancePredictor.load(path)


def test_a_file_that_is_missing_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        PerformancePredictor.load(tmp_path / "predictor.json")


def test_what_it_cannot_learn_from_is_refused():
    genotypes = random_genotypes(SMALL, LEAST_SURVEY, seeded())
    losses = np.arange(1.0, 1 + LEAST_SURVEY)
    for wrong in (losses[:-1], np.zeros(LEAST_SURVEY), np.where(losses > 2, losses, np.nan)):
        with pytest.raises(ConfigError, match="losses"):
            PerformancePredictor(SMALL).fit(genotypes, wrong)
    with pytest.raises(ConfigError, match=str(LEAST_SURVEY)):
        PerformancePredictor(SMALL).fit(genotypes[1:], losses[1:])
    with pytest.raises(ConfigError, match="another search space"):
        PerformancePredictor(SearchSpace()).fit(genotypes, losses)


def test_equal_losses_are_predicted_as_they_are():
    predictor = fitted(SMALL, lambda genotype: 0.7, count=20)
    mean, deviation = predictor.predict(random_genotypes(SMALL, 5, seeded(8)))
    np.testing.assert_allclose(mean, 0.7)
    assert np.isfinite(deviation).all() and not predictor.rank_correlation.above_chance


def test_a_second_fit_replaces_the_first():
    predictor = fitted(SMALL, planted(SMALL, 0, 0), count=40)
    before = predictor.rank_correlation
    again = predictor.fit(predictor.genotypes, np.random.default_rng(0).lognormal(size=40))
    assert again is predictor and again.rank_correlation != before
