"""The cache of all studies: what is taken from it equals what would have been computed, whatever lies in it."""

import dataclasses
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from edgenes.checkpoint import load_checkpoint, mapped, save_checkpoint
from edgenes.config import SearchConfig, TrainingConfig
from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.training.bilevel import SEARCH_VERSION
from edgenes.training.darts import search_genotype
from edgenes.training.retraining import TRAINING_VERSION, predict, train_network
from tests.support.toys import blobs, seeded
from tune_jobs.__main__ import main
from tune_jobs.files import cache as cache_module
from tune_jobs.files import candidate_store as store_module
from tune_jobs.files import search_store as searches_module
from tune_jobs.files.cache import OFF, VARIABLE, Cache, cache_setting, open_cache
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.search_store import searched

DATA = blobs()
SPACE = SearchSpace(nodes=1, inputs_per_node=1)
GENOTYPE = random_genotype(SPACE, seeded(1))
OTHER = random_genotype(SPACE, seeded(3))
CONFIG = TrainingConfig(channels=2, cells=1, epochs=2, batch_size=32, seed=5)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def study(tmp_path, cache):
    """Opens the store of a study by its name."""
    return lambda name: PredictionStore(tmp_path / name / "predictions", cache)


@pytest.fixture
def trained(monkeypatch):
    """The genotypes that were trained."""
    real, seen = store_module.train_network, []

    def train(config, data, genotype, **options):
        seen.append(genotype)
        return real(config, data, genotype, **options)

    monkeypatch.setattr(store_module, "train_network", train)
    return seen


@pytest.fixture
def reference(tmp_path):
    """The candidate as a study without a cache trains it."""
    return PredictionStore(tmp_path / "alone").retrained(CONFIG, DATA, GENOTYPE, weights=True)


def assert_same(found, expected):
    assert np.array_equal(found.log_probabilities, expected.log_probabilities)
    assert all(torch.equal(value, expected.weights[name]) for name, value in found.weights.items())


def entries(cache):
    return sorted(cache.folder.glob("candidate-*.pt"))


def test_another_study_trains_nothing_and_holds_the_same_numbers(study, trained, reference):
    trained.clear()
    first = study("one").retrained(CONFIG, DATA, GENOTYPE, weights=True)
    second = study("two").retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert len(trained) == 1
    assert (first.cached, first.shared, second.cached, second.shared) == (False, False, True, True)
    assert_same(first, reference)
    assert_same(second, reference)
    again = study("two").retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert again.cached and not again.shared, "from then on it is the study's own"


def test_a_study_is_whole_without_the_cache_and_its_damage_stays_its_own(study, cache, reference):
    for name in ("one", "two"):
        study(name).retrained(CONFIG, DATA, GENOTYPE, weights=True)
    path = study("two").folder / f"{reference.key}.pt"
    assert path.stat().st_nlink == 1
    path.write_bytes(b"damaged")
    assert study("two").retrained(CONFIG, DATA, GENOTYPE, weights=True).shared
    cache.trim(0)
    assert list(cache.folder.iterdir()) == []
    assert_same(PredictionStore(study("two").folder).find(reference.key, weights=True), reference)


def test_studies_at_once_train_a_candidate_once(study, trained, reference):
    trained.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: study(str(k)).retrained(CONFIG, DATA, GENOTYPE, weights=True), range(4)))
    assert len(trained) == 1
    assert sorted(record.shared for record in found) == [False, True, True, True]
    for record in found:
        assert_same(record, reference)


@pytest.mark.parametrize("damage", ["cut", "changed", "another", "link"])
def test_a_bad_entry_is_set_aside_and_trained_again(study, cache, trained, reference, damage, caplog):
    study("one").retrained(CONFIG, DATA, GENOTYPE, weights=True)
    [path] = entries(cache)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[content.index(reference.log_probabilities.tobytes()) + 5] ^= 1
        path.write_bytes(content)
    elif damage == "another":
        study("one").retrained(CONFIG, DATA, OTHER, weights=True)
        [other] = set(entries(cache)) - {path}
        other.replace(path)
    else:
        path.unlink()
        path.symlink_to("/dev/zero")
    trained.clear()
    found = study("two").retrained(CONFIG, DATA, GENOTYPE, weights=True)
    assert trained == [GENOTYPE] and not found.cached
    assert_same(found, reference)
    assert path.with_suffix(".damaged").is_symlink() or path.with_suffix(".damaged").exists()
    assert "set aside" in caplog.text
    assert study("three").retrained(CONFIG, DATA, GENOTYPE, weights=True).shared, "the new one is in its place"


