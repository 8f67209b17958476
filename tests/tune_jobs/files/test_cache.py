"""The cache of all studies: where it is, how large it may be, and whose numbers it may hold."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import SearchConfig, TrainingConfig
from edgenes.errors import ConfigError
from edgenes.predictor import PREDICTOR_VERSION, PerformancePredictor
from edgenes.space.genotype import SearchSpace, random_genotype, random_genotypes
from edgenes.training.bilevel import SEARCH_VERSION
from edgenes.training.darts import search_genotype
from edgenes.training.retraining import TRAINING_VERSION, predict, train_network
from tests.support.toys import blobs, seeded
from tune_jobs.files import cache as cache_module
from tune_jobs.files.artifact_store import ArtifactStore
from tune_jobs.files.cache import OFF, VARIABLE, Cache, cache_setting, open_cache
from tune_jobs.files.environment import numerics
from tune_jobs.files.stored_trainer import StoredTrainer
from tune_jobs.files.study_files import StudyFiles

DATA = blobs()
SPACE = SearchSpace(nodes=1, inputs_per_node=1)
GENOTYPE = random_genotype(SPACE, seeded(1))
OTHER = random_genotype(SPACE, seeded(3))
CONFIG = TrainingConfig(channels=2, cells=1, epochs=2, batch_size=32, seed=5)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_a_cache_that_cannot_be_used_costs_time_and_nothing_else(tmp_path, caplog):
    cache_module._warn.cache_clear()
    (tmp_path / "file").write_text("")
    store = ArtifactStore(StudyFiles(tmp_path / "study"), Cache(tmp_path / "file" / "cache"))
    for genotype in (GENOTYPE, OTHER):
        assert not StoredTrainer(DATA, store).candidate(CONFIG, genotype).cached
    assert StoredTrainer(DATA, store).candidate(CONFIG, GENOTYPE).cached
    assert caplog.text.count("file/cache cannot be") == 1, "it is said once"


def test_threads_and_libraries_settings_count(monkeypatch):
    before, count = numerics("cpu"), torch.get_num_threads()
    torch.set_num_threads(count + 1)
    try:
        assert numerics("cpu") != before
    finally:
        torch.set_num_threads(count)
    assert numerics("cpu") == before
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert numerics("cpu") != before


def test_it_stays_below_its_limit_and_what_was_used_last_stays(cache, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))
    names = [f"candidate-{k:016x}" for k in range(5)]
    for k, name in enumerate(names):
        cache.put(name, source)
        os.utime(cache.folder / f"{name}.pt", (k, k))
    assert cache.find(names[0], lambda path: True)  # used now
    (cache.folder / "notes.txt").write_text("the user's")
    assert cache.trim(2000) == 3000
    assert [name for name in names if (cache.folder / f"{name}.pt").exists()] == [names[0], names[4]]
    cache.trim(0)
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    monkeypatch.setattr(Cache.trim, "__defaults__", (2500,))
    monkeypatch.setattr(cache_module, "_PAUSE", -1)
    for name in names:
        cache.put(name, source)
    assert len(list(cache.folder.glob("candidate-*.pt"))) == 2


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


def test_what_is_stored_is_a_map_of_its_file(tmp_path):
    table = torch.randn(40, 3)
    path = tmp_path / "tables.pt"
    save_checkpoint(path, "x", {"a": table})
    found = load_checkpoint(path, "x", mapped=True)["a"]
    assert torch.equal(found, table) and "tables.pt" in Path("/proc/self/maps").read_text()
    save_checkpoint(path, "x", {"a": torch.zeros(40, 3)})
    assert torch.equal(found, table), "a file that is replaced leaves the map alone"


NUMBERS = {
    "training 5": (-1.125351, 0.3070212),
    "search 4": (0.03162867, 0.03475440),
    "predictor 3": (5.595714, 1.956279),
}
"""By what and version: the mean of V's log-probabilities and of the weights' squares; those of the logits' squares;
those of the predictions and their deviations."""


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

    def test_of_the_predictor(self):
        genotypes = random_genotypes(self.SPACE, 40, seeded(2))
        losses = np.random.default_rng(0).lognormal(size=40) + [2 * str(each).count("sep") for each in genotypes]
        mean, deviation = PerformancePredictor(self.SPACE).fit(genotypes, losses).predict(genotypes)
        # Another machine's rounding ends the search for the kernel a little earlier or later.
        assert (mean.mean(), deviation.mean()) == pytest.approx(NUMBERS[f"predictor {PREDICTOR_VERSION}"], rel=1e-3)
