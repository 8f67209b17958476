"""One suite for all methods: sizes, data, determinism, and costs that add up; then what each one is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.loading import load_data
from edgenes.errors import ConfigError
from edgenes.methods import catalogue as baselines
from edgenes.methods.baselines import METHODS
from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import POOLED, deviations, run_method, with_cost
from edgenes.methods.cost import Work, retraining_work, search_work
from edgenes.methods.halving import affordable_rungs, rungs
from edgenes.methods.survey import guided_search
from edgenes.methods.trainer import LocalTrainer, Member, Prediction, Searched
from edgenes.nn.network import Network
from edgenes.selection import select_ensemble
from edgenes.space.encoding import canonical
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype, shared_edges
from edgenes.training.edgenes import penalty_lambdas, training_lambda
from tests.support.toys import enumerate_genotypes

SETTING = Setting(
    search=SearchConfig(epochs=2, channels=2, batch_size=32, path_batch=8, paths=4),
    hypernetwork=HypernetworkConfig(epochs=2, channels=2, batch_size=32, path_batch=8, paths=4),
    training=TrainingConfig(epochs=2, channels=2, cells=1, batch_size=32),
    short_epochs=1,
    survey=12,
    survey_epochs=1,
    candidates=5,
    size=2,
    seed=3,
)
SINGLE = ("darts", "random", "predicted-single")
GUIDED = ("edge-nes", "edge-nes-seeds", "predicted", "predicted-single", "predicted-deep-ens")


@pytest.fixture(scope="module")
def data():
    return load_data("digits", images=200)


@pytest.fixture(scope="module")
def trainer(data):
    return LocalTrainer(data)


@pytest.fixture(scope="module")
def outcomes(trainer):
    """Every method with one trainer, which remembers."""
    return {name: run_method(name, SETTING, trainer) for name in METHODS}


@pytest.fixture(scope="module")
def guided(trainer):
    """The optimal genotype and the predictor of the guided methods."""
    return guided_search(SETTING, trainer)


def genotypes(outcome):
    return [member.genotype for member in outcome.members]


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_it_gives_an_ensemble_of_the_size_and_its_predictions(self, name, outcomes, data):
        found = outcomes[name]
        assert len(found.members) == (1 if name in SINGLE else SETTING.size)
        assert found.predictions.shape == (len(found.members), len(data.validation), data.classes)
        np.testing.assert_allclose(found.predictions.sum(-1), 1, atol=1e-6)
        assert len(set(found.members)) == len(found.members) and set(found.members) <= set(found.pool)
        assert len({member.config.seed for member in found.members}) == len(found.members)  # none begin alike
        assert len(set(found.pool)) == len(found.pool) <= SETTING.candidates
        assert all(genotype.space == SETTING.space for genotype in genotypes(found))

    def test_its_networks_have_the_one_retraining_with_seeds_of_their_own(self, name, outcomes, trainer):
        for member, predicted in zip(outcomes[name].members, outcomes[name].predictions, strict=True):
            np.testing.assert_array_equal(trainer.retrain([member])[0].probabilities, predicted)
        for genotype, config in ((member.genotype, member.config) for member in outcomes[name].pool):
            assert config in [SETTING.training_config(genotype, repeat) for repeat in range(SETTING.candidates)]
            assert config.seed != SETTING.of_seed(4).training_config(genotype).seed

    def test_its_costs_add_up(self, name, outcomes, guided, data):
        found = outcomes[name]
        full = [retraining_work(member.config, data, genotype=member.genotype) for member in found.pool]
        assert replace(found.retraining, seconds=0.0) == sum(full, Work())
        one, hyper = search_work(SETTING.search_config(), data), search_work(SETTING.hypernetwork_config(), data)
        short = replace(SETTING.training, epochs=SETTING.survey_epochs)
        survey = [retraining_work(short, data.survey(), genotype=each) for each in guided[1].genotypes]
        assert len(survey) == SETTING.survey
        expected = {
            **dict.fromkeys(GUIDED, survey),
            "darts": [one],
            "darts-ens": [one] * SETTING.size,
            "random-d-nes": [one],
            "deep-ens": [one],
            "edge-nes-supernet": [one, hyper],
            "edges": [one] + [search_work(SETTING.hypernetwork_config(lam=0.0), data)] * SETTING.size,
        }.get(name, [])
        if name != "halving":
            assert replace(found.search, seconds=0.0) == sum(expected, Work())
        assert (found.search.seconds > 0) == (found.search.images > 0)


def test_another_trainer_gives_the_same(outcomes, data):
    """These methods have every search, survey, draw and choice of the others."""
    another = LocalTrainer(data)
    for name in ("edge-nes-seeds", "edge-nes-supernet", "edges", "random-d-nes", "nes-re", "halving"):
        again = run_method(name, SETTING, another)
        assert again.members == outcomes[name].members and again.pool == outcomes[name].pool
        np.testing.assert_array_equal(again.predictions, outcomes[name].predictions)


class TestMethods:
    def test_no_method_sees_the_test_part(self, trainer):
        assert trainer.data.test is None

    def test_the_best_ensemble_is_chosen_on_validation_images(self, outcomes, trainer, data):
        for name in ("random-nes", "random-d-nes", "edge-nes", "predicted", "predicted-deep-ens"):
            pool = outcomes[name].pool
            predictions = np.stack([each.probabilities for each in trainer.retrain(pool)])
            best = select_ensemble(predictions, data.validation.labels, SETTING.size, SETTING.criterion)
            assert outcomes[name].members == tuple(pool[k] for k in best.members)

    def test_darts_ens_runs_independent_searches(self, outcomes, trainer):
        configs = [SETTING.search_config(run) for run in range(SETTING.size)]
        assert len({config.seed for config in configs}) == SETTING.size
        assert genotypes(outcomes["darts-ens"]) == [trainer.search(config).genotype for config in configs]

    def test_deep_ens_is_one_genotype_from_several_seeds(self, outcomes):
        assert set(genotypes(outcomes["deep-ens"])) == set(genotypes(outcomes["darts"]))
        assert outcomes["deep-ens"].members[0] == outcomes["darts"].members[0]

    def test_random_nes_and_nes_rs_have_one_pool(self, outcomes):
        assert outcomes["random-nes"].pool == outcomes["nes-rs"].pool
        assert outcomes["random"].members[0] == outcomes["random-nes"].pool[0]

    def test_deviations_spread_their_shared_edges(self, outcomes):
        optimal = genotypes(outcomes["darts"])[0]
        shared = [shared_edges(genotype, optimal) for genotype in deviations(optimal, SETTING, 5)]
        assert sorted(shared) == [0, 1, 2, 3, 4]
        assert len(set(deviations(optimal, SETTING, 30))) == 30

    def test_the_predicted_methods_take_the_predictors_genotypes(self, outcomes, guided):
        optimal, predictor = guided
        single, several, ensemble = (outcomes[f"predicted{end}"] for end in ("-single", "", "-deep-ens"))
        assert genotypes(single) == [optimal]
        assert {member.genotype for member in ensemble.pool} == {optimal} and single.pool[0] == ensemble.pool[0]
        best = predictor.best(SETTING.candidates, SETTING.generator("predicted"))
        assert [member.genotype for member in several.pool] == best

    def test_edge_nes_draws_from_the_guided_hypernetwork_what_computes_different_functions(
        self, outcomes, guided, trainer
    ):
        pool = [member.genotype for member in outcomes["edge-nes"].pool]
        assert len({canonical(genotype) for genotype in pool}) == len(pool)
        hypernetwork = trainer.hypernetwork(SETTING.hypernetwork_config(), *guided).hypernetwork
        drawn = baselines.hypernetwork_pool(hypernetwork, SETTING, functions=True)
        assert [member.genotype for member in drawn] == pool
        assert outcomes["edge-nes-supernet"].pool != outcomes["edge-nes"].pool

    def test_edges_searches_each_lambda_by_itself(self, outcomes, trainer):
        optimal = genotypes(outcomes["darts"])[0]
        assert optimal in [member.genotype for member in outcomes["edges"].pool]
        found = trainer.hypernetwork(SETTING.hypernetwork_config(1, lam=2.0), optimal)
        assert found.hypernetwork.genotype(2.0) in [member.genotype for member in outcomes["edges"].pool]

    def test_evolution_begins_with_random_genotypes_and_goes_on_by_single_edges(self, outcomes):
        pool = [member.genotype for member in outcomes["nes-re"].pool]
        first = max(SETTING.size, SETTING.candidates // 2)
        assert pool[:first] == SETTING.random_genotypes(first)
        for k, child in enumerate(pool[first:], start=first):
            assert any(shared_edges(child, parent) == SETTING.space.max_edges - 1 for parent in pool[:k])

    def test_a_collapsed_hypernetwork_is_trained_from_several_seeds(self):
        genotypes = SETTING.random_genotypes(2)
        pool = baselines._filled(genotypes, SETTING)
        assert len(pool) == len(set(pool)) == SETTING.candidates
        assert [member.genotype for member in pool] == [*genotypes, *genotypes, genotypes[0]]

    def test_a_member_is_told_by_plain_values(self, outcomes):
        member = outcomes["edge-nes"].members[0]
        assert Member.from_dict(member.to_dict()) == member


def test_a_search_that_ends_early_costs_its_epochs(data):
    config = SETTING.search_config()
    whole, half = search_work(config, data), search_work(config, data, epochs=1)
    assert whole.steps == 6 and half.steps == 2  # 2 steps an epoch; the first of 2 epochs is the warm-up
    assert whole.images - half.images == 2 * (32 + 4 * 8) and half.images == 2 * 32


class TestHalving:
    def test_rungs_halve_the_genotypes_and_double_the_epochs(self):
        assert [(r.genotypes, r.epochs) for r in rungs(12, 2, 3, 25)] == [(12, 3), (6, 6), (3, 12), (2, 24)]
        assert [(r.genotypes, r.epochs) for r in rungs(5, 5, 3, 25)] == [(5, 3)]

    def test_a_last_rung_that_is_to_be_full_costs_no_rung_of_its_own(self):
        assert [(r.genotypes, r.epochs) for r in rungs(14, 5, 4, 25, finish=True)] == [(14, 4), (7, 8), (5, 25)]

    def test_it_costs_what_edgenes_would_with_random_candidates(self, data):
        total = [search_work(SETTING.search_config(), data), search_work(SETTING.hypernetwork_config(), data)]
        total += [retraining_work(SETTING.training, data, genotype=SETTING.space)] * SETTING.candidates
        budget = sum(total, Work())
        plan = affordable_rungs(SETTING, data, budget, keep=3, finish=True)
        assert price(plan, data) <= budget.operations < 1.2 * price(plan, data)
        assert plan[-1].epochs == SETTING.training.epochs
        more = affordable_rungs(SETTING, data, Work(operations=2 * budget.operations), keep=3, finish=True)
        assert more[0].genotypes > plan[0].genotypes
        with pytest.raises(ConfigError, match="does not pay for 2 retrainings"):
            affordable_rungs(SETTING, data, Work(operations=10), keep=2, finish=True)


class Untrained:
    """A trainer that trains nothing: a network's predictions are noise of its own seed, a search's genotype random."""

    def __init__(self, data):
        self.data = data

    def search(self, config):
        return Searched((random_genotype(config.space, torch.Generator().manual_seed(config.seed)),) * config.epochs)

    def retrain(self, members):
        shape = np.ones(self.data.classes), len(self.data.validation)
        return [Prediction(np.random.default_rng(each.config.seed).dirichlet(*shape)) for each in members]


@pytest.mark.parametrize("name", POOLED)
def test_a_larger_pool_costs_as_many_operations_as_another_method(name, data):
    """On average over seeds: a genotype costs a third more or less than another."""
    asked, spent = 12 * retraining_work(SETTING.training, data, genotype=SETTING.space).operations, []
    for seed in range(2):
        setting = with_cost(SETTING.of_seed(seed), name, data, asked)
        assert setting == replace(SETTING, seed=seed, candidates=setting.candidates)
        outcome = run_method(name, setting, Untrained(data))
        spent.append(outcome.search.operations + outcome.retraining.operations)
    assert np.mean(spent) == pytest.approx(asked, rel=0.25)
    assert with_cost(SETTING, name, data, 0).candidates == SETTING.size


def test_a_space_costs_what_its_genotypes_cost_on_average(data):
    config = replace(SETTING.training, channels=3)
    space = SearchSpace(2, operations=("skip_connect", "sep_conv_3x3", "dil_conv_5x5"))
    every = [retraining_work(config, data, genotype=one).operations for one in enumerate_genotypes(space)]
    assert retraining_work(config, data, genotype=space).operations == pytest.approx(np.mean(every), rel=0.03)


def price(plan, data):
    """Operations of the rungs, of random genotypes."""
    epoch = retraining_work(replace(SETTING.training, epochs=1), data, genotype=SETTING.space).operations
    once = {rung.epochs: rung.genotypes for rung in plan[::-1]}  # rungs of the same epochs train nothing again
    return sum(epochs * genotypes * epoch for epochs, genotypes in once.items())


class TestWork:
    def test_operations_are_those_of_the_layers(self, data):
        """One cell of one node: stem 3x3, two 1x1 preprocessings, the operation, the classifier, counted by hand."""
        space = SearchSpace(nodes=1)
        pool = Genotype(space, (((Edge(0, "max_pool_3x3"),),),))
        conv = Genotype(space, (((Edge(0, "sep_conv_3x3"),),),))
        config = TrainingConfig(epochs=1, channels=2, cells=1, batch_size=32)
        images = 32 * (len(data.training) // 32)
        per_image = {
            name: retraining_work(config, data, genotype=one).operations // (3 * images)
            for name, one in (("pool", pool), ("conv", conv))
        }
        network = Network(pool, 1, 10, 2, 1)
        dense = sum(
            2 * p.numel() * (64 if p.dim() == 4 else 1) for name, p in network.named_parameters() if p.dim() > 1
        )
        assert per_image["pool"] == dense
        assert per_image["conv"] > per_image["pool"]

    def test_a_path_costs_less_than_one_operation_an_edge_and_that_less_than_all(self, data):
        works = [
            search_work(replace(SETTING.search_config(), forward=forward, gradient=gradient), data).operations
            for forward, gradient in (("sampled", "straight_through"), ("gdas", "score"), ("mixture", "score"))
        ]
        assert works == sorted(works) and len(set(works)) == 3

    def test_counting_draws_from_nobody(self, data):
        before = torch.get_rng_state()
        retraining_work(replace(SETTING.training, channels=4), data, genotype=SETTING.random_genotypes(1)[0])
        search_work(replace(SETTING.search_config(), channels=4, forward="mixture"), data)
        assert torch.equal(before, torch.get_rng_state())


def test_evolution_ends_where_a_parents_children_have_all_lived(monkeypatch):
    """Two nodes, one member: the best parent has fewer children than candidates are wanted."""
    small = {"space": SearchSpace(nodes=2)}
    setting = replace(
        SETTING,
        search=replace(SETTING.search, **small),
        hypernetwork=replace(SETTING.hypernetwork, **small),
        candidates=100,
        size=1,
    )
    monkeypatch.setattr(baselines, "_forward", lambda pool, *_: [0])
    pool, _ = baselines.nes_re(setting, None)
    assert len({member.genotype for member in pool}) == len(pool) == 100


class TestFixedLambda:
    def test_the_penalty_and_both_steps_have_one_lambda(self):
        config = SETTING.hypernetwork_config(lam=3.0)
        assert penalty_lambdas(config, torch.Generator()).tolist() == [3.0]
        assert training_lambda(config, torch.Generator()) == 3.0
        for lam in (-1.0, 4.5):
            with pytest.raises(ConfigError, match="lam"):
                SETTING.hypernetwork_config(lam=lam)

    @pytest.mark.parametrize("lam", [0.0, 3.0])
    def test_a_strong_penalty_reaches_it(self, data, lam):
        strong = replace(SETTING.hypernetwork, epochs=20, c_start=10.0, c_end=10.0, architecture_lr=0.3)
        optimal = SETTING.random_genotypes(1)[0]
        found = LocalTrainer(data).hypernetwork(
            replace(SETTING, hypernetwork=strong).hypernetwork_config(lam=lam), optimal
        )
        assert found.control_error == 0
        assert shared_edges(found.hypernetwork.genotype(lam), optimal) == lam


def test_an_ensemble_is_not_larger_than_its_pool():
    with pytest.raises(ConfigError, match="6"):
        replace(SETTING, size=6)
