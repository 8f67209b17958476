"""The survey: fair genotypes, trained on W and scored on H alone, and the optimal one that two numbers choose."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Part
from edgenes.methods.budget import Setting
from edgenes.methods.survey import (
    best_members,
    fair_members,
    guided_search,
    losses_on_h,
    optimal_genotype,
    round_sizes,
    survey,
)
from edgenes.methods.trainer import LocalTrainer, Member
from edgenes.metrics import nll
from edgenes.space.encoding import canonical
from edgenes.space.genotype import Edge, SearchSpace, random_genotypes
from tests.support.toys import blobs, seeded


def setting_of(space, **changes):
    return Setting(
        search=SearchConfig(space=space),
        hypernetwork=HypernetworkConfig(space=space),
        training=TrainingConfig(epochs=9, channels=2, cells=1, batch_size=32),
        **changes,
    )


SETTING = setting_of(SearchSpace(2), survey=13, survey_epochs=1)


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
        trainer.retrain([Member(genotype, SETTING.training_config(genotype, epochs=1))])


def test_its_data_are_w_to_train_on_and_h_to_score_on():
    data = blobs()
    halves = data.survey()
    assert halves.training is data.weights and halves.validation is data.architecture and halves.test is None
    assert halves.digest == blobs().survey().digest
    assert len({halves.digest, data.digest, blobs(seed=1).survey().digest, halves.survey().digest}) == 4
    trainer = LocalTrainer(data)
    member = fair_members(SETTING, 1)[0]
    predicted = trainer.survey([member])[0].probabilities
    assert losses_on_h([member], trainer)[0] == nll(predicted, data.architecture.labels)


@pytest.mark.parametrize("space", [SearchSpace(), SearchSpace(3, 2, ("normal", "reduction"))])
def test_every_choice_of_a_node_is_about_equally_often_among_distinct_genotypes(space):
    members = fair_members(setting_of(space), 63)
    assert len({member.genotype for member in members}) == 63
    for c in range(len(space.cell_types)):
        for node in range(space.nodes):
            chosen = Counter(edge for member in members for edge in member.genotype.cells[c][node])
            counts = [chosen[Edge(k, name)] for k in range(node + 2) for name in space.operations]
            assert sum(counts) == 63 * space.inputs_per_node and max(counts) - min(counts) <= 2


def planted(measured):
    """Measures a round: pools are bad, but all of them; `measured` hears the rounds."""

    def measure(k, members):
        measured.append(members)
        return [(m, 1 + str(m.genotype).count("pool") + 0.01 * (int(m.genotype.digest, 16) % 7)) for m in members]

    return measure


@pytest.mark.parametrize(
    ("nodes", "asked", "sizes"), [(4, 48, [32, 8, 8]), (2, 13, [10, 2, 1]), (2, 10, [10, 0, 0]), (1, 40, [10, 2, 2])]
)
def test_the_rounds_add_up_to_the_survey_or_to_a_small_space(nodes, asked, sizes):
    setting = setting_of(SearchSpace(nodes), survey=asked)
    assert round_sizes(setting) == sizes
    rounds = []
    survey(setting, planted(rounds))
    every = [member.genotype for members in rounds for member in members]
    assert len(set(every)) == len(every) <= sum(sizes)
    assert len(rounds[0]) == sizes[0]


def test_later_rounds_have_the_best_predicted_of_what_is_left():
    rounds = []
    setting = setting_of(SearchSpace(), survey=60)
    predictor = survey(setting, planted(rounds))
    assert [len(members) for members in rounds] == [40, 10, 10]
    assert not any("pool" in str(member.genotype) for members in rounds[1:] for member in members)
    assert "pool" not in str(optimal_genotype(predictor)) and len(predictor.genotypes) == 60
    seen = {canonical(genotype, True) for genotype in predictor.genotypes}
    further = best_members(setting, predictor, 5, 3)
    assert len(further) == 5 and not {member.genotype for member in further} & seen


def test_each_retraining_is_short_and_of_its_own_seed():
    rounds = []
    survey(SETTING, planted(rounds))
    every = [member for members in rounds for member in members]
    assert len({member.config.seed for member in every}) == len(every)
    assert {replace(member.config, seed=0) for member in every} == {replace(SETTING.training, epochs=1, seed=0)}


def test_another_seed_gives_other_genotypes():
    setting = setting_of(SearchSpace())
    one, same, other = (fair_members(setting.of_seed(seed), 48) for seed in (0, 0, 1))
    assert one == same
    assert len({member.genotype for member in one} & {member.genotype for member in other}) <= 1
    assert not {member.config.seed for member in one} & {member.config.seed for member in other}


def test_the_optimal_genotype_is_best_by_both_numbers():
    class Given:
        genotypes = random_genotypes(SETTING.space, 3, seeded())
        losses = np.array([3.0, 1.1, 1.0])

        def predict(self, _):
            return np.array([1.0, 1.2, 2.0]), np.zeros(3)

    assert optimal_genotype(Given()) == Given.genotypes[1], "neither the best predicted nor measured"


@pytest.mark.parametrize("cells", [1, 2])
def test_a_cells_inputs_are_the_same_data_in_networks_of_one_cell(cells):
    setting = replace(SETTING, training=replace(SETTING.training, cells=cells))
    assert survey(setting, planted([])).same_inputs == (cells == 1)
