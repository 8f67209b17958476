"""What the tests of the core share."""

import pytest

from edgenes.data.sources import SOURCES
from edgenes.methods.baselines import METHODS
from edgenes.selection.methods import METHODS as SELECTION
from edgenes.space.operations import OPERATIONS


@pytest.fixture(autouse=True)
def registries_restored(monkeypatch):
    """What a test or an example registers is known to it alone."""
    for registry in (OPERATIONS, SOURCES, SELECTION, METHODS):
        monkeypatch.setattr(registry, "_entries", dict(registry))
