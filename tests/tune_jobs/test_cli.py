"""The help: what most need at first, and all of it on request."""

import os
import subprocess
import sys

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


@pytest.mark.e2e
@pytest.mark.parametrize("module", ["tune_jobs", "studies.anneal_sweep"])
def test_help_whose_reader_is_gone_ends_without_a_traceback(module):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run([sys.executable, "-m", module, "--help"], stdout=write, stderr=subprocess.PIPE, timeout=300)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (1, b"")
