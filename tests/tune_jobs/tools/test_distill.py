"""One network learned from an ensemble: on its answers, stored once, and saved as an ensemble that tools read."""

import shutil

import numpy as np
import pytest

from edgenes.ensemble import Ensemble
from edgenes.metrics import summary
from edgenes.training.retraining import predict, train_network
from tune_jobs.study.result import test_reads as reads_of_test
from tune_jobs.study.saved import open_saved
from tune_jobs.tools import distill as tool
from tune_jobs.tools.machine import threads


@pytest.fixture
def ensemble(finished):
    return Ensemble.load(finished / "ensemble")


def test_it_is_trained_on_the_ensembles_answers_to_w_and_h_and_scored_on_v(study, ensemble, answered):
    reads = reads_of_test(study)
    answer = answered("distill", study, "--member", 2, "--epochs", 2)
    assert (answer["member"], answer["epochs"], answer["cached"]) == (2, 2, False)
    assert reads_of_test(study) == reads
    student = Ensemble.load(answer["folder"])
    [network], [config] = student.networks, student.configs
    assert network.genotype == ensemble.networks[1].genotype and config.seed == ensemble.configs[1].seed
    data = open_saved(study).data()
    images, labels = data.validation.images.transpose(0, 2, 3, 1), data.validation.labels
    for name, one in (("distilled", student), ("ensemble", ensemble)):
        found = answer["validation"][name]
        assert found.pop("milliseconds") > 0
        assert found == pytest.approx(summary(one.predict(images), labels))
    with threads(1):
        targets = ensemble.predict(data.training.images.transpose(0, 2, 3, 1))
        expected = train_network(config, data, network.genotype, targets=targets)
        labelled = train_network(config, data, network.genotype)
        logs = [predict(each, data.validation, data) for each in (network, expected, labelled)]
    assert np.array_equal(logs[0], logs[1]) and not np.array_equal(logs[0], logs[2])


def test_it_is_trained_once_for_an_ensemble_and_not_overwritten(study, tmp_path, answered, refused):
    first = answered("distill", study)
    again = answered("distill", study / "ensemble", "--out", tmp_path / "copy")
    assert again["cached"] and again["validation"]["distilled"]["nll"] == first["validation"]["distilled"]["nll"]
    assert "not overwritten" in refused("distill", study)


def test_the_member_with_the_largest_weight_comes_first_and_of_equals_the_best(ensemble):
    labels = np.array([0, 1])
    good, bad = np.array([[0.9, 0.1], [0.1, 0.9]]), np.full((2, 2), 0.5)
    command = tool.Distill(ensemble="unread")
    assert tool.chosen_member(command, ensemble, np.stack([bad, good]), labels) == 1
    assert tool.chosen_member(command, ensemble, np.stack([good, bad]), labels) == 0
    ensemble.weights = (0.4, 0.6)
    assert tool.chosen_member(command, ensemble, np.stack([good, bad]), labels) == 1


def test_what_cannot_be(study, tmp_path, refused):
    alone = shutil.copytree(study / "ensemble", tmp_path / "alone" / "deep" / "ensemble")
    for place, options, why in (
        (study, ["--member", "3"], "1 to 2"),
        (study, ["--epochs", "0"], "epochs"),
        (alone, [], "no study"),
    ):
        assert why in refused("distill", place, *options)
