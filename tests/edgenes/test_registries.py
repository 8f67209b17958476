"""One suite for all registries: a user's own entry is found, and the package's own ones stay what they are."""

import numpy as np
import pytest

from edgenes.data.loading import load_data
from edgenes.data.sources import SOURCES, Source, register_source
from edgenes.errors import ConfigError, DataError
from edgenes.methods import catalogue
from edgenes.methods.baselines import METHODS, register_method
from edgenes.methods.catalogue import run_method
from edgenes.methods.trainer import LocalTrainer
from edgenes.selection import methods, register_selection, select_ensemble
from edgenes.space.operations import OPERATIONS, register_operation
from tests.edgenes.methods.test_catalogue import SETTING
from tests.support.toys import blobs

REGISTRIES = {
    "operations": (OPERATIONS, register_operation),
    "sources": (SOURCES, register_source),
    "selection": (methods.METHODS, register_selection),
    "methods": (METHODS, register_method),
}


@pytest.fixture(params=REGISTRIES)
def registry(request):
    """A registry as the package fills it, and the function that adds to it."""
    return REGISTRIES[request.param]


def test_an_own_entry_comes_last_and_may_be_replaced(registry):
    found, register = registry
    before = list(found)
    register("own", print)
    first = found.find("own")
    register("own", len)
    assert list(found) == [*before, "own"] and found["own"] != first
    assert len(found) == len(before) + 1 and "own" in found and "other" not in found


def test_the_packages_own_cannot_be_replaced(registry):
    found, register = registry
    name = next(iter(found))
    before = found[name]
    with pytest.raises(ConfigError, match=name):
        register(name, print)
    assert found[name] is before


def test_an_unknown_name_brings_the_nearest(registry):
    name = list(registry[0])[-1]
    with pytest.raises(ConfigError, match=f"Did you mean '{name}'"):
        registry[0].find(name + "x")


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_a_text(registry, name):
    with pytest.raises(ConfigError):
        registry[1](name, print)


class TestUses:
    """An own entry where it is named. (`nn/test_operations.py` has those of operations.)"""

    def test_a_source_is_loaded_with_its_root_and_flip(self):
        calls = []

        def read(root, download):
            calls.append((root, download))
            images, labels = np.arange(40 * 36, dtype=np.uint16).reshape(40, 6, 6) % 256, np.arange(40) % 2
            images = images.astype(np.uint8)
            return Source("own", None, images[:30], labels[:30], images[30:], labels[30:], flip=True)

        register_source("own", read)
        data = load_data("own", root="here", image_size=4)
        assert calls == [("here", False)]
        assert (data.name, data.classes, data.image_size, data.flip) == ("own", 2, 4, True)
        assert not load_data("own", flip=False).flip
        with pytest.raises(DataError, match="did you mean 'own'"):
            load_data("owns")

    def test_a_selection_method_gets_the_problem_and_its_options(self):
        register_selection("own", lambda problem, first=0: problem.selection(range(first, first + problem.size)))
        p = np.random.default_rng(0).dirichlet(np.ones(3), (4, 10))
        assert select_ensemble(p, np.zeros(10, int), 2, method="own").members == (0, 1)
        assert select_ensemble(p, np.zeros(10, int), 2, method="own", first=2).members == (2, 3)

    def test_a_method_runs_with_its_costs(self):
        register_method("own", lambda setting, trainer: (catalogue.random_nes(setting, trainer)[0], [1, 0]))
        found = run_method("own", SETTING, LocalTrainer(blobs(classes=3)))
        assert found.members == found.pool[1::-1] and found.retraining.steps > 0
        assert METHODS["own"].label == "own"
