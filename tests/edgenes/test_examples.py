"""The examples in the docstrings of the public names run and print what they say."""

import doctest

import pytest

import edgenes

EXAMPLES = {
    test.name: test
    for name in edgenes.__all__
    for test in doctest.DocTestFinder().find(getattr(edgenes, name), name, globs={})  # its methods too
    if test.examples
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name):
    result = doctest.DocTestRunner().run(EXAMPLES[name])
    assert result.attempted and not result.failed


def test_the_main_names_have_one():
    assert {"SearchSpace", "Genotype", "Hypernetwork", "Ensemble", "search_genotype", "train_network"} <= set(EXAMPLES)
