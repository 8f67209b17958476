"""The store of retrained candidates: one training each, resumed bit for bit, damage set aside."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from edgenes.config import TrainingConfig
from edgenes.data.dataset import build_dataset
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.training.retraining import predict
from tests.support.toys import blobs, seeded
from tune_jobs.files import candidate_store as store_module
from tune_jobs.files.candidate_store import PredictionStore

DATA = blobs()
SPACE = SearchSpace(nodes=1, inputs_per_node=1)
GENOTYPE = random_genotype(SPACE, seeded(1))
CONFIG = TrainingConfig(channels=4, cells=1, epochs=3, batch_size=32, seed=5)


@pytest.fixture
def store(tmp_path):
    return PredictionStore(tmp_path / "predictions")


@pytest.fixture
def reference(tmp_path):
    """The candidate, trained without interruption in a store of its own."""
    return PredictionStore(tmp_path / "reference").retrained(CONFIG, DATA, GENOTYPE, weights=True)


class Stopped(Exception):
    pass


@pytest.fixture
def saved_epochs(monkeypatch):
    """Saves an unfinished training after each epoch, notes the epochs, and stops after the epochs in `stop`."""
    monkeypatch.setattr(store_module, "SAVE_EVERY", 0)
    save, epochs = store_module.save_checkpoint, []

    def noting(path, kind, state):
        save(path, kind, state)
        if kind == "training":
            epochs.append(state["epoch"])
            if state["epoch"] in noting.stop:
                raise Stopped

    noting.stop, noting.epochs = set(), epochs
    monkeypatch.setattr(store_module, "save_checkpoint", noting)
    return noting


def assert_same(found, expected):
    assert np.array_equal(found.log_probabilities, expected.log_probabilities)
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(value, expected.weights[name]) for name, value in found.weights.items())


def test_a_candidate_is_trained_once_and_read_back_equal(store):
    first = store.retrained(CONFIG, DATA, GENOTYPE)
    second = store.retrained(CONFIG, DATA, GENOTYPE)
    assert (first.cached, second.cached) == (False, True)
    assert first.key == second.key and first.seconds == second.seconds > 0
    assert np.array_equal(first.log_probabilities, second.log_probabilities)
    assert first.log_probabilities.shape == (len(DATA.validation), DATA.classes)
    assert second.probabilities.sum(1) == pytest.approx(1, abs=1e-6)


def test_two_workers_at_once_train_a_candidate_once(store):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: store.retrained(CONFIG, DATA, GENOTYPE), range(2)))
    assert sorted(record.cached for record in found) == [False, True]
    assert np.array_equal(found[0].log_probabilities, found[1].log_probabilities)


def test_the_key_names_what_decides_a_training_and_not_the_device():
    replace = dataclasses.replace
    keys = [
        store_key
        for config in (CONFIG, replace(CONFIG, seed=6), replace(CONFIG, epochs=4), replace(CONFIG, channels=8))
        for store_key in (
            PredictionStore.key(config, DATA, GENOTYPE),
            PredictionStore.key(config, blobs(seed=1), GENOTYPE),
            PredictionStore.key(config, DATA, random_genotype(SPACE, seeded(3))),
        )
    ]
    assert random_genotype(SPACE, seeded(3)) != GENOTYPE
    assert len(set(keys)) == 12
    assert PredictionStore.key(replace(CONFIG, device="cuda"), DATA, GENOTYPE) == keys[0]


def test_workers_that_lack_the_test_part_share_the_key():
    parts = (DATA.weights, DATA.architecture, DATA.validation, blobs(seed=1).validation)
    whole = build_dataset("blobs", DATA.class_names, *parts)
    lacking = whole.without_test()
    assert whole.test is not None and lacking.test is None
    assert PredictionStore.key(CONFIG, lacking, GENOTYPE) == PredictionStore.key(CONFIG, whole, GENOTYPE)


def test_a_record_without_weights_is_trained_again_when_they_are_asked_for(store):
    plain = store.retrained(CONFIG, DATA, GENOTYPE)
    assert plain.weights is None and store.find(plain.key, weights=True) is None
    full = store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert not full.cached
    assert np.array_equal(full.log_probabilities, plain.log_probabilities)
    for weights in (False, True):
        assert store.retrained(CONFIG, DATA, GENOTYPE, weights=weights).cached


def test_stored_weights_give_the_stored_predictions(store):
    record = store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    network = store.network(store.find(record.key, weights=True), CONFIG, DATA, GENOTYPE)
    assert np.array_equal(predict(network, DATA.validation, DATA), record.log_probabilities)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_interrupted_training_goes_on_to_the_same_bits(store, reference, saved_epochs, last):
    saved_epochs.stop.add(last)
    with pytest.raises(Stopped):
        store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert saved_epochs.epochs == list(range(last + 1))
    assert store.find(reference.key) is None
    unfinished = store.folder / f"{reference.key}.unfinished"
    earlier = torch.load(unfinished, weights_only=True)["seconds"]
    saved_epochs.stop.clear()
    saved_epochs.epochs.clear()
    found = store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert saved_epochs.epochs == list(range(last + 1, 3)), "epochs that were done are not done again"
    assert not found.cached and found.seconds > earlier
    assert_same(found, reference)
    assert not unfinished.exists()


def test_a_damaged_unfinished_training_starts_again(store, reference, saved_epochs):
    saved_epochs.stop.add(1)
    with pytest.raises(Stopped):
        store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    unfinished = store.folder / f"{reference.key}.unfinished"
    unfinished.write_bytes(unfinished.read_bytes()[:100])
    saved_epochs.stop.clear()
    saved_epochs.epochs.clear()
    assert_same(store.retrained(CONFIG, DATA, GENOTYPE, weights=True), reference)
    assert saved_epochs.epochs == [0, 1, 2]


def test_a_damaged_record_is_set_aside_and_computed_again(store, reference, caplog):
    path = store.folder / f"{store.retrained(CONFIG, DATA, GENOTYPE, weights=True).key}.pt"
    content = bytearray(path.read_bytes())
    content[content.index(reference.log_probabilities.tobytes()) + 5] ^= 1  # not in the padding between entries
    path.write_bytes(content)
    again = store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert not again.cached
    assert_same(again, reference)
    assert path.with_suffix(".damaged").read_bytes() == bytes(content)
    assert path.name in caplog.text and "set aside" in caplog.text


def test_a_candidate_under_a_name_that_is_not_its_own_is_trained_again(store, reference, caplog):
    other = store.retrained(dataclasses.replace(CONFIG, seed=6), DATA, GENOTYPE)
    (store.folder / f"{reference.key}.pt").write_bytes((store.folder / f"{other.key}.pt").read_bytes())
    again = store.retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert not again.cached and "another candidate than its name says" in caplog.text
    assert_same(again, reference)
