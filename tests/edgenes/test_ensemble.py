"""The ensemble as an object that is saved, loaded and asked."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from edgenes import (
    Abstention,
    CheckpointError,
    ConfigError,
    Ensemble,
    TrainingConfig,
    load_data,
    predict,
    random_genotype,
)
from edgenes.checkpoint import save_checkpoint
from edgenes.methods.catalogue import logistic_regression
from edgenes.selection import Calibration
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import train_network
from tests.support.toys import assert_same, seeded

SPACE = SearchSpace(nodes=2)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def ensemble(digits):
    generator = seeded()
    configs = [TrainingConfig(channels=4, epochs=1, seed=seed) for seed in (0, 1)]
    networks = [train_network(config, digits, random_genotype(SPACE, generator)) for config in configs]
    return Ensemble.of(networks, configs, digits, {"dataset": "digits"})


def pixels(part):
    return part.images.transpose(0, 2, 3, 1)


def test_it_predicts_the_mean_of_its_members_on_raw_images(ensemble, digits):
    members = [np.exp(predict(network, digits.validation, digits)) for network in ensemble.networks]
    mean = np.mean(members, 0)
    np.testing.assert_allclose(ensemble.predict(pixels(digits.validation)), mean, atol=1e-5)
    np.testing.assert_allclose(ensemble.predict(pixels(digits.validation)[..., 0]), mean, atol=1e-5)


def test_the_earlier_format_is_read(ensemble, tmp_path):
    ensemble.save(tmp_path / "now")
    state = json.loads((tmp_path / "now" / "config.json").read_text())
    weights = [network.state_dict() for network in ensemble.networks]
    old = {name: state[name] for name in state if name not in ("kind", "format", "weights_sha256")}
    save_checkpoint(tmp_path / "ensemble.pt", "ensemble", old | {"weights": weights, "card": json.dumps(ensemble.card)})
    loaded = Ensemble.load(tmp_path)
    assert_same(loaded.state_dict(), ensemble.state_dict())
    assert loaded.card == ensemble.card


def test_one_network_twice_and_other_orders_in_memory_are_saved(ensemble, digits, tmp_path):
    network = pickle.loads(pickle.dumps(ensemble.networks[0])).to(memory_format=torch.channels_last)
    twice = Ensemble.of([network, network], ensemble.configs[:1] * 2, digits)
    twice.save(tmp_path)
    assert_same(Ensemble.load(tmp_path).state_dict(), twice.state_dict())


def test_a_card_for_people_is_one_that_the_hub_reads(ensemble, digits, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    scores = {"accuracy": 0.9, "standard_error": 0.01, "nll": 0.3, "nll_standard_error": 0.02, "note": "x"}
    card = {"dataset": "dig\nits: [x", "license": "mit", "test": scores, "members": [{"test": scores}, "odd"]}
    Ensemble.of(list(ensemble.networks), ensemble.configs, digits, card).save(tmp_path)
    header = hub.ModelCard.load(tmp_path / "README.md").data
    expected = {"license": "mit", "pipeline_tag": "image-classification", "library_name": "edgenes"}
    assert expected.items() <= vars(header).items()
    assert {(each.metric_type, each.metric_value) for each in header.eval_results} == {("accuracy", 0.9), ("nll", 0.3)}
    text = (tmp_path / "README.md").read_text()
    assert text.count("| 0.9000 ± 0.0100 | 0.3000 ± 0.0200 |") == 2
    assert text.count("▶ node") == sum(
        len(edges) for network in ensemble.networks for edges in network.genotype.cells[0]
    )


def test_it_comes_from_a_folder_and_from_the_hub(ensemble, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    snapshot = tmp_path / "models--me--mine" / "snapshots" / ("0" * 40)
    ensemble.save(snapshot)
    refs = tmp_path / "models--me--mine" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    kept = {"cache_dir": tmp_path, "local_files_only": True}
    for found in (Ensemble.from_pretrained(snapshot), Ensemble.from_pretrained("me/mine", **kept)):
        assert_same(found.state_dict(), ensemble.state_dict())
    for name in ("me/other", "no name at all"):
        with pytest.raises(CheckpointError, match=name):
            Ensemble.from_pretrained(name, **kept)


def test_it_is_pushed_whole(ensemble, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    monkeypatch.setattr(hub, "create_repo", lambda repo, **options: f"https://hub/{repo}")
    monkeypatch.setattr(hub, "upload_folder", lambda folder_path, **_: shutil.copytree(folder_path, tmp_path / "repo"))
    assert ensemble.push_to_hub("me/mine") == "https://hub/me/mine"
    assert {path.name for path in (tmp_path / "repo").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert_same(Ensemble.load(tmp_path / "repo").state_dict(), ensemble.state_dict())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="no name"):
        ensemble.push_to_hub("no name at all")


def test_without_the_extra_the_hub_says_what_to_install(ensemble, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (lambda: Ensemble.from_pretrained("me/mine"), lambda: ensemble.push_to_hub("me/mine")):
        with pytest.raises(ConfigError, match=r"edgenes-studio\[hub\]"):
            ask()


@pytest.mark.parametrize("weights", [None, (0.75, 0.25)])
def test_its_uncertainty_is_that_of_its_members_and_of_what_it_predicts(ensemble, digits, weights):
    networks = list(ensemble.networks)
    one = Ensemble.of(networks, ensemble.configs, digits, weights=weights)
    found = one.uncertainty(pixels(digits.validation), batch_size=100)
    members = np.stack([predict(network, digits.validation, digits) for network in networks])
    np.testing.assert_allclose(found.members, np.exp(members), atol=1e-5)
    mean = one.predict(pixels(digits.validation)).astype(float)
    np.testing.assert_allclose(found.entropy, -(mean * np.log(mean)).sum(-1), atol=1e-5)
    assert found.epistemic.max() > 0.01


@pytest.mark.parametrize(
    "calibration", [None, Calibration((2.0,), (0.0,)), Calibration((2.0,) * 10, (0.1,) * 5 + (0.0,) * 5)]
)
def test_its_weights_and_calibration_are_applied_and_saved(ensemble, digits, tmp_path, calibration):
    networks, images = list(ensemble.networks), pixels(digits.validation)
    one = Ensemble.of(networks, ensemble.configs, digits, ensemble.card, (0.75, 0.25), calibration)
    one.save(tmp_path)
    loaded = Ensemble.load(tmp_path)
    assert np.array_equal(loaded.predict(images), one.predict(images))
    first, second = (np.exp(predict(network, digits.validation, digits)) for network in networks)
    mean = 0.75 * first + 0.25 * second
    expected = mean if calibration is None else calibration.apply(mean)
    np.testing.assert_allclose(loaded.predict(images), expected, atol=1e-5)
    assert loaded.calibration == calibration
    assert loaded.card == {"dataset": "digits"} and loaded.class_names == digits.class_names
    assert Ensemble.load(tmp_path / "model.safetensors").card == loaded.card


def test_a_calibration_of_other_classes_is_refused(ensemble, digits):
    with pytest.raises(ConfigError, match="calibration"):
        other = Calibration((1.0,) * 3, (0.0,) * 3)
        Ensemble.of(list(ensemble.networks), ensemble.configs, digits, calibration=other)


def test_it_abstains_by_the_rules_that_it_was_saved_with(ensemble, digits, tmp_path):
    images, labels = pixels(digits.validation), digits.validation.labels
    probabilities = ensemble.predict(images)
    rules = Abstention.rules(probabilities, labels)
    Ensemble.of(list(ensemble.networks), ensemble.configs, digits, abstentions=rules).save(tmp_path)
    loaded, error = Ensemble.load(tmp_path), rules[len(rules) // 2].error
    found, accepted = loaded.predict(images, abstain=error)
    assert np.array_equal(found, probabilities) and 0 < accepted.sum() < len(labels)
    rule = loaded.abstention(error)
    assert rule == Abstention.fit(probabilities, labels, error) and accepted.mean() == pytest.approx(rule.coverage)
    with pytest.raises(ConfigError, match="at best"):
        loaded.predict(images, abstain=rules[0].error / 2)
    with pytest.raises(ConfigError, match="no rules"):
        ensemble.predict(images, abstain=error)


def test_it_predicts_by_its_weights_as_they_are_now(ensemble, digits):
    copied = pickle.loads(pickle.dumps(ensemble))
    before = copied.predict(pixels(digits.validation))
    assert np.array_equal(before, ensemble.predict(pixels(digits.validation)))
    copied.load_state_dict({name: value * 0 for name, value in copied.state_dict().items()})
    np.testing.assert_allclose(copied.predict(pixels(digits.validation)), 0.1, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.6), (-0.5, 1.5), ("a", "b")])
def test_weights_that_are_no_shares_are_refused(ensemble, digits, weights):
    with pytest.raises(ConfigError, match="weights"):
        Ensemble.of(list(ensemble.networks), ensemble.configs, digits, weights=weights)


def test_predict_evaluates_and_leaves_each_mode_as_it_was(ensemble, digits):
    images = pixels(digits.validation)
    expected = ensemble.predict(images)
    ensemble.networks[1].train()
    modes = [module.training for module in ensemble.modules()]
    assert np.array_equal(ensemble.predict(images), expected)
    with pytest.raises(ConfigError):
        ensemble.predict(images[:, :4])
    assert [module.training for module in ensemble.modules()] == modes
    ensemble.eval()
    assert np.array_equal(ensemble.predict(images), expected)


def test_logistic_regression_learns_digits(digits):
    validation, test = logistic_regression(digits, [digits.validation, digits.test])
    assert (test.argmax(1) == digits.test.labels).mean() > 0.9
    np.testing.assert_allclose(validation.sum(1), 1, atol=1e-5)
