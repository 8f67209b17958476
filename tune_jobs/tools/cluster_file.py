"""The files that start a cluster, to be edited."""

from pathlib import Path
from typing import Any

CLUSTER = Path(__file__).parents[1] / "cluster"
FILES = {"local": "local.yaml", "aws": "aws.yaml", "slurm": "slurm.sh", "kuberay": "kuberay.yaml"}


def run(command: Any) -> dict[str, Any]:
    """The file that `command.name` names."""
    path = CLUSTER / FILES[command.name]
    return {"name": command.name, "path": str(path), "text": path.read_text()}


def text(answer: dict[str, Any]) -> str:
    """The file itself."""
    return answer["text"].removesuffix("\n")
