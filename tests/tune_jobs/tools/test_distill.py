"""One network learned from an ensemble: on its answers, stored once, and saved as an ensemble that tools read."""

import json
import shutil

import numpy as np
import pytest

from edgenes.ensemble import Ensemble
from edgenes.metrics import summary
from edgenes.training.retraining import predict, train_network
from tune_jobs.__main__ import main
from tune_jobs.study.result import test_reads as reads_of_test
from tune_jobs.study.saved import open_saved
from tune_jobs.tools import distill as tool
from tune_jobs.tools.machine import threads


def distilled(folder, capsys, *options):
    assert main(["distill", str(folder), "--json", *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def ensemble(finished):
    return Ensemble.load(finished / "ensemble")


def test_it_is_trained_on_the_ensembles_answers_to_w_and_h_and_scored_on_v(study, ensemble, capsys):
    reads = reads_of_test(study)
    answer = distilled(study, capsys, "--member", 2, "--epochs", 2)
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


def test_it_is_trained_once_for_an_ensemble_and_tools_read_it(study, capsys, tmp_path):
    first = distilled(study, capsys)
    again = distilled(study / "ensemble", capsys, "--out", tmp_path / "copy")
    assert again["cached"] and again["validation"]["distilled"]["nll"] == first["validation"]["distilled"]["nll"]
    assert main(["distill", str(study)]) == 1
    assert "not overwritten" in capsys.readouterr().err
    assert main(["evaluate", first["folder"], "--out", str(tmp_path / "page")]) == 0


def test_the_member_with_the_largest_weight_comes_first_and_of_equals_the_best(ensemble):
    labels = np.array([0, 1])
    good, bad = np.array([[0.9, 0.1], [0.1, 0.9]]), np.full((2, 2), 0.5)
    command = tool.Distill(ensemble="unread")
    assert tool.chosen_member(command, ensemble, np.stack([bad, good]), labels) == 1
    assert tool.chosen_member(command, ensemble, np.stack([good, bad]), labels) == 0
    ensemble.weights = (0.4, 0.6)
    assert tool.chosen_member(command, ensemble, np.stack([good, bad]), labels) == 1


def test_what_cannot_be(study, tmp_path, capsys):
    alone = shutil.copytree(study / "ensemble", tmp_path / "alone" / "deep" / "ensemble")
    for place, options, why in (
        (study, ["--member", "3"], "1 to 2"),
        (study, ["--epochs", "0"], "epochs"),
        (alone, [], "no study"),
    ):
        assert main(["distill", str(place), *options]) == 1
        assert why in capsys.readouterr().err
