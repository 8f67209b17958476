"""The study of the premise: pairs of real networks, and conclusions from known gains."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from edgenes.methods.trainer import LocalTrainer
from edgenes.metrics import ensemble_probabilities, nll
from edgenes.space.genotype import SearchSpace
from studies.diversity import EQUAL, OWN, _gain, conclusions, findings, measure_pairs
from tests.edgenes.methods.test_survey import setting_of
from tests.support.toys import blobs

SLOPES = [0.01, 0.012, 0.009, 0.011, 0.01]


def pairs(lost: float, same: float) -> pd.DataFrame:
    """Five searches in which a pair gains .2 of the members' NLL, less `lost` a shared edge; one genotype, `same`."""
    rows = []
    for seed, noise in enumerate(SLOPES):
        for seeds in (OWN, EQUAL):
            for shared in range(4):
                share = 0.2 + noise - lost * shared * (1 + noise)
                rows.append({"seed": seed, "shared": shared, "seeds": seeds, "share": share})
        rows.append({"seed": seed, "shared": 4, "seeds": OWN, "share": same + 0.1 * noise})
    return pd.DataFrame(rows).assign(member=0.5, gain=0.1, disagreement=0.05)


def test_different_genotypes_are_compared_with_two_seeds_of_one():
    assert "above one genotype" in conclusions(pairs(0.0, 0.1))[0]


def test_a_gain_that_falls_with_shared_edges_is_said_to_and_one_that_does_not_is_not():
    assert sum("below no change" in sentence for sentence in conclusions(pairs(0.03, 0.1))) == 2
    assert not any("below no change" in sentence for sentence in conclusions(pairs(0.0, 0.1)))


def test_the_page_has_the_pairs_and_a_row_a_distance():
    found = findings(pairs(0.01, 0.1))
    assert len(found.sections[0].table) == 4 * 2 + 1 and len(found.frames["pairs"]) == 45


def test_the_pairs_of_a_search_have_every_distance_and_the_seeds_that_they_name():
    setting = setting_of(SearchSpace(2), survey=10, survey_epochs=1)
    bench = SimpleNamespace(trainer=LocalTrainer(blobs()), data=blobs(), of_seed=setting.of_seed)
    trained, survey = [], bench.trainer.survey
    bench.trainer.survey = lambda members: trained.extend(members) or survey(members)
    rows = measure_pairs({"seed": 0, "bases": 1, "partners": 2}, bench)["pairs"]
    assert [(row["shared"], row["seeds"]) for row in rows] == [
        *[(shared, seeds) for shared in (0, 1) for _ in range(2) for seeds in (OWN, EQUAL)],
        *[(2, OWN)] * 2,
    ]
    (base, first), *rest = ((member.genotype, member.config) for member in trained)
    for row, (genotype, config) in zip(rows, rest, strict=True):
        assert (config.seed == first.seed) == (row["seeds"] == EQUAL)
        assert (genotype == base) == (row["shared"] == 2)


def test_the_gain_is_the_mean_members_loss_less_the_pairs():
    first, second = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.5, 0.5], [0.2, 0.8]])
    labels = np.array([0, 1])
    found = _gain(first, second, labels)
    pair = nll(ensemble_probabilities(np.stack([first, second])), labels)
    assert found["gain"] == pytest.approx((nll(first, labels) + nll(second, labels)) / 2 - pair) and found["gain"] > 0
    assert found["share"] == pytest.approx(found["gain"] / found["member"]) and found["disagreement"] == 0
