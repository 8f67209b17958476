"""The files that start clusters: checked without one (Ray's schema, EC2's model, shellcheck, KubeRay), and run."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import tyro
import yaml

from edgenes.errors import ConfigError
from tests.faults.harness import inspect
from tests.support.machines import in_network
from tests.support.servers import only_where_asked
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.execution.cluster import JOB, check_job_folder, wait_for_nodes
from tune_jobs.tools.cluster_file import CLUSTER, FILES

ROOT = Path(__file__).parents[2]
RAY_YAMLS = ("local.yaml", "aws.yaml")


def load(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def prepared(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(config)
    validate_config(config)
    return config


def test_every_cluster_file_can_be_had():
    assert sorted(FILES.values()) == sorted(path.name for path in CLUSTER.iterdir())


@pytest.mark.parametrize("name", FILES.values())
def test_what_to_edit_stands_at_the_top(name):
    head = "\n".join((CLUSTER / name).read_text().splitlines()[:25])
    for word in ("Edit ", "Needs ", "Run "):
        assert f"# {word}" in head


@pytest.mark.parametrize("name", sorted({*FILES.values()} - {"kuberay.yaml"}))  # whose study is its entrypoint
def test_the_studies_in_the_comments_would_be_accepted(name):
    lines = re.findall(r"tune_jobs submit \S+ -- (.*)", (CLUSTER / name).read_text())
    assert lines
    for line in lines:
        config = tyro.cli(SweepConfig, args=shlex.split(line), config=(tyro.conf.OmitArgPrefixes,))
        assert config.out.is_relative_to("/shared")


@pytest.mark.parametrize("name", RAY_YAMLS)
def test_ray_accepts_the_yaml_and_bash_its_commands(name):
    config = prepared(load(name))
    assert config["cluster_name"] == "edgenes"
    assert "tune_jobs" in config["file_mounts"]["~/edgenes/source/tune_jobs"]
    commands = [command for key in config if key.endswith("_commands") for command in config[key]]
    assert len(commands) > 5
    for command in commands:
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)


@pytest.mark.parametrize("name", RAY_YAMLS)
def test_what_is_copied_is_what_pip_needs(name):
    copied = {Path(local) for remote, local in load(name)["file_mounts"].items() if "source" in remote}
    assert all((ROOT / path).exists() for path in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {Path(name.rstrip("*")) for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages | {Path("pyproject.toml"), Path(project["project"]["readme"])}


def test_aws_would_give_a_head_on_demand_and_spot_workers(tmp_path, monkeypatch):
    only_where_asked()  # it takes as long as a study
    moto = pytest.importorskip("moto", reason="needs the package moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs the package boto3")
    import tempfile

    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider

    monkeypatch.setenv("HOME", str(tmp_path))  # the key pair goes to ~/.ssh
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws():
        iam = boto3.client("iam")  # what Ray itself would make, and then sleep for
        iam.create_instance_profile(InstanceProfileName="ray-autoscaler-v1")
        iam.create_role(RoleName="ray-autoscaler-v1", AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName="ray-autoscaler-v1", RoleName="ray-autoscaler-v1")
        config = _bootstrap_config(load("aws.yaml"), no_config_cache=True)
        assert config["available_node_types"]["worker"]["resources"]["CPU"] == 8  # of a c5.2xlarge
        provider = _get_node_provider(config["provider"], config["cluster_name"])
        for kind, node in config["available_node_types"].items():
            provider.create_node(node["node_config"], {"ray-node-kind": kind}, 1)
        instances = {
            next(tag["Value"] for tag in instance.tags if tag["Key"] == "ray-node-kind"): instance
            for instance in provider.ec2.instances.all()
        }
    assert instances["head"].instance_lifecycle is None
    assert instances["worker"].instance_lifecycle == "spot"
    assert instances["worker"].instance_type == "c5.2xlarge"
    assert [instance.image_id for instance in instances.values()] == ["ami-0123456789abcdef0"] * 2


def test_shellcheck_finds_nothing_in_the_slurm_script():
    if shutil.which("shellcheck") is None:
        pytest.skip("needs Debian's package shellcheck")
    done = subprocess.run(["shellcheck", CLUSTER / "slurm.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


RAY_JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def test_the_ray_job_is_one_that_kuberay_reads():
    text = (CLUSTER / "kuberay.yaml").read_text()
    claim, ray_job = yaml.safe_load_all(text)
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    spec = ray_job["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec.keys() <= RAY_JOB and cluster.keys() <= RAY_CLUSTER  # the API server drops what it does not know
    assert spec["shutdownAfterJobFinishes"] is True and cluster["authOptions"] == {"mode": "token"}
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "studies.anneal_sweep"]
    config = tyro.cli(SweepConfig, args=words[3:], config=(tyro.conf.OmitArgPrefixes,))

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ray = next(d for d in project["project"]["dependencies"] if d.startswith("ray["))
    low, high = re.findall(r"[\d.]+", ray)
    assert numbers(low) <= numbers(cluster["rayVersion"]) < numbers(high)
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-py312" in text

    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head.keys() <= {"rayStartParams", "template"} and head["rayStartParams"]["num-cpus"] == "0"
    assert config.execution.wait_for_nodes == 1 + sum(group["replicas"] for group in workers)
    for group in workers:
        assert group.keys() == GROUP and group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f":{cluster['rayVersion']}")
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
        assert config.out.is_relative_to(mounts["studies"])
        (volume,) = group["template"]["spec"]["volumes"]
        assert volume["name"] == "studies"
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def numbers(version):
    return tuple(map(int, version.split(".")))


@pytest.mark.parametrize("out", [None, Path("runs/x")])
def test_a_job_is_refused_where_its_study_would_be_lost(monkeypatch, out):
    check_job_folder(out)
    monkeypatch.setenv(JOB, "{}")
    with pytest.raises(ConfigError, match=f"absolute folder that all nodes share.*got {out or 'none'}"):
        check_job_folder(out)
    check_job_folder(Path("/shared/x"))


def test_a_study_waits_for_its_nodes(ray_local):
    said = []
    wait_for_nodes(1, said.append)
    assert said == []
    with pytest.raises(StudyError, match=r"1 of 2 nodes joined the Ray cluster.*--wait-for-nodes"):
        wait_for_nodes(2, said.append, limit=0.1)
    assert said == ["Waiting for nodes: 1 of 2 are there."]


STUDY = '--smoke-test --sampler random --dataset digits --out "$SHARED/study"'

LOCAL = rf"""
sed -e 's/head_ip: .*/head_ip: 10.77.0.1/' -e 's/worker_ips: .*/worker_ips: [10.77.0.2]/' -e 's/ubuntu/root/' \
    tune_jobs/cluster/local.yaml > "$HOME/local.yaml"
