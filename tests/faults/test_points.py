"""The points at which faults are injected exist: a renamed one would let a scenario pass without its fault."""

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from tests.faults.harness import COMMIT, PREDICT, STEP

ROOT = Path(__file__).parents[2]
SOURCES = [path.read_text() for path in (ROOT / "tune_jobs").rglob("*.py")]
KINDS = {kind for source in SOURCES for kind in re.findall(r'\bKind\(\s*(?:name=)?"(\w+)"', source)}
MOMENTS = {moment for source in SOURCES for moment in re.findall(r'reached\("(.+?)"\)', source)}


def used() -> set[str]:
    """Every point that stands in a `Fault(...)` of the tests, and those with a name."""
    found = {STEP, PREDICT, *COMMIT}
    texts = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for text in (text for text in texts if "Fault(" in text):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Fault" and len(node.args) > 1:
                points = ast.walk(node.args[1])
                found |= {leaf.value for leaf in points if isinstance(leaf, ast.Constant)}
    return found


USED = used()


def test_the_moments_of_the_code_are_used():
    assert len(MOMENTS) > 10 and USED >= MOMENTS


@pytest.mark.parametrize("point", sorted(USED))
def test_a_point_exists(point):
    module, colon, name = point.partition(":")
    if colon:
        assert callable(reduce(getattr, name.split("."), importlib.import_module(module)))
    else:
        assert point in MOMENTS or point.removesuffix(" stored") in KINDS  # of the artifact store