def test_an_entry_without_weights_does_not_do_where_they_are_asked_for(study, trained):
    study("one").retrained(CONFIG, DATA, GENOTYPE)
    assert study("two").retrained(CONFIG, DATA, GENOTYPE).shared
    assert not study("three").retrained(CONFIG, DATA, GENOTYPE, weights=True).cached
    assert study("four").retrained(CONFIG, DATA, GENOTYPE, weights=True).shared
    assert study("five").retrained(CONFIG, DATA, GENOTYPE).shared
    assert len(trained) == 2


def test_what_decides_the_numbers_is_in_the_name(study, cache, trained, monkeypatch):
    def trains():
        trained.clear()
        study(str(trains.count)).retrained(CONFIG, DATA, GENOTYPE)
        trains.count += 1
        return bool(trained)

    trains.count = 0
    assert trains() and not trains()
    monkeypatch.setattr(store_module, "TRAINING_VERSION", TRAINING_VERSION + 1)
    assert trains() and not trains()
    for name in store_module.numerics("cpu"):
        real = store_module.numerics
        monkeypatch.setattr(store_module, "numerics", lambda device, name=name, r=real: r(device) | {name: "another"})
        assert trains() and not trains(), name
    assert len(entries(cache)) == trains.count / 2
    store = study("options")
    for change in ({"seed": 6}, {"epochs": 1}, {"channels": 3}):
        assert not store.retrained(dataclasses.replace(CONFIG, **change), DATA, GENOTYPE).cached
    assert not store.retrained(CONFIG, blobs(seed=1), GENOTYPE).cached
    assert not store.retrained(CONFIG, DATA, OTHER).cached


def test_threads_and_libraries_settings_count(monkeypatch):
    before, count = store_module.numerics("cpu"), torch.get_num_threads()
    torch.set_num_threads(count + 1)
    try:
        assert store_module.numerics("cpu") != before
    finally:
        torch.set_num_threads(count)
    assert store_module.numerics("cpu") == before
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert store_module.numerics("cpu") != before


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_training_begun_elsewhere_is_the_studys_alone(study, cache, monkeypatch, elsewhere):
    save = store_module.save_checkpoint

    class Stopped(Exception):
        pass

    def stopping(path, kind, state):
        save(path, kind, state)
        raise Stopped

    real = store_module.numerics
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "SAVE_EVERY", 0)
        patch.setattr(store_module, "save_checkpoint", stopping)
        if elsewhere:
            patch.setattr(store_module, "numerics", lambda device: real(device) | {"processor": "another"})
        with pytest.raises(Stopped):
            study("one").retrained(CONFIG, DATA, GENOTYPE)
    found = study("one").retrained(CONFIG, DATA, GENOTYPE)
    assert not found.cached
    assert len(entries(cache)) == (0 if elsewhere else 1)


def test_half_a_batch_is_the_studys_alone(study, cache, monkeypatch):
    real = store_module.train_network

    def full(config, data, genotype, *, accumulate, **options):
        if accumulate == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(config, data, genotype, accumulate=accumulate, **options)

    monkeypatch.setattr(store_module, "train_network", full)
    assert study("one").retrained(CONFIG, DATA, GENOTYPE).out_of_memory
    assert entries(cache) == []


