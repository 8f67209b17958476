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
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "pa55-of-the-test"
_POSTGRES = ("/usr/lib/postgresql", "/usr/local/bin")
_START_SECONDS = 60.0
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same in IPv6's notation


def free_port() -> int:
    """A port of the loopback that nothing listened at a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen | None = None) -> None:
    """Return once something listens at the port; fails if the process ends before."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process is None or process.poll() is None, f"the server ended with status {process.poll()}"
            assert time.monotonic() < deadline, f"nothing listens at port {port}"
            time.sleep(0.05)


@contextlib.contextmanager
def served(command: list[str], port: int, **options) -> Iterator[subprocess.Popen]:
    """The server that `command` starts, once it listens at `port`; ended at the end."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **{**quiet, **options})
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(30)


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
def s3(bucket: str = "studies") -> Iterator[str]:
    """URL of a bucket on a server of the S3 protocol, whose credentials are in the environment meanwhile.

    The test is skipped where moto is missing.
    """
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("needs an S3 server (pip install 'moto[server]')")
    port = free_port()
    with served([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT"), timeout=30)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "of-the-test")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            yield f"s3://{bucket}/prefix?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{port}"
