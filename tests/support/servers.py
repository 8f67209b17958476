"""Real servers for the tests, on free ports of the loopback, ended with the block that started them."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import wait_for

PASSWORD = "pa55-of-the-test"
_POSTGRES = ("/usr/lib/postgresql", "/usr/local/bin")
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same in IPv6's notation


def free_port() -> int:
    """A port of the loopback that nothing listened at a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port: int) -> bool:
    """Whether something listens at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def started(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """A process that ends with the block."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def listening(pids: set[int]) -> set[str]:
    """Addresses, as /proc/net writes them, at which the processes listen for TCP connections."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].rpartition(":")[0]
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found.add(sockets.get(os.readlink(link)))
            except OSError:
                continue  # closed meanwhile
    return found - {None}


def only_where_asked() -> None:
    """Skip the test unless EVERY_SERVER=1: what a plain machine may lack, or takes minutes, runs in .ci/run alone."""
    if os.environ.get("EVERY_SERVER") != "1":
        pytest.skip("runs with EVERY_SERVER=1, as in .ci/run")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """URL, with a password, of a database of its own; the test is skipped where PostgreSQL or psycopg is missing."""
    only_where_asked()
    places = [*sorted(Path(_POSTGRES[0]).glob("*/bin"), reverse=True), *os.environ["PATH"].split(os.pathsep)]
    programs = next((Path(place) for place in places if (Path(place) / "postgres").exists()), None)
    if programs is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs PostgreSQL (Debian's package postgresql) and psycopg (pip install 'psycopg[binary]')")
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    become = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        secret = Path(folder) / "password"
        secret.write_text(PASSWORD)
        if become:
            for path in (folder, secret):
                shutil.chown(path, user)
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            command = [*become, str(programs / program), "-D", data, *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        run("initdb", "-U", "study", "--pwfile", str(secret), "-A", "scram-sha-256", "--no-locale", "-E", "UTF8", "-N")
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-F -h 127.0.0.1 -p {port} -k {folder}", "start")
        try:
            yield f"postgresql+psycopg://study:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """URL of a bucket on a server of the S3 protocol, whose credentials are in the environment meanwhile.

    The test is skipped where moto is missing.
    """
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("needs an S3 server (pip install 'moto[server]')")
    port, bucket = free_port(), "studies"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started(command, Path(os.devnull)) as process:
        wait_for(lambda: is_open(port), process)
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT"), timeout=30)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "of-the-test")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            yield f"s3://{bucket}/prefix?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{port}"