def test_a_cache_that_cannot_be_used_costs_time_and_nothing_else(tmp_path, reference, caplog):
    cache_module._warn.cache_clear()
    (tmp_path / "file").write_text("")
    store = PredictionStore(tmp_path / "study", Cache(tmp_path / "file" / "cache"))
    for genotype in (GENOTYPE, OTHER):
        assert not store.retrained(CONFIG, DATA, genotype).cached
    assert_same(store.retrained(CONFIG, DATA, GENOTYPE, weights=True), reference)
    assert caplog.text.count("file/cache cannot be") == 1, "it is said once"


def test_it_stays_below_its_limit_and_what_was_used_last_stays(cache, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))
    names = [f"candidate-{k:016x}" for k in range(5)]
    for k, name in enumerate(names):
        with cache.claimed(name):
            cache.put(name, source)
        os.utime(cache.folder / f"{name}.pt", (k, k))
    assert cache.find(names[0], lambda path: True)  # used now
    (cache.folder / "notes.txt").write_text("the user's")
    assert cache.trim(2000) == 3000
    assert [name for name in names if (cache.folder / f"{name}.pt").exists()] == [names[0], names[4]]
    assert sorted(path.name for path in cache.folder.glob("*.lock")) == [f"{names[0]}.lock", f"{names[4]}.lock"]
    with cache.claimed(names[0]):
        cache.trim(0)
        assert [path.name for path in cache.folder.iterdir()] != []
    assert {path.name for path in cache.folder.iterdir()} == {"notes.txt", f"{names[0]}.lock"}


def test_putting_keeps_to_the_limit(cache, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))
    monkeypatch.setattr(Cache.trim, "__defaults__", (2500,))
    monkeypatch.setattr(cache_module, "_PAUSE", -1)
    for k in range(6):
        cache.put(f"candidate-{k:016x}", source)
    assert len(entries(cache)) == 2


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert os.environ[VARIABLE] == OFF, "tests never touch the user's own"
    assert cache_setting(None) == OFF and open_cache(OFF) is None
    assert cache_setting(str(tmp_path / "a")) == str(tmp_path / "a")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "b"))
    assert cache_setting(None) == str(tmp_path / "b") and cache_setting(OFF) == OFF
    monkeypatch.delenv(VARIABLE)
    assert cache_setting(None) is None, "each node asks its own environment"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert open_cache(None).folder == tmp_path / ".cache" / "edgenes"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert open_cache(None).folder == tmp_path / ".cache" / "edgenes"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert open_cache(None).folder == tmp_path / "x" / "edgenes"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/file/c cannot be written")):
        cache_setting(str(tmp_path / "file" / "c"))


def test_a_stored_table_is_a_map_of_its_file(tmp_path):
    tables = {"a": torch.randn(40, 3), "b": torch.randn(40, 3), "none": torch.zeros(0, 3)}
    path = tmp_path / "tables.pt"
    save_checkpoint(path, "x", tables)
    loaded = load_checkpoint(path, "x")
    for name in ("a", "b"):
        found = mapped(path, loaded[name])
        assert np.array_equal(found, tables[name].numpy()) and not found.flags.writeable
    assert mapped(path, loaded["none"]).shape == (0, 3)
    spread = loaded["a"].t()
    assert np.array_equal(mapped(path, spread), tables["a"].t().numpy())
    assert "tables.pt" in Path("/proc/self/maps").read_text()
    save_checkpoint(path, "x", {"a": torch.zeros(40, 3)})
    assert np.array_equal(found, tables["b"].numpy()), "a file that is replaced leaves the map alone"
    assert np.array_equal(mapped(path, loaded["a"]), tables["a"].numpy()), "what is not in the file is as loaded"


