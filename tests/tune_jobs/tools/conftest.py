"""One finished study for all tests of the commands, and a copy of it for each test that alters it."""

import json
import shutil

import pytest

from tests.support.tiny_study import begin_study, finish_study, run_trials
from tune_jobs.__main__ import main


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


@pytest.fixture
def tool(capsys):
    """tool(*words) is the exit status, the standard output and the standard error of a command."""

    def run(*words):
        try:
            status = main([*map(str, words)])
        except SystemExit as stop:  # tyro's own refusals
            status = stop.code
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return status, said.out, said.err

    return run


@pytest.fixture
def told(tool):
    """told(*words) is what a command prints that succeeds."""

    def run(*words):
        status, out, err = tool(*words)
        assert status == 0, err
        return out

    return run


@pytest.fixture
def answered(told):
    """answered(*words) is the answer in JSON of a command that succeeds."""
    return lambda *words: json.loads(told(*words, "--json"))


@pytest.fixture
def refused(tool):
    """refused(*words) is the message of a command that refuses, in one line."""

    def run(*words):
        status, out, err = tool(*words)
        assert status == 1 and out == "", out
        return " ".join(err.split())

    return run
