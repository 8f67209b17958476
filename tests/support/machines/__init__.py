"""Real clusters in namespaces of this machine: nothing in them reaches out, and nothing outlives them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import only_where_asked

NETWORK = Path(__file__).parent / "network.py"
OWN = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
NEEDED = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
}


def in_network(work: Path, script: str, limit: float = 600.0) -> subprocess.CompletedProcess:
    """Run a script for bash on a laptop that reaches two machines over ssh; they share `work`/shared (see network.py).

    The test is skipped where a package is missing, or this is not root.
    """
    only_where_asked()
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    for command, package in NEEDED.items():
        if shutil.which(command, path=path) is None:
            pytest.skip(f"needs Debian's package {package}")
    probe = [*OWN, "ip", "link", "add", "br0", "type", "bridge"]
    if subprocess.run(probe, capture_output=True, env=os.environ | {"PATH": path}).returncode:
        pytest.skip("no network of one's own here: this is not root, or the kernel has no bridges")
    command = [*OWN, sys.executable, str(NETWORK), str(work), "bash", "-euxc", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=os.environ | {"PATH": path})
