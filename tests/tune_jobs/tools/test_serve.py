"""What the command serve checks before it starts Ray."""

import socket
import sys

import pytest

from tests.support.servers import free_port


@pytest.mark.parametrize(
    ("options", "word"), [(["--port", "0"], "port"), (["--port", "99999"], "port"), (["--replicas", "0"], "replicas")]
)
def test_options_out_of_range_are_refused(tmp_path, options, word, refused):
    assert word in refused("serve", tmp_path, *options)


def test_a_port_in_use_is_refused(tmp_path, refused):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "--port" in refused("serve", tmp_path, "--port", other.getsockname()[1])


def test_a_missing_ensemble_and_a_missing_extra_are_said(tmp_path, monkeypatch, refused):
    assert "ensemble" in refused("serve", tmp_path, "--port", free_port())
    monkeypatch.setitem(sys.modules, "ray.serve.exceptions", None)
    assert "edgenes-studio[serve]" in refused("serve", tmp_path, "--port", free_port())
