"""The examples in the pages of docs run and print what the pages say."""

import doctest
from pathlib import Path

import pytest
import torch  # noqa: F401  # its first import starts ldconfig, which a unit test may not

PAGES = [page for page in sorted((Path(__file__).parents[1] / "docs").glob("*.md")) if ">>>" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed
