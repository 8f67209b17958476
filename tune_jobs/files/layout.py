"""The names of everything in a study's folder, relative to it."""

import hashlib
from pathlib import Path

# What the study is.
CONFIG = "config.json"
EXPERIMENT = "experiment.json"
"""What an experiment (studies/ without the sweep) has in the place of CONFIG."""
ENVIRONMENT = "environment.json"
DATABASE = "study.db"
"""The Optuna study, where no other storage is given."""
OWNER = "study.txt"
"""The study's identifier, in a folder under --storage-path."""

# What its stages leave.
STAGES = "stages.json"
"""The seconds that each stage took."""
GENOTYPE = "search/genotype.json"
PREDICTOR = "search/predictor.json"
"""What the performance predictor was fitted to: the survey's genotypes and their losses."""
TRIALS = "trials"
TRIALS_TABLE = "trials.csv"
PREDICTIONS = "predictions"
"""Retrained networks: predictions on V, and weights of those that were retrained fully."""
SEARCHES = "searches"
"""Searches, and an experiment's hypernetworks."""
JOBS = "jobs"
"""Results of jobs, a folder a stage."""
ARTIFACTS = "artifacts"
"""Pictures of trials, as optuna-dashboard shows them."""
HYPERNETWORK = "hypernetwork/hypernetwork.pt"
"""The hypernetwork that was chosen."""
FINALISTS = "hypernetwork/finalists.json"
ENSEMBLE_FOLDER = "ensemble"
ENSEMBLE_FILES = tuple(f"{ENSEMBLE_FOLDER}/{name}" for name in ("config.json", "model.safetensors", "README.md"))
TEST_READS = "test_reads.jsonl"
RESULT = "result.json"
"""All numbers; a sweep is finished once it is there."""

# What only a running driver needs.
DRIVER = "driver.json"
"""The lease of the process that drives the study."""
DRIVER_LOCK = "driver.lock"
RAY = "ray"
"""Ray's own files, a folder a stage and driver in it, among the files that driver and workers share."""
TENSORBOARD = "tensorboard"
MLFLOW = "mlflow"
WANDB = "wandb"


def curve_path(folder: str | Path, number: int) -> Path:
    """The curve file of trial `number` in the study's folder; `read_curve` reads it."""
    return Path(folder) / TRIALS / f"{number:04d}.jsonl"


def hypernetwork_path(trial: int) -> str:
    """Where in the study's folder a trial leaves its hypernetwork."""
    return f"{TRIALS}/{trial:04d}-hypernetwork.pt"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
