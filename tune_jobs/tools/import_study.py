"""An exported study, unpacked into a new folder after every file was checked against the archive's manifest."""

import json
import shlex
import shutil
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from edgenes.checkpoint import read_json, write_json
from edgenes.data.sources import SOURCES
from edgenes.errors import CheckpointError
from edgenes.parsing import reason, shown
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import CONFIG, file_digest
from tune_jobs.progress.text import one_line, size_text
from tune_jobs.study.saved import SavedStudy, open_saved
from tune_jobs.tools.commands import Import
from tune_jobs.tools.export_study import FORMAT, KIND, MANIFEST, trials_text
from tune_jobs.tools.machine import differing_environment


def run(command: Import) -> dict[str, Any]:
    """Unpack the archive into the new folder; a study that is not whole leaves nothing there."""
    target = command.folder.absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise StudyError(f"{target} exists and is not an empty folder: give a new one.")
    if not command.archive.is_file():
        raise StudyError(f"there is no file {command.archive}: give one that export wrote.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            manifest = _unpack(command.archive, staging)
            arrived = open_saved(staging)
            trials, elsewhere = arrived.trials(), differing_environment(arrived)  # what cannot be read ends it here
            if command.dataset is not None or command.root is not None:
                _place_data(arrived.with_data(command.dataset, command.root))
            staging.chmod(0o755)
            staging.rename(target)  # over an empty folder, or nothing
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StudyError(f"{command.archive} cannot be unpacked into {target}: {reason(error)}.") from error
    saved = open_saved(target)
    return {
        "folder": str(target),
        "files": len(manifest["files"]),
        "bytes": sum((target / name).stat().st_size for name in manifest["files"]),
        "created": manifest["created"],
        "trials": dict(Counter(trial.state.name for trial in trials)),
        "elsewhere": elsewhere,
        "paths": paths_elsewhere(saved),
        "command": command_line(saved.config, target),
    }


def _place_data(saved: SavedStudy) -> None:
    """Store where the study's data are on this machine; raises DataError or StudyError if they are not there."""
    saved.data()
    path, options = saved.folder / CONFIG, saved.config.data
    stored = read_json(path)
    stored["options"] |= {"dataset": options.dataset, "root": options.root and str(options.root)}
    write_json(path, stored)


def text(answer: dict[str, Any]) -> str:
    """What arrived, what differs here, and the command that resumes the study."""
    size, created = size_text(answer["bytes"]), one_line(answer["created"])
    rows = [
        f"{answer['folder']}: {answer['files']} files, {size}, exported {created}",
        f"  trials    {trials_text(answer['trials'])}",
        *(f"  differs   {one_line(line)}" for line in answer["elsewhere"]),
    ]
    for row in answer["paths"]:
        todo = "there is one here" if row["found"] else "missing here: " + _NOTES[row["option"]]
        rows.append("  " + one_line(f"{row['option']} was {row['value']}; {todo}", 400))
    return "\n".join([*rows, "To resume it:", f"  {answer['command']}"])


_NOTES = {
    "--dataset": "give the path of the same data to import, to the command below, replay and ensemble",
    "--root": "give the folder of the same data to import, to the command below, replay and ensemble",
    "--optimal": "put a copy of search/genotype.json there",
}


def _unpack(archive: Path, staging: Path) -> dict[str, Any]:
    """Unpack the archive and return its manifest; raises CheckpointError unless it holds exactly what that lists."""
    try:
        with tarfile.open(archive, "r:") as tar:
            names = set(tar.getnames())
            tar.extractall(staging, filter="data")
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        raise CheckpointError(f"{archive} is no whole archive that export wrote: {reason(error)}.") from error
    manifest = _manifest(archive, staging / MANIFEST)
    if manifest["files"].keys() != names - {MANIFEST}:
        raise CheckpointError(f"{archive} does not hold the files that its {MANIFEST} lists: copy the archive again.")
    for name, entry in manifest["files"].items():
        if file_digest(staging / name) != entry["sha256"]:
            raise CheckpointError(f"{archive} is damaged: {name} has changed. Copy the archive again.")
    return manifest


def _manifest(archive: Path, path: Path) -> dict[str, Any]:
    """The manifest, taken out of the folder."""
    if not path.is_file():
        raise CheckpointError(f"{archive} has no {MANIFEST}: export did not write it, or it was cut short.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["kind"] != KIND or not isinstance(manifest["created"], str):
            raise ValueError(f"its kind is {shown(manifest['kind'])}")
        {name: entry["sha256"] for name, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the {MANIFEST} of {archive} is not one of export: {reason(error)}.") from None
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{archive} has format {shown(manifest['format'])}, this version reads format {FORMAT}; "
            "use the version of EdgeNES Studio that wrote it."
        )
    path.unlink()
    return manifest


def paths_elsewhere(saved: SavedStudy) -> list[dict[str, Any]]:
    """Options that name files of the machine that the study comes from: [{"option", "value", "found"}]."""
    config = saved.config
    paths: dict[str, Any] = {"--root": config.data.root, "--optimal": config.genotype_file}
    if config.data.dataset not in SOURCES:
        paths["--dataset"] = config.data.dataset
    return [
        {"option": option, "value": str(path), "found": Path(path).exists()} for option, path in paths.items() if path
    ]


def command_line(config: SweepConfig, folder: Path) -> str:
    """The sweep's command that resumes a study in `folder`: every setting that is not the default."""
    words = ["python", "studies/anneal_sweep.py", "--out", str(folder)]
    default = SweepConfig().to_dict()
    here = ("out", "storage", "address", "dashboard", "dry_run", "smoke_test", "preset")
    for name, value in config.to_dict().items():
        if value == default[name] or name in here:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
