"""The names of everything in a study's folder."""

import hashlib
from pathlib import Path


def curve_path(folder: str | Path, number: int) -> Path:
    """The curve file of trial `number` in the study's folder; `read_curve` reads it."""
    return Path(folder) / "trials" / f"{number:04d}.jsonl"


TEST_READS = "test_reads.jsonl"
HYPERNETWORK = "hypernetwork/hypernetwork.pt"
"""The hypernetwork that was chosen, in the study's folder."""
FINALISTS = "hypernetwork/finalists.json"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


DRIVER = "driver"
"""What the names of a driver's own files in a study's folder begin with."""
ARTIFACTS = "artifacts"
CONFIG = "config.json"
EXPERIMENT = "experiment.json"
"""What an experiment (studies/ without the sweep) has in the place of CONFIG."""
GENOTYPE = "search/genotype.json"
LOGITS = "search/logits.pt"
RAY = "ray"
"""The folder of Ray's own files, a folder a stage and driver in it, among the files that driver and workers share."""
DATABASE = "study.db"
"""The Optuna study's file in the study's folder, where no other storage is given."""
CARD = Path("ensemble") / "card.json"
ENSEMBLE = Path("ensemble") / "ensemble.pt"


def hypernetwork_path(trial: int) -> str:
    """Where in the study's folder a trial leaves its hypernetwork."""
    return f"trials/{trial:04d}-hypernetwork.pt"
