"""The examples in the docstrings of the public names run and print what they say."""

import doctest
import inspect

import pytest

import edgenes
from edgenes.data import sources
from edgenes.methods import baselines
from edgenes.registry import Registry
from edgenes.selection import methods as selection_methods
from edgenes.space import operations

EXAMPLES = {
    test.name: test
    for name in edgenes.__all__
    for test in doctest.DocTestFinder().find(getattr(edgenes, name), name, globs={})  # its methods too
    if test.examples
}


@pytest.fixture(autouse=True)
def registries_restored(monkeypatch):
    """What an example registers is known to it alone."""
    for module in (operations, sources, selection_methods, baselines):
        for _, registry in inspect.getmembers(module, lambda value: isinstance(value, Registry)):
            monkeypatch.setattr(registry, "_entries", dict(registry))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name):
    result = doctest.DocTestRunner().run(EXAMPLES[name])
    assert result.attempted and not result.failed


def test_the_main_names_have_one():
    assert {"SearchSpace", "Genotype", "Hypernetwork", "Ensemble", "search_genotype", "train_network"} <= set(EXAMPLES)
