"""Where a study runs; nothing here changes its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgenes.errors import ConfigError
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.budget import MOST
from tune_jobs.config.passwords import has_password


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Processors, GPUs, the Ray cluster, shared files, and who watches."""

    max_concurrent: int | None = None
    """Trials at once; by default as many as fit."""
    cpus_per_trial: int = 1
    """CPUs, and threads, of a trial."""
    gpus_per_trial: float | Literal["auto"] | None = None
    """GPUs of a trial, fractions allowed; auto measures a trial's memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where trials compute; auto takes a GPU where they have one."""
    storage_path: str | None = None
    """Shared folder or URL (s3://...) for checkpoints and predictions."""
    cache: str | None = None
    """Folder of earlier retrainings to use again, or off."""
    address: str | None = None
    """Ray cluster to join; by default RAY_ADDRESS, else this machine's own."""
    wait_for_nodes: int = 1
    """Nodes of the Ray cluster to wait for."""
    dashboard: bool = False
    """Start Ray's dashboard and print its address."""
    log: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Log curves and result for TensorBoard, MLflow or W&B."""

    def __post_init__(self):
        object.__setattr__(self, "log", tuple(dict.fromkeys(self.log)))
        check_at_least(self, 1, "cpus_per_trial", "wait_for_nodes")
        check_at_most(self, MOST, "cpus_per_trial")
        if self.max_concurrent is not None:
            check_at_least(self, 1, "max_concurrent")
        if self.gpus_per_trial not in (None, "auto"):
            check_at_least(self, 0, "gpus_per_trial")
            if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
                raise ConfigError(
                    f"gpus_per_trial must be a whole number, or a share of one GPU, got {self.gpus_per_trial}."
                )
        if self.storage_path is not None:
            _check_storage_path(self.storage_path)


def _check_storage_path(place: str) -> None:
    """Raise ConfigError for a relative folder, another one on each node, and credentials, which would be stored."""
    if has_password(place):
        raise ConfigError(
            "--storage-path shows a password: leave the credentials to the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY) or to the cloud's own files, on every node."
        )
    if "://" not in place and not Path(place).is_absolute():
        raise ConfigError(
            f"--storage-path must be an absolute folder that all nodes share, or a URL such as s3://BUCKET/PREFIX, "
            f"got {place}."
        )
