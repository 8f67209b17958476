"""`submit`: the right command for each target, quoting, what it refuses here, and what a job is sent."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from edgenes.space.genotype import random_genotype
from tests.support.machines import in_network
from tests.support.toys import seeded
from tune_jobs.__main__ import main
from tune_jobs.config.passwords import VARIABLE
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.environment import commit
from tune_jobs.tools.cluster_file import CLUSTER, FILES
from tune_jobs.tools.submit import EXCLUDES, ROOT

ADDRESS = "http://127.0.0.1:8265"
YAML = str(CLUSTER / "local.yaml")
HARD = "/shared/two words/it's $HOME #1"  # a folder's name that every shell on the way would like to change
ARGUMENTS = ("--dataset", "digits", "--trials", "4", "--out", HARD)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in (VARIABLE, "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def submit(tool):
    return partial(tool, "submit")


def answer(submit, target, *arguments):
    status, out, err = submit(target, "--dry-run", "--json", "--", *arguments)
    assert status == 0, err
    return json.loads(out)


def test_an_address_becomes_a_ray_job_with_a_readable_id(submit):
    said = answer(submit, ADDRESS, "--out", "/shared/anneal-digits")
    words = said["command"]
    assert [Path(words[0]).name, *words[1:4]] == ["ray", "job", "submit", "--submission-id"]
    assert words[4] == said["submission_id"]
    assert words[words.index("--") + 1 :] == ["python", "-m", "studies.anneal_sweep", "--out", "/shared/anneal-digits"]
    study, day, second = said["submission_id"].rsplit("-", 2)
    assert study == "anneal-digits" and len(day) == 8 and len(second) == 6
    assert json.loads(words[words.index("--metadata-json") + 1])["study"] == "/shared/anneal-digits"
    # This variable wins over --address, in Ray.
    assert said["environment"] == {"RAY_API_SERVER_ADDRESS": ADDRESS}
    # Ray takes only these letters in an id.
    assert answer(submit, ADDRESS, "--out", "/shared/größe #1")["submission_id"].startswith("gr-e-1-")


@pytest.mark.parametrize("target", [ADDRESS, "https://ray.example.com", "ray://head:10001", YAML, "slurm"])
def test_the_line_that_is_printed_is_the_command_that_is_run(submit, target):
    said = answer(submit, target, *ARGUMENTS)
    assert shlex.split(said["line"]) == [*(f"{k}={v}" for k, v in said["environment"].items()), *said["command"]]
    status, out, err = submit(target, "--dry-run", "--", *ARGUMENTS)
    assert status == 0 and err == ""
    if "submission_id" not in out:
        assert out.count("\n") == 1


@pytest.mark.e2e
def test_a_yaml_becomes_ray_submit_whose_arguments_survive_the_shell_of_the_head(submit, tmp_path):
    said = answer(submit, YAML, *ARGUMENTS)
    words = said["command"]
    assert words[1:5] == ["submit", YAML, str(ROOT / "studies" / "anneal_sweep.py"), "--"]
    script = tmp_path / "show.py"
    script.write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    line = " ".join([sys.executable, str(script), *words[5:]])  # as Ray joins them
    arrived = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    assert json.loads(arrived) == ["--address", "auto", *ARGUMENTS]
    inner = answer(submit, YAML, *ARGUMENTS, "--address", "10.0.0.1:6379")["command"][5:]
    assert "auto" not in inner and inner[-1] == "10.0.0.1:6379"


def test_slurm_becomes_sbatch(submit, tmp_path):
    assert answer(submit, "slurm", *ARGUMENTS)["command"][2:] == [str(CLUSTER / "slurm.sh"), *ARGUMENTS]
    mine = tmp_path / "my.sh"
    shutil.copy(CLUSTER / "slurm.sh", mine)
    said = answer(submit, mine, "--out", "/shared/x")
    assert said["command"] == ["sbatch", "--job-name=x", str(mine), "--out", "/shared/x"]


STUDY = ("--out", "/shared/x")


@pytest.mark.parametrize(
    ("target", "arguments", "status", "words"),
    [
        (ADDRESS, ("--otu", "/shared/x"), 2, ("Unrecognized options: --otu", "--out")),
        (ADDRESS, (*STUDY, "--trials", "0"), 2, ("trials must be a number of at least 1",)),
        (ADDRESS, (), 1, ("give --out", "absolute")),
        (YAML, ("--out", "runs/x"), 1, ("--out runs/x", "absolute")),
        ("slurm", ("--out", "~/x"), 1, ("--out ~/x", "absolute")),
        (ADDRESS, (*STUDY, "--dataset", "digit"), 1, ("--dataset digit", "digits", "cifar10")),
        (ADDRESS, (*STUDY, "--dataset", "data/my.npz"), 1, ("--dataset data/my.npz", "absolute")),
        (ADDRESS, (*STUDY, "--root", "data"), 1, ("--root data", "absolute")),
        (ADDRESS, (*STUDY, "--optimal", "g.json"), 1, ("--optimal g.json", "absolute")),
        (ADDRESS, (*STUDY, "--storage", "journal:x.log"), 1, ("--storage x.log", "absolute")),
        (ADDRESS, (*STUDY, "--storage", "postgresql://u:secret@h/x"), 1, ("password on the command line",)),
        ("10.0.0.1:8265", STUDY, 1, ("10.0.0.1:8265 is no target", "http://HOST:8265")),
        ("no.yaml", STUDY, 1, ("no.yaml cannot be read", "cluster-file local")),
        ("no.sh", STUDY, 1, ("there is no script no.sh", "cluster-file slurm > no.sh")),
        (str(CLUSTER / "kuberay.yaml"), STUDY, 1, ("for Kubernetes", "kubectl apply -f")),
    ],
)
def test_what_would_only_fail_on_the_cluster_fails_here(submit, target, arguments, status, words):
    found, out, err = submit(target, "--dry-run", "--", *arguments)
    text = " ".join(err.replace("│", " ").split())
    assert (found, out) == (status, ""), text
    for word in words:
        assert word in text
    assert "secret" not in text


def test_a_storage_in_a_variable_of_this_machine_is_told_of(submit, monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql://u:secret@h/x")
    for target in (ADDRESS, YAML):
        status, _, err = submit(target, "--dry-run", "--", *STUDY)
        assert status == 1 and VARIABLE in err and "--storage file:/PATH" in err and "secret" not in err
    assert submit("slurm", "--dry-run", "--", *STUDY)[0] == 0  # sbatch takes the environment along


@pytest.mark.e2e
def test_what_is_missing_on_this_machine_is_named(submit, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = submit("slurm", "--", *STUDY)
    assert status == 1 and "there is no sbatch on this machine" in err
    status, _, err = submit("http://127.0.0.1:9", "--", *STUDY)
    assert status == 1 and "no Ray cluster at http://127.0.0.1:9" in err and "dashboard" in err
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    status, _, err = submit("ray://head:10001", "--", *STUDY)
    assert status == 1 and f"there is none in {tmp_path}/token" in err


SBATCH = """#!/usr/bin/env bash
printf '%s\\n' "$@" > {folder}/arguments
echo "Submitted batch job 7"
exit 3
"""


@pytest.mark.e2e
def test_the_exit_status_is_that_of_the_command_and_json_stays_json(monkeypatch, tmp_path, capfd):
    (tmp_path / "sbatch").write_text(SBATCH.format(folder=tmp_path))
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    status = main(["submit", "slurm", "--json", "--", *ARGUMENTS])
    said = capfd.readouterr()
    assert status == 3 and json.loads(said.out)["status"] == 3 and "Submitted batch job 7" in said.err
    assert (tmp_path / "arguments").read_text().splitlines()[2:] == list(ARGUMENTS)
    assert main(["submit", "slurm", "--", *ARGUMENTS]) == 3
    assert "queued, with exit status 3" in capfd.readouterr().out


def test_a_job_is_sent_the_packages_and_nothing_else(tmp_path):
    package, project = tmp_path / "package.zip", tmp_path / "project"
    for name in ("edgenes", "tune_jobs", "studies"):
        shutil.copytree(ROOT / name, project / name)
    kept = {str(path.relative_to(project)) for path in project.rglob("*.py")}
    for name in (
        "data/x.npz",
        "runs/x/study.db",
        ".venv/lib/x.so",
        ".git/objects/x",
        "docs/x.png",
        "tests/x.py",
        "x.pt",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(os.urandom(2**20))
    (project / "edgenes" / "__pycache__").mkdir(exist_ok=True)
    (project / "edgenes" / "__pycache__" / "x.pyc").write_bytes(b"")
    create_package(str(project), package, include_gitignore=True, excludes=list(EXCLUDES))
    names = zipfile.ZipFile(package).namelist()
    files = {name for name in names if not name.endswith("/")}
    assert {name for name in files if name.endswith(".py")} == kept
    assert {name.split("/")[0] for name in files} == {"edgenes", "tune_jobs", "studies"}
    assert {f"tune_jobs/cluster/{name}" for name in FILES.values()} <= files
    assert not any("__pycache__" in name for name in names)
    assert package.stat().st_size < 2**21


@pytest.mark.parametrize("name", FILES)
def test_a_cluster_file_is_printed_byte_for_byte(name, told, answered):
    content = (CLUSTER / FILES[name]).read_text()
    assert told("cluster-file", name) == answered("cluster-file", name)["text"] == content


TINY = (
    "--smoke-test --trials 1 --optimal $SHARED/../genotype.json --no-baselines --hypernetwork-epochs 2 "
    "--candidates 2 --ensemble-size 1 --final-epochs 1"
)
JOBS = rf"""
submit() {{ python -m tune_jobs submit http://127.0.0.1:8265 "$@"; }}
start() {{ ray start --head --dashboard-host=127.0.0.1 --num-cpus=2 --disable-usage-stats; }}

RAY_AUTH_MODE=disabled start
RAY_ADDRESS=auto submit -- {TINY} --out "$SHARED/study #1"
ray stop

ray get-auth-token --generate > /dev/null
RAY_AUTH_MODE=token start
submit -- {TINY} --out "$SHARED/study #1" > "$SHARED/token"
HOME=/nowhere submit -- {TINY} --out "$SHARED/stranger" 2> "$SHARED/stranger" && exit 1
ray stop
"""


@pytest.mark.e2e
def test_jobs_on_a_real_cluster_with_and_without_a_token(tmp_path):
    """A study by `submit`; again with a token; and from one who has no token."""
    (tmp_path / "genotype.json").write_text(random_genotype(SweepConfig().space, seeded(0)).to_json())
    done = in_network(tmp_path, JOBS)
    assert done.returncode == 0, done.stdout + done.stderr
    shared = tmp_path / "shared"
    result = json.loads((shared / "study #1" / "result.json").read_text())
    commit.cache_clear()  # a test under another HOME, where git trusts no checkout, may have been the first to call it
    assert result["trials"] == 1 and result["commit"] == commit() is not None
    assert re.search(r"Job 'study-1-\d{8}-\d{6}' succeeded", done.stdout)
    assert "RAY_AUTH_MODE=token" in done.stderr
    assert "This study is finished" in (shared / "token").read_text()
    assert "asks for a token, and there is none in /nowhere/.ray/auth_token" in (shared / "stranger").read_text()
