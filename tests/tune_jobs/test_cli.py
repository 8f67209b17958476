"""The help: what most need at first, and all of it on request."""

import pytest

from studies.methods import MethodsConfig
from tune_jobs.cli import RARE, parsed
from tune_jobs.config.composition import flat
from tune_jobs.config.sweep import SweepConfig


def helped(kind, option, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(kind, [option])
    assert stop.value.code == 0
    return {word.rstrip(",") for word in capsys.readouterr().out.split()}


@pytest.mark.parametrize("kind", [SweepConfig, MethodsConfig])
def test_rare_options_are_shown_on_request(kind, capsys):
    every = {f"--{name.replace('_', '-')}" for name in flat(kind())}
    rare = {f"--{name.replace('_', '-')}" for name in RARE}
    assert every <= helped(kind, "--help-all", capsys)
    assert helped(kind, "--help", capsys) & every == every - rare


def test_what_is_rare_is_an_option_and_can_be_given():
    assert set(flat(SweepConfig())) >= RARE
    assert parsed(SweepConfig, ["--nodes", "3"]).networks.nodes == 3