class TestSearches:
    """The search of the optimal genotype."""

    CONFIG = SearchConfig(space=SPACE, channels=2, epochs=2, batch_size=32, seed=3)

    @pytest.fixture
    def search(self):
        """A search that counts itself."""

        def run():
            run.count += 1
            found = search_genotype(self.CONFIG, DATA)
            logits = {"alpha": found.logits.alpha.detach(), "beta": found.logits.beta.detach()}
            return {"genotype": found.genotype.to_dict(), **logits, "out_of_memory": None}, run.whole

        run.count, run.whole = 0, True
        return run

    def test_another_study_searches_nothing_and_holds_the_same(self, cache, search, tmp_path):
        first, cached = searched(cache, self.CONFIG, DATA, search, tmp_path)
        second, again = searched(cache, self.CONFIG, DATA, search, tmp_path)
        assert (cached, again, search.count) == (False, True, 1)
        assert first["genotype"] == second["genotype"]
        assert all(torch.equal(first[name], second[name]) for name in ("alpha", "beta"))
        assert [path.name for path in tmp_path.iterdir()] == ["cache"]

    def test_what_decides_it_is_in_the_name(self, cache, search, tmp_path, monkeypatch):
        searched(cache, self.CONFIG, DATA, search, tmp_path)
        other = dataclasses.replace(self.CONFIG, seed=4)
        assert not searched(cache, other, DATA, search, tmp_path)[1]
        assert not searched(cache, self.CONFIG, blobs(seed=1), search, tmp_path)[1]
        monkeypatch.setattr(searches_module, "SEARCH_VERSION", SEARCH_VERSION + 1)
        assert not searched(cache, self.CONFIG, DATA, search, tmp_path)[1]
        assert searched(cache, self.CONFIG, DATA, search, tmp_path)[1]

    def test_a_damaged_one_is_set_aside_and_one_in_pieces_not_kept(self, cache, search, tmp_path):
        searched(cache, self.CONFIG, DATA, search, tmp_path)
        [path] = cache.folder.glob("search-*.pt")
        path.write_bytes(path.read_bytes()[:200])
        search.whole = False
        assert not searched(cache, self.CONFIG, DATA, search, tmp_path)[1]
        assert path.with_suffix(".damaged").exists() and not path.exists()

    def test_without_a_cache_it_is_searched(self, search, tmp_path):
        assert [searched(None, self.CONFIG, DATA, search, tmp_path)[1] for _ in range(2)] == [False, False]
        assert search.count == 2


def test_the_command_says_what_the_cache_holds_and_clears_it(cache, study, monkeypatch, capsys):
    study("one").retrained(CONFIG, DATA, GENOTYPE)
    monkeypatch.setenv(VARIABLE, str(cache.folder))
    (cache.folder / "notes.txt").write_text("the user's")
    size = entries(cache)[0].stat().st_size
    assert main(["cache", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["folder"], said["candidates"], said["searches"], said["bytes"]) == (str(cache.folder), 1, 0, size)
    assert main(["cache"]) == 0 and str(cache.folder) in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    capsys.readouterr()
    monkeypatch.setenv(VARIABLE, OFF)
    assert main(["cache"]) == 0 and "off" in capsys.readouterr().out


NUMBERS = {"training 2": (-1.125351, 0.3070212), "search 2": (0.03215853, 0.03475440)}
"""By what and version: the mean of V's log-probabilities and of the weights' squares; those of the logits' squares."""


class TestVersions:
    """If one fails, you changed what is computed: raise the version and note the numbers here.

    A new release of torch may change them too; its version is in the cache's names, and no raise is needed.
    """

    SPACE = SearchSpace(nodes=4, inputs_per_node=2)

    def test_of_the_training(self):
        genotype = random_genotype(self.SPACE, seeded(7))
        config = TrainingConfig(channels=4, cells=1, epochs=2, batch_size=32, seed=5, drop_path=0.2)
        network = train_network(config, DATA, genotype)
        squares = np.mean([p.detach().double().square().mean().item() for p in network.parameters()])
        found = predict(network, DATA.validation, DATA).astype(float).mean(), squares
        assert found == pytest.approx(NUMBERS[f"training {TRAINING_VERSION}"], rel=1e-4)

    def test_of_the_search(self):
        config = SearchConfig(space=self.SPACE, channels=2, epochs=2, batch_size=32, seed=3)
        logits = search_genotype(config, DATA).logits
        found = tuple(table.detach().double().square().mean().item() for table in (logits.alpha, logits.beta))
        # Adam's steps have one size, however small the gradient: another machine's rounding is soon seen.
        assert found == pytest.approx(NUMBERS[f"search {SEARCH_VERSION}"], rel=2e-2)
