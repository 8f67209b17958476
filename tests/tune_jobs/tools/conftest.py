"""How the tests of the commands run them."""

import json

import pytest

from tune_jobs.__main__ import main


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
