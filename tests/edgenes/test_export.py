"""An ensemble for other runtimes gives the numbers of `predict` and `uncertainty`."""

import sys

import numpy as np
import pytest
import torch

from edgenes import ConfigError, Ensemble, TrainingConfig, Uncertainty, random_genotype
from edgenes.selection import Calibration
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tests.support.toys import blobs, seeded

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)


@pytest.fixture
def ensemble():
    """Two untrained networks, weighted and calibrated."""
    config = TrainingConfig(channels=4, cells=1)
    torch.manual_seed(0)
    networks = [make_network(config, random_genotype(SearchSpace(nodes=2), seeded(k)), 1, 3) for k in (0, 1)]
    return Ensemble.of(networks, [config] * 2, blobs(), None, (0.75, 0.25), Calibration((2.0,), (0.0,)))


def check(ensemble, probabilities, uncertainty):
    np.testing.assert_allclose(probabilities, ensemble.predict(IMAGES), atol=1e-5)
    expected = ensemble.uncertainty(IMAGES)
    for name in ("members", "entropy", "epistemic"):
        np.testing.assert_allclose(getattr(uncertainty, name), getattr(expected, name), atol=1e-5)


def test_the_exported_module_is_a_copy_with_all_that_follows_from_the_pixels(ensemble):
    exported = ensemble.train().exported()
    probabilities, entropy, members = (each.numpy() for each in exported(torch.from_numpy(IMAGES)))
    check(ensemble, probabilities, Uncertainty.of(members, ensemble.weights))
    np.testing.assert_allclose(entropy, -(probabilities * np.log(probabilities)).sum(1), atol=1e-5)
    assert ensemble.training and not exported.training
    with torch.no_grad():
        ensemble.networks[0].classifier.weight.zero_()
    assert np.array_equal(exported(torch.from_numpy(IMAGES))[0], probabilities)


@pytest.mark.slow
def test_in_onnxruntime(ensemble):
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    fast = ensemble.accelerate()
    check(ensemble, fast.predict(IMAGES, batch_size=2), fast.uncertainty(IMAGES, batch_size=2))
    check(ensemble, fast.predict(list(IMAGES.astype(float) / 255)), fast.uncertainty(IMAGES[..., 0]))
    assert fast.predict(IMAGES[0]).shape == (1, 3)
    with pytest.raises(ConfigError, match="8, 8, 1"):
        fast.predict(IMAGES[:, :5])


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_without_its_packages(ensemble, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match="export"):
        ensemble.accelerate()
