"""What the command serve checks before it starts Ray."""

import socket
import sys

import pytest

from tests.support.servers import free_port
from tune_jobs.__main__ import main


@pytest.mark.parametrize(
    ("options", "word"), [(["--port", "0"], "port"), (["--port", "99999"], "port"), (["--replicas", "0"], "replicas")]
)
def test_options_out_of_range_are_refused(tmp_path, capsys, options, word):
    assert main(["serve", str(tmp_path), *options]) == 1
    assert word in capsys.readouterr().err


def test_a_port_in_use_is_refused(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["serve", str(tmp_path), "--port", str(other.getsockname()[1])]) == 1
    assert "--port" in capsys.readouterr().err


def test_a_missing_ensemble_and_a_missing_extra_are_said(tmp_path, capsys, monkeypatch):
    assert main(["serve", str(tmp_path), "--port", str(free_port())]) == 1
    assert "ensemble" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray.serve.exceptions", None)
    assert main(["serve", str(tmp_path), "--port", str(free_port())]) == 1
    assert "edgenes-studio[serve]" in capsys.readouterr().err
