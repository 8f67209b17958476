"""The ensemble as an object that is saved, loaded and asked."""

import numpy as np
import pytest
import torch

from edgenes import CheckpointError, ConfigError, Ensemble, TrainingConfig, load_data, predict, random_genotype
from edgenes.methods.catalogue import logistic_regression
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network, train_network

SPACE = SearchSpace(nodes=2)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def ensemble(digits):
    generator = torch.Generator().manual_seed(0)
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


def test_a_saved_one_predicts_the_same(ensemble, digits, tmp_path):
    ensemble.save(tmp_path)
    loaded = Ensemble.load(tmp_path)
    assert loaded.card == {"dataset": "digits"} and loaded.class_names == digits.class_names
    assert np.array_equal(loaded.predict(pixels(digits.validation)), ensemble.predict(pixels(digits.validation)))


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8), np.float32), np.zeros((2, 9, 9), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)]
)
def test_other_images_are_refused(ensemble, images):
    with pytest.raises(ConfigError, match="expected uint8 images"):
        ensemble.predict(images)


def test_a_damaged_file_is_refused(ensemble, tmp_path):
    ensemble.save(tmp_path)
    path = tmp_path / "ensemble.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        Ensemble.load(tmp_path)


def test_the_same_configuration_makes_the_same_network(digits):
    genotype = random_genotype(SPACE, torch.Generator().manual_seed(3))
    one, two = (make_network(TrainingConfig(seed=5), genotype, 1, 10).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_logistic_regression_learns_digits(digits):
    validation, test = logistic_regression(digits, [digits.validation, digits.test])
    assert (test.argmax(1) == digits.test.labels).mean() > 0.9
    np.testing.assert_allclose(validation.sum(1), 1, atol=1e-5)
