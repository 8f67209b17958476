"""A laptop and two machines that it reaches over ssh, all in namespaces of this machine, with nothing outside of them.

unshare --net --pid --mount --uts --fork --kill-child --mount-proc python network.py WORK COMMAND...

Each has its own network interface, processes, /tmp and home folder, and in the latter an environment with all that this
Python has; they share the folder WORK/shared. COMMAND runs on the laptop; when it ends, so does everything else.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
MACHINES = {"node1": "10.77.0.1", "node2": "10.77.0.2"}
LAPTOP = "10.77.0.254"

SSHD = """
ListenAddress {ip}
HostKey {work}/keys/host
AuthorizedKeysFile {work}/keys/user.pub
StrictModes no
PasswordAuthentication no
UsePAM no
PidFile none
MaxStartups 100
"""
# What no file of the package index may be needed for, and what keeps this test off it.
PIP = "[global]\nno-index = true\n[install]\nno-build-isolation = false\n"
MACHINE = """
set -e
hostname {name}
mount --bind {work}/{name}/passwd /etc/passwd
exec /usr/sbin/sshd -D -e -f {work}/{name}/sshd_config 2> {work}/{name}/sshd.log
"""


def run(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True)


def own_tmp(work: Path, name: str) -> None:
    """A shell may have another /tmp; what tests need of the old one is in it."""
    new = work / name / "tmp"
    new.mkdir()
    for path in {work, ROOT, Path(sys.prefix)}:
        if path.is_relative_to("/tmp"):
            place = new / path.relative_to("/tmp")
            place.mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", path, place)
    new.chmod(0o1777)


def make_home(work: Path, name: str) -> None:
    """A home folder with Debian's own shell start-up, a key, and an environment that finds this Python's packages."""
    home = work / name / "home"
    shutil.copytree("/etc/skel", home)
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(work / "keys" / "user", home / ".ssh" / "id_ed25519")
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text(PIP)
    venv = home / "edgenes" / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    packages = next(venv.glob("lib/python*/site-packages"))
    found = [path for path in sys.path if path.endswith("-packages")]
    (packages / "all.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in found))
    for command, module in {"ray": "ray.scripts.scripts", "pip": "pip"}.items():
        script = venv / "bin" / command
        script.write_text(f'#!/bin/sh\nexec {venv}/bin/python -m {module} "$@"\n')
        script.chmod(0o755)
    users = Path("/etc/passwd").read_text().splitlines()
    users = [f"root:x:0:0:root:{home}:/bin/bash" if user.startswith("root:") else user for user in users]
    (work / name / "passwd").write_text("\n".join(users) + "\n")


def begin(work: Path, name: str, ip: str) -> subprocess.Popen:
    """Start a machine; it is there when its sshd is."""
    run("ip", "netns", "add", name)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", name, "master", "br0", "up")
    run("ip", "-n", name, "address", "add", f"{ip}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        run("ip", "-n", name, "link", "set", device, "up")
    run("ip", "-n", name, "route", "add", "default", "via", LAPTOP)  # by which a program finds its own address
    (work / name / "sshd_config").write_text(SSHD.format(ip=ip, work=work))
    script = f"mount --rbind {work}/{name}/tmp /tmp\n" + MACHINE.format(name=name, work=work)
    own = ["unshare", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script]
    return subprocess.Popen(["ip", "netns", "exec", name, *own], env={"PATH": os.environ["PATH"]})


def main() -> int:
    """Exit status of the command."""
    work, command = Path(sys.argv[1]), sys.argv[2:]
    (work / "keys").mkdir()
    (work / "shared").mkdir()
    for key in ("user", "host"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "keys" / key)
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/sshd").mkdir()
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "address", "add", f"{LAPTOP}/24", "dev", "br0")
    run("ip", "link", "set", "br0", "up")
    for name in ("laptop", *MACHINES):
        (work / name).mkdir()
        make_home(work, name)
        own_tmp(work, name)
    for name, ip in MACHINES.items():
        begin(work, name, ip)
    run("mount", "--bind", work / "laptop" / "passwd", "/etc/passwd")
    home = work / "laptop" / "home"
    for ip in MACHINES.values():
        until = time.monotonic() + 120
        while subprocess.run(["ssh", *OPTIONS, ip, "true"], stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < until, (work / "node1" / "sshd.log").read_text()
            time.sleep(0.1)
    run("mount", "--rbind", work / "laptop" / "tmp", "/tmp")  # now that the machines have theirs
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "EDGENES_", "SLURM_"))}
    path = f"{home}/edgenes/venv/bin:{Path(__file__).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
    own |= {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "SHARED": str(work / "shared"), **PATIENT}
    return subprocess.run(command, cwd=ROOT, env=own).returncode


# Ray's own limits, for a busy machine.
PATIENT = {
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_failure_threshold": "60",
}
OPTIONS = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")

if __name__ == "__main__":
    sys.exit(main())
