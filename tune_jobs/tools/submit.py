"""A study on a cluster: the right command for an address, a cluster's YAML or SLURM."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from edgenes.data.sources import SOURCES
from edgenes.errors import ConfigError
from edgenes.parsing import reason
from tune_jobs.cli import parsed
from tune_jobs.config.passwords import IN_FILE, VARIABLE, refuse_passwords
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.environment import COMMIT, commit
from tune_jobs.study.storage import JOURNAL, SQLITE
from tune_jobs.tools.cluster_file import CLUSTER
from tune_jobs.tools.commands import Submit

MODULE = "studies.anneal_sweep"
ROOT = Path(__file__).parents[2]
"""The checkout that this code runs from, or the folder of installed packages."""
EXCLUDES = ("/*", "!/.", "!/edgenes", "!/tune_jobs", "!/studies", "__pycache__")
"""What of the checkout a job is not sent, in the language of .gitignore: all but the packages; Ray asks for . too."""
AUTH = "RAY_AUTH_MODE"


@dataclass(frozen=True)
class Call:
    """What is run: `words`, with `environment` added to that of this process."""

    kind: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    submission_id: str | None = None

    def line(self) -> str:
        """The command for a shell."""
        return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in self.environment.items()), shlex.join(self.words)])


def run(command: Submit) -> dict[str, Any]:
    """Check the study's arguments, and run the command that submits it, or only return it."""
    config = study_config(command.arguments)
    call = call_for(command.target, config, command.arguments)
    if not command.dry_run and call.kind == "job":
        call = authenticated(call, command.target)
    return {
        "kind": call.kind,
        "target": command.target,
        "command": call.words,
        "environment": call.environment,
        "line": call.line(),
        "submission_id": call.submission_id,
        "out": str(config.out),
        "status": None if command.dry_run else _run(call, command.json),
    }


def _run(call: Call, json_only: bool) -> int:
    """Run the call and return its exit status; its output goes to standard error if standard output is for JSON."""
    Console(stderr=True).print(call.line(), markup=False, highlight=False, soft_wrap=True)
    output = sys.stderr if json_only else None
    try:
        return subprocess.run(call.words, env={**os.environ, **call.environment}, stdout=output).returncode
    except FileNotFoundError:
        raise StudyError(f"there is no {call.words[0]} on this machine: submit from one that has it.") from None
    except KeyboardInterrupt:
        if call.kind != "job":
            raise
        job = call.submission_id
        raise StudyError(
            f"the job is still running: see `ray job logs --follow {job}`, or `ray job stop {job}`."
        ) from None


def text(answer: dict[str, Any]) -> str:
    """The command, or how it ended."""
    if answer["status"] is None:
        return answer["line"]
    done = "queued" if answer["kind"] == "slurm" else "ended"
    return f"{done}, with exit status {answer['status']}; the study's folder on the cluster: {answer['out']}"


def study_config(arguments: tuple[str, ...]) -> SweepConfig:
    """The study of the arguments; raises ConfigError for what would only be found out, or be lost, on the cluster.

    An argument that the study does not have ends this process, as in the study itself.
    """
    refuse_passwords(arguments)
    config = parsed(SweepConfig, list(arguments), prog="submit TARGET --")
    if config.out is None:
        raise ConfigError("give --out: an absolute folder that all nodes share, as --out /shared/anneal-digits.")
    paths: dict[str, Any] = {"out": config.out, "root": config.data.root, "optimal": config.genotype_file}
    if config.data.dataset not in SOURCES:
        paths["dataset"] = config.data.dataset
    for prefix in (JOURNAL, SQLITE, IN_FILE):
        if (config.storage or "").startswith(prefix):
            paths["storage"] = config.storage.removeprefix(prefix)
    for name, path in paths.items():
        if path is not None and not Path(path).is_absolute():
            known = f"one of {', '.join(SOURCES)}, or " if name == "dataset" else ""
            raise ConfigError(
                f"--{name} {path} is another place on the cluster: give {known}an absolute path that all nodes share."
            )
    return config