ray get-auth-token --generate > /dev/null
ray up -y "$HOME/local.yaml"
python -m tune_jobs submit "$HOME/local.yaml" -- {STUDY} --wait-for-nodes 2 --root "/it's \$HOME #1"
ray rsync-down "$HOME/local.yaml" "$SHARED/study/" "$SHARED/../fetched"
ray down -y "$HOME/local.yaml"
"""


def test_a_study_on_machines_over_ssh(undisturbed, tmp_path):
    done = in_network(tmp_path, LOCAL, limit=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not inspect(tmp_path / "fetched", undisturbed).problems  # the same numbers as on this machine
    assert json.loads((tmp_path / "fetched" / "config.json").read_text())["options"]["root"] == "/it's $HOME #1"
    assert (tmp_path / "node1" / "home" / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert worked(tmp_path / "node2" / "tmp" / "ray")


SLURM = rf"""
python -m tune_jobs submit slurm -- {STUDY}
set +x
until [ -s "$SHARED/study/trials/0000.jsonl" ]; do sleep 0.2; [ ! -e "$SHARED/job/ended" ]; done
ssh -o StrictHostKeyChecking=no 10.77.0.1 "kill -TERM $(cat "$SHARED/job/pid")"
until [ -e "$SHARED/job/ended" ]; do sleep 0.5; done
"""


def test_a_study_on_slurm_stops_in_time_and_goes_on_when_it_is_requeued(undisturbed, tmp_path):
    done = in_network(tmp_path, SLURM, limit=900)
    job = tmp_path / "shared" / "job"
    said = (job / "log").read_text()
    assert done.returncode == 0, said + done.stderr
    assert (job / "statuses").read_text().split() == ["130", "0"]  # stopped and requeued; ended
    assert "Run the same command again to resume." in said
    assert not inspect(tmp_path / "shared" / "study", undisturbed).problems
    assert (tmp_path / "laptop" / "home" / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert worked(tmp_path / "node2" / "tmp" / "ray-0-7")


def worked(folder):
    """Whether trials ran on the machine whose Ray wrote its files there."""
    return any(":actor_name:" in path.read_text() for path in folder.glob("session_2*/logs/worker-*.out"))
