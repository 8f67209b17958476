"""One finished study for the tests of what ends a study and of the commands, and a copy for each that alters it."""

import json
import shutil

import pytest

from tests.support.tiny_study import begin_study, finish_study, run_trials


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished study of three trials, two of them finalists."""
    saved = begin_study(tmp_path_factory.mktemp("finished") / "study", trials=3, finalists=2)
    run_trials(saved)
    result = finish_study(saved)
    (saved.folder / "stages.json").write_text(json.dumps(result["seconds"] | {"sweep": 75.0}))
    return saved.folder


@pytest.fixture
def study(finished, tmp_path):
    """A copy that a test may alter."""
    return shutil.copytree(finished, tmp_path / "study")


@pytest.fixture
def result(finished):
    """The content of result.json."""
    return json.loads((finished / "result.json").read_text())
