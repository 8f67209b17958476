"""The survey: fair genotypes, trained on W and scored on H alone, and the optimal one that two numbers choose."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Part
from edgenes.methods.budget import Setting
from edgenes.methods.result import Member
from edgenes.methods.survey import confirmed, contenders, fitted, guided_search, losses_on_h, surveyed
from edgenes.methods.trainer import LocalTrainer
from edgenes.metrics import nll
from edgenes.space.genotype import Edge, SearchSpace, random_genotypes
from tests.support.toys import blobs, seeded


def setting_of(space, **changes):
    return Setting(
        search=SearchConfig(space=space),
        hypernetwork=HypernetworkConfig(space=space),
        training=TrainingConfig(epochs=9, channels=2, cells=1, batch_size=32),
        **changes,
    )


SETTING = setting_of(SearchSpace(2), survey=10, survey_epochs=1, confirmed=2)


class Sealed(Part):
    """A part whose images and labels nobody may touch."""

    def __init__(self):
        pass

    def __getattribute__(self, name):
        if name in ("images", "labels"):
            raise AssertionError("a part that the survey must not see was read")
        return super().__getattribute__(name)

    def __len__(self):
        raise AssertionError("a part that the survey must not see was counted")


def test_neither_v_nor_t_is_read():
    expected, predictor = guided_search(SETTING, LocalTrainer(blobs()))
    trainer = LocalTrainer(blobs())
    for name in ("validation", "test"):
        object.__setattr__(trainer.data, name, Sealed())
    genotype, again = guided_search(SETTING, trainer)
    assert genotype == expected and again.digest == predictor.digest
    with pytest.raises(AssertionError, match="must not see"):
        trainer.retrain(SETTING.training_config(genotype, epochs=1), genotype)


def test_its_data_are_w_to_train_on_and_h_to_score_on():
    data = blobs()
    survey = data.survey()
    assert survey.training is data.weights and survey.validation is data.architecture and survey.test is None
    assert survey.digest == blobs().survey().digest
    assert len({survey.digest, data.digest, blobs(seed=1).survey().digest, survey.survey().digest}) == 4
    trainer = LocalTrainer(data)
    member = surveyed(SETTING)[0]
    predicted = trainer.survey(member.config, member.genotype).probabilities
    assert losses_on_h([member], trainer) == [nll(predicted, data.architecture.labels)]


@pytest.mark.parametrize("space", [SearchSpace(), SearchSpace(3, 2, ("normal", "reduction"))])
def test_every_choice_of_a_node_is_about_equally_often_among_distinct_genotypes(space):
    setting = setting_of(space, survey=63)
    members = surveyed(setting)
    assert len({member.genotype for member in members}) == 63
    for c in range(len(space.cell_types)):
        for node in range(space.nodes):
            chosen = Counter(edge for member in members for edge in member.genotype.cells[c][node])
            counts = [chosen[Edge(k, name)] for k in range(node + 2) for name in space.operations]
            assert sum(counts) == 63 * space.inputs_per_node and max(counts) - min(counts) <= 2


def test_a_small_space_is_surveyed_whole():
    setting = setting_of(SearchSpace(1), survey=40)
    assert len({member.genotype for member in surveyed(setting)}) == 14


def test_each_retraining_is_short_and_of_its_own_seed():
    members = surveyed(SETTING)
    rivals = contenders(SETTING, fitted(SETTING, members, np.arange(1.0, 11)))
    assert len(rivals) == SETTING.confirmed
    every = [*members, *rivals]
    assert len({member.config.seed for member in every}) == len(every), "what was surveyed is confirmed from another"
    assert {replace(member.config, seed=0) for member in every} == {replace(SETTING.training, epochs=1, seed=0)}


def test_another_seed_gives_other_genotypes():
    setting = setting_of(SearchSpace(), survey=48)
    one, same, other = (surveyed(setting.of_seed(seed)) for seed in (0, 0, 1))
    assert one == same
    assert len({member.genotype for member in one} & {member.genotype for member in other}) <= 1
    assert not {member.config.seed for member in one} & {member.config.seed for member in other}


def test_the_confirmed_genotype_is_best_by_both_numbers():
    genotypes = random_genotypes(SETTING.space, 3, seeded())

    class Given:
        def predict(self, asked):
            return np.array([[1.0, 1.2, 2.0][genotypes.index(each)] for each in asked]), np.zeros(len(asked))

    members = [Member(genotype, SETTING.training_config(genotype)) for genotype in genotypes]
    assert confirmed(Given(), members, [3.0, 1.1, 1.0]) == genotypes[1], "neither the best predicted nor measured"
    assert confirmed(Given(), members[::-1], [0.1, 1.1, 3.0]) == genotypes[2]


@pytest.mark.parametrize("cells", [1, 2])
def test_a_cells_inputs_are_the_same_data_in_networks_of_one_cell(cells):
    setting = replace(SETTING, training=replace(SETTING.training, cells=cells))
    assert fitted(setting, surveyed(setting), np.ones(10)).same_inputs == (cells == 1)
