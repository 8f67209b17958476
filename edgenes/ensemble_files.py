"""The files of a saved ensemble, as the Hugging Face hub lays out a model: weights, configuration, card, no code."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
from torch import Tensor

from edgenes.checkpoint import load_checkpoint, read_bytes, read_json, write_atomically, write_text
from edgenes.errors import CheckpointError, ConfigError, FormatError
from edgenes.parsing import reason, shown

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
EARLIER = "ensemble.pt"
"""The one file of version 0.2.0 and before."""
KIND = "edgenes-ensemble"
FORMAT = 1


def ensemble_file(place: Path) -> Path:
    """The configuration of the ensemble in a folder, or beside another file of it; an earlier version's only file."""
    folder = place.parent if place.is_file() else place
    return folder / (EARLIER if (folder / EARLIER).exists() and not (folder / CONFIG).exists() else CONFIG)


def write_ensemble(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], card: str) -> None:
    """Write the three files. The configuration comes last: it names, by their digest, the weights that it belongs to.

    Raises WriteError when one cannot be written.
    """
    content = safetensors.torch.save(weights, {"format": "pt"})
    about = {"kind": KIND, "format": FORMAT, "weights_sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(about | config, indent=2, allow_nan=False)  # refuses what is not plain before a file is there
    write_atomically(folder / WEIGHTS, lambda file: file.write(content))
    write_text(folder / CARD, card)
    write_text(folder / CONFIG, text + "\n")


def read_ensemble(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights by `ensemble_file`, which is not trusted: no code runs.

    Raises CheckpointError for files that are missing, damaged, of something else, or not of one another.
    """
    if path.name == EARLIER:
        config = load_checkpoint(path, "ensemble")
        members = enumerate(config["weights"])
        weights = {f"networks.{k}.{name}": value for k, member in members for name, value in member.items()}
        return {**config, "card": json.loads(config["card"])}, weights
    config = read_json(path)
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise CheckpointError(f"{path} describes no ensemble: give the folder that holds one, as a study prints it.")
    if config.get("format") != FORMAT:
        raise FormatError(
            f"{path} has format {shown(config.get('format'))}, this version reads format {FORMAT}; "
            "use the version of EdgeNES Studio that wrote it."
        )
    content = read_bytes(path.with_name(WEIGHTS))
    if hashlib.sha256(content).hexdigest() != config.get("weights_sha256"):
        raise CheckpointError(f"{path.with_name(WEIGHTS)} is damaged, or not what {CONFIG} beside it belongs to.")
    return config, safetensors.torch.load(content)


def download(repo: str, **options: Any) -> Path:
    """The folder with a copy of an ensemble on the Hugging Face hub; `options` are those of `snapshot_download`.

    Raises ConfigError without the extra `hub`, CheckpointError if it cannot be had.
    """
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, allow_patterns=[CONFIG, WEIGHTS], **options))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{repo} is no folder here, and cannot be had from the Hugging Face hub: {reason(error)}."
        ) from error


def upload(repo: str, write: Callable[[Path], None], private: bool | None, **options: Any) -> str:
    """Create the repository if it is not there, and commit the files that `write(folder)` makes; returns its URL.

    `options` are those of `upload_folder`. Raises ConfigError without the extra `hub`, CheckpointError if refused.
    """
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            url = hub.create_repo(repo, private=private, exist_ok=True, token=options.get("token"))
            hub.upload_folder(repo_id=repo, folder_path=folder, **options)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{repo} cannot be written on the Hugging Face hub: {reason(error)}.") from error
    return str(url)


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError("the Hugging Face hub needs another package: pip install 'edgenes-studio[hub]'.") from error
    return huggingface_hub
