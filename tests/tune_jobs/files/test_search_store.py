"""Stored searches: each is made once, whoever asks, goes on where it was cut off, and a damaged one is made again."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.methods.trainer import LocalTrainer, Searched, TrainedHypernetwork
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.space.hypernetwork import Hypernetwork
from tests.support.toys import blobs, seeded
from tune_jobs.files import search_store
from tune_jobs.files.cache import Cache
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.search_store import SearchStore, StoredTrainer
from tune_jobs.files.study_files import Remote, StudyFiles

DATA = blobs()
SPACE = SearchSpace(nodes=2)
SIZES = {"space": SPACE, "channels": 2, "batch_size": 32, "path_batch": 8, "paths": 4, "epochs": 4}
SEARCH = SearchConfig(**SIZES, seed=1)
HYPERNETWORK = HypernetworkConfig(**SIZES, seed=2, trainable_pivots=True)
RETRAINING = TrainingConfig(channels=2, cells=1, epochs=1, batch_size=32, seed=5)
OPTIMAL = random_genotype(SPACE, seeded(1))


@pytest.fixture
def computed(monkeypatch):
    """The searches that were made, and a way to cut one off: computed.stop = (kind, epoch)."""

    class Seen(list):
        stop = None

    seen = Seen()

    def watched(name, real):
        def traced(config, data, *arguments):
            seen.append(name)
            *others, report, accumulate = arguments

            def stopping(epoch, metrics, state):
                report(epoch, metrics, state)
                if seen.stop == (name, epoch):
                    seen.stop = None
                    raise KeyboardInterrupt

            return real(config, data, *others, stopping, accumulate)

        return traced

    for name in ("traced_search", "traced_hypernetwork"):
        monkeypatch.setattr(search_store, name, watched(name, getattr(search_store, name)))
    return seen


def trainer(folder, cache=None, remote=None, say=lambda text: None):
    files = StudyFiles(folder, remote)
    stores = SearchStore(files.below("searches"), cache), PredictionStore(files.below("predictions"), cache)
    return StoredTrainer(DATA, *stores, say)


def same_hypernetwork(a, b):
    for epoch in range(1, len(a.trace) + 1):
        first, second = a.at(epoch).state_dict(), b.at(epoch).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
    return a.metrics == b.metrics and a.control_error == b.control_error


def test_a_search_is_made_once_and_equals_one_without_a_store(tmp_path, computed):
    first = trainer(tmp_path).search(SEARCH)
    again = trainer(tmp_path).search(SEARCH)
    local = LocalTrainer(DATA).search(SEARCH)
    assert computed == ["traced_search"]
    assert first.trace == again.trace == local.trace and len(first.trace) == SEARCH.epochs
    assert first.metrics == again.metrics == local.metrics
    assert again.seconds == first.seconds > 0


def test_a_hypernetwork_is_kept_as_it_was_after_each_epoch(tmp_path, computed):
    first = trainer(tmp_path).hypernetwork(HYPERNETWORK, OPTIMAL)
    again = trainer(tmp_path).hypernetwork(HYPERNETWORK, OPTIMAL)
    assert computed == ["traced_hypernetwork"]
    assert same_hypernetwork(first, again)
    assert same_hypernetwork(first, LocalTrainer(DATA).hypernetwork(HYPERNETWORK, OPTIMAL))
    assert [metrics["control_error"] for metrics in first.metrics][-1] == first.control_error
    assert not torch.equal(first.at(1).alpha, first.at(2).alpha)


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_long_search_is_found_again(tmp_path, caplog, inputs):
    """Its genotypes say the same words over and over, which a pickle writes once."""
    space = SearchSpace(nodes=4, inputs_per_node=inputs)
    trace = tuple(random_genotype(space, seeded(k)) for k in (1, 1, 2, 3) for _ in range(100))
    metrics = tuple({"loss": 0.1 * epoch, "temperature": 1.0} for epoch in range(400))
    searched = Searched(trace, metrics)
    states = tuple(
        {**Hypernetwork(space, 2, generator=seeded(k)).to_state(), "interpolation": "corrected"} for k in range(400)
    )
    trained = TrainedHypernetwork(states, metrics, 0.5)
    store = SearchStore(StudyFiles(tmp_path))
    for k, one in enumerate((searched, trained)):
        store.obtain(type(one), f"key-{k}", "cpu", lambda *_, one=one: one)
        again = store.obtain(type(one), f"key-{k}", "cpu", lambda *_: pytest.fail("computed again"))
        assert again.metrics == metrics and len(again.trace) == 400
    assert store.obtain(Searched, "key-0", "cpu", None).trace == trace
    assert torch.equal(again.at(7).alpha, trained.at(7).alpha) and not caplog.text


def test_another_configuration_seed_or_genotype_is_another_search(tmp_path, computed):
    one = trainer(tmp_path)
    one.search(SEARCH), one.search(replace(SEARCH, seed=3)), one.search(replace(SEARCH, epochs=2))
    one.hypernetwork(HYPERNETWORK, OPTIMAL), one.hypernetwork(HYPERNETWORK, random_genotype(SPACE, seeded(2)))
    assert len(computed) == 5


@pytest.mark.parametrize("kind", ["traced_search", "traced_hypernetwork"])
def test_one_that_was_cut_off_goes_on_to_the_same_end(tmp_path, computed, monkeypatch, kind):
    monkeypatch.setattr(search_store, "SAVE_EVERY", 0.0)

    def run(place):
        found = trainer(place)
        return found.search(SEARCH) if kind == "traced_search" else found.hypernetwork(HYPERNETWORK, OPTIMAL)

    computed.stop = (kind, 1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a")
    epochs = []
    name = kind.removeprefix("traced_")
    said = trainer(tmp_path / "a", say=epochs.append)
    found = said.search(SEARCH) if name == "search" else said.hypernetwork(HYPERNETWORK, OPTIMAL)
    assert epochs == [f"{name}, epoch 3 of 4", f"{name}, epoch 4 of 4"]
    whole = run(tmp_path / "b")
    if name == "search":
        assert found.trace == whole.trace and found.metrics == whole.metrics
    else:
        assert same_hypernetwork(found, whole)
    assert not list((tmp_path / "a").rglob("*.unfinished"))


def test_a_damaged_one_is_set_aside_and_made_again(tmp_path, computed, caplog):
    first = trainer(tmp_path).search(SEARCH)
    (path,) = (tmp_path / "searches").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert trainer(tmp_path).search(SEARCH).trace == first.trace
    assert len(computed) == 2 and "set aside" in caplog.text and path.with_suffix(".damaged").exists()


def test_one_under_a_name_that_is_not_its_own_is_made_again(tmp_path, computed):
    one = trainer(tmp_path)
    one.search(SEARCH)
    (path,) = (tmp_path / "searches").glob("*.pt")
    other = one.search(replace(SEARCH, seed=3))
    (second,) = set((tmp_path / "searches").glob("*.pt")) - {path}
    second.write_bytes(path.read_bytes())
    assert trainer(tmp_path).search(replace(SEARCH, seed=3)).trace == other.trace
    assert len(computed) == 3


def test_two_that_ask_at_once_make_one(tmp_path, computed):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: trainer(tmp_path).search(SEARCH), range(2)))
    assert computed == ["traced_search"] and found[0].trace == found[1].trace


def test_another_study_takes_it_from_the_cache(tmp_path, computed):
    cache = Cache(tmp_path / "cache")
    first = trainer(tmp_path / "a", cache).hypernetwork(HYPERNETWORK, OPTIMAL)
    again = trainer(tmp_path / "b", cache).hypernetwork(HYPERNETWORK, OPTIMAL)
    assert len(computed) == 1 and same_hypernetwork(first, again)
    (path,) = (tmp_path / "cache").glob("search-*.pt")
    path.write_bytes(b"damaged")
    trainer(tmp_path / "c", cache).hypernetwork(HYPERNETWORK, OPTIMAL)
    assert len(computed) == 2


def test_with_a_remote_folder_it_holds_for_all_nodes(tmp_path, computed):
    remote = Remote(str(tmp_path / "shared"), "study", "one")
    first = trainer(tmp_path / "node-a", remote=remote).search(SEARCH)
    again = trainer(tmp_path / "node-b", remote=remote).search(SEARCH)
    assert computed == ["traced_search"] and first.trace == again.trace


def test_a_retraining_keeps_its_weights(tmp_path):
    found = trainer(tmp_path).retrain(RETRAINING, OPTIMAL)
    assert found.weights and not found.cached
    np.testing.assert_array_equal(found.probabilities, LocalTrainer(DATA).retrain(RETRAINING, OPTIMAL).probabilities)
    assert trainer(tmp_path).retrain(RETRAINING, OPTIMAL).cached
