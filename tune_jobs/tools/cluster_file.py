"""The files that start a cluster, to be edited."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from tune_jobs.tools.command import Command

CLUSTER = Path(__file__).parents[1] / "cluster"
FILES = {"local": "local.yaml", "aws": "aws.yaml", "slurm": "slurm.sh", "kuberay": "kuberay.yaml"}


@dataclass(frozen=True, kw_only=True)
class ClusterFile(Command):
    """Print a file that starts a cluster; what to edit stands at its top: ... cluster-file slurm > my.sh"""

    name: Positional[Literal[*FILES]]
    """local: machines over ssh; aws: EC2 with spot workers; slurm: a batch script; kuberay: a RayJob."""

    def run(self) -> dict[str, Any]:
        path = CLUSTER / FILES[self.name]
        return {"name": self.name, "path": str(path), "text": path.read_text()}

    def text(self, answer: dict[str, Any]) -> str:
        return answer["text"].removesuffix("\n")