def call_for(target: str, config: SweepConfig, arguments: tuple[str, ...]) -> Call:
    """The call that submits the study to `target`; raises ConfigError if that is nothing to submit to."""
    scheme, separator, _ = target.partition("://")
    path = Path(target).expanduser()
    if separator and scheme in ("http", "https", "ray"):
        return _job(target, config, arguments)
    if path.suffix in (".yaml", ".yml"):
        return _cluster(path, config, arguments)
    if target == "slurm" or path.suffix == ".sh":
        script = CLUSTER / "slurm.sh" if target == "slurm" else path
        if not script.is_file():
            raise ConfigError(f"there is no script {script}: `python -m tune_jobs cluster-file slurm > {script}`.")
        return Call("slurm", ["sbatch", f"--job-name={_name(config)}", str(script), *arguments])
    raise ConfigError(f"{target} is no target: give http://HOST:8265, ray://HOST:10001, a .yaml, slurm or a .sh.")


def authenticated(call: Call, target: str) -> Call:
    """The call with a token, where the cluster asks for one; raises StudyError without one, or if nothing answers."""
    mode = os.environ.get(AUTH)
    if mode is None and not target.startswith("ray://") and _asks_for_token(target):
        mode = "token"
        call = replace(call, environment={AUTH: mode, **call.environment})
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if mode == "token" and not (os.environ.get("RAY_AUTH_TOKEN") or token.is_file()):
        raise StudyError(f"{target} asks for a token, and there is none in {token}: copy that of its head, mode 600.")
    return call


def _asks_for_token(dashboard: str) -> bool:
    try:
        urllib.request.urlopen(f"{dashboard.rstrip('/')}/api/version", timeout=10).close()  # noqa: S310
    except (OSError, ValueError) as error:
        if getattr(error, "code", None) in (401, 403):
            return True
        why = getattr(error, "reason", error)
        raise StudyError(f"no Ray cluster at {dashboard}: {why}. Give the address of its dashboard.") from None
    return False


def _job(target: str, config: SweepConfig, arguments: tuple[str, ...]) -> Call:
    _check_storage(config)
    submission = f"{_name(config)}-{datetime.now():%Y%m%d-%H%M%S}"
    metadata = {"study": str(config.out), "dataset": config.data.dataset}
    words = [_ray(), "job", "submit", "--submission-id", submission]
    if (ROOT / "pyproject.toml").is_file():  # else the package is installed here, as it is on the nodes
        metadata["commit"] = commit() or ""
        environment = {"excludes": list(EXCLUDES), "env_vars": {COMMIT: metadata["commit"]}}
        words += ["--working-dir", str(ROOT), "--runtime-env-json", json.dumps(environment)]
    words += ["--metadata-json", json.dumps(metadata), "--", "python", "-m", MODULE, *arguments]
    # Not --address, over which Ray prefers this variable, and RAY_ADDRESS too.
    return Call("job", words, {"RAY_API_SERVER_ADDRESS": target}, submission)


def _cluster(path: Path, config: SweepConfig, arguments: tuple[str, ...]) -> Call:
    _check_storage(config)
    try:
        content = next(iter(yaml.safe_load_all(path.read_text())), None)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {reason(error)}. `cluster-file local` gives one to edit.") from None
    if isinstance(content, dict) and "apiVersion" in content:
        raise ConfigError(f"{path} is for Kubernetes: edit its entrypoint, and kubectl apply -f {path}.")
    # Without an address the study would start a Ray of its own on the head.
    inner = arguments if config.execution.address else ("--address", "auto", *arguments)
    script = ROOT / MODULE.replace(".", "/")
    # Ray joins the words with spaces and gives them to a shell of the head.
    return Call("cluster", [_ray(), "submit", str(path), f"{script}.py", "--", *map(shlex.quote, inner)])


def _check_storage(config: SweepConfig) -> None:
    if os.environ.get(VARIABLE) and config.storage is None:
        raise ConfigError(
            f"{VARIABLE} of this machine does not reach the cluster. Put the URL into the first line of a private file "
            f"there and give --storage {IN_FILE}/PATH, or unset {VARIABLE}: the study is then in its folder."
        )


def _name(config: SweepConfig) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", config.out.name).strip("-.") or "study"


def _ray() -> str:
    """Ray's command of this environment, which may not be active."""
    beside = Path(sys.executable).with_name("ray")
    return str(beside) if beside.is_file() else shutil.which("ray") or "ray"
