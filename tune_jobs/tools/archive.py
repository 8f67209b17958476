"""A study in one file, for another machine: a plain tar of regular files, their SHA-256 in a manifest at its end."""

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from tyro.conf import Positional

from edgenes.data.sources import SOURCES
from edgenes.errors import CheckpointError
from edgenes.parsing import JSON_BYTES, parse_json, reason, shown
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.environment import versions
from tune_jobs.files.integrity import is_damaged, is_temporary
from tune_jobs.files.layout import DATABASE
from tune_jobs.progress.text import one_line, size_text
from tune_jobs.study.saved import SavedStudy, open_saved, storage_url, study_name
from tune_jobs.study.storage import SQLITE_TIMEOUT, plain_reason, storage_file, storage_from
from tune_jobs.tools.command import Command, StudyCommand
from tune_jobs.tools.folder import DRIVER, contents
from tune_jobs.watch.pictures import copy_notes

KIND, FORMAT = "edgenes-study", 1
MANIFEST = "manifest.json"
MAX_BYTES = 64 * 2**30
"""Bytes of all files of an archive that is unpacked."""
MAX_FILES = 100_000
"""Files of an archive that is unpacked."""
TRIES = 5
"""A checkpoint may be replaced by a newer one while it is copied: then database and files are read again."""
_BLOCK = 2**20
_CHECKPOINT = re.compile(r"ray/[^/]+/trial-\d+-[^/]+/checkpoint_\d+/.+")


@dataclass(frozen=True, kw_only=True)
class Export(StudyCommand):
    """Pack a study into one file, to go on with it on another machine; it may be running."""

    archive: Positional[Path]
    """The file to write, OUT.tar."""

    def run(self) -> dict[str, Any]:
        saved, target = self.open(), self.archive.absolute()
        if target.exists():
            raise StudyError(f"{target} exists: remove it, or give another name.")
        if target.is_relative_to(saved.folder):
            raise StudyError(f"{target} lies in the study itself: give a file outside of {saved.folder}.")
        if not target.parent.is_dir():
            raise StudyError(f"there is no folder {target.parent}: create it, or give another file.")
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as work:
                manifest, left_out = _pack(saved, Path(work))
                os.replace(Path(work) / "archive.tar", target)
        except OSError as error:
            raise StudyError(
                f"the study cannot be packed into {target}: {reason(error)}. See to it, and try again."
            ) from error
        return {
            "folder": str(saved.folder),
            "archive": str(target),
            "bytes": target.stat().st_size,
            "files": len(manifest["files"]),
            "trials": manifest["trials"],
            "left_out": left_out,
        }

    def text(self, answer: dict[str, Any]) -> str:
        trials = ", ".join(f"{count} {state}" for state, count in answer["trials"].items())
        lines = [
            f"{answer['archive']}: {answer['files']} files, {size_text(answer['bytes'])}",
            f"  trials    {trials or 'none'}",
        ]
        lines += [f"  left out  {name}" for name in answer["left_out"]]
        lines.append(f"There: python -m tune_jobs import {shlex.quote(Path(answer['archive']).name)} FOLDER")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Import(Command):
    """Unpack an exported study into a new folder, each file checked, and say how to go on with it."""

    archive: Positional[Path]
    """The file that export wrote."""
    folder: Positional[Path]
    """The study's new folder."""

    def run(self) -> dict[str, Any]:
        target = self.folder.absolute()
        if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
            raise StudyError(f"{target} exists and is not an empty folder: give a new one.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
            try:
                manifest = _unpack(self.archive, staging)
                open_saved(staging).trials()  # it is a study, and its trials can be read
                staging.chmod(0o755)
                staging.rename(target)  # over an empty folder, or nothing
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise StudyError(f"{self.archive} cannot be unpacked into {target}: {reason(error)}.") from error
        saved = open_saved(target)
        here = versions()
        return {
            "folder": str(target),
            "files": len(manifest["files"]),
            "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
            "created": manifest["created"],
            "trials": dict(Counter(trial.state.name for trial in saved.trials())),
            "versions": {
                name: {"there": version, "here": here.get(name)}
                for name, version in manifest["versions"].items()
                if version != here.get(name)
            },
            "paths": paths_elsewhere(saved),
            "command": command_line(saved.config, target),
        }

    def text(self, answer: dict[str, Any]) -> str:
        trials = ", ".join(f"{count} {state}" for state, count in answer["trials"].items())
        size, created = size_text(answer["bytes"]), one_line(answer["created"])
        lines = [
            f"{answer['folder']}: {answer['files']} files, {size}, exported {created}",
            f"  trials    {trials or 'none'}",
        ]
        for name, row in answer["versions"].items():
            lines.append("  " + one_line(f"{name:<9} {row['there']} there, {row['here']} here"))
        for row in answer["paths"]:
            found = " (there is one here)" if row["found"] else ""
            lines.append("  " + one_line(f"{row['option']}  {row['said']}{found}", 400))
        lines += ["To go on with it:", f"  {answer['command']}"]
        return "\n".join(lines)


def travels(name: str) -> bool:
    """Whether a file of a study's folder belongs in an archive; the database goes by a way of its own."""
    own = name == DRIVER or name.endswith(".lock") or is_temporary(name) or is_damaged(name)
    # MLflow's database is written by other programs than ours, and read by a library that trusts it: it stays.
    return not (
        own or name.startswith(("ray/", "mlflow/")) or name == MANIFEST or re.fullmatch(r"study\.db(-\w+)?", name)
    )


class _Vanished(Exception):
    """A running trial's checkpoint was replaced by a newer one."""


def _pack(saved: SavedStudy, work: Path) -> tuple[dict[str, Any], list[str]]:
    """Write work/archive.tar; returns its manifest, and what was left out and why."""
    for attempt in range(TRIES):
        try:
            return _pack_once(saved, work)
        except _Vanished as error:
            if attempt == TRIES - 1:
                raise StudyError(f"{error} Try again, or stop the driver first.") from None
    raise AssertionError


def _pack_once(saved: SavedStudy, work: Path) -> tuple[dict[str, Any], list[str]]:
    # The database comes first: a trial that ends meanwhile is then one that goes on from its checkpoint.
    database = work / DATABASE
    database.unlink(missing_ok=True)
    _copy_database(saved, database)
    trials = optuna.load_study(study_name="anneal", storage=storage_from(database)).get_trials(deepcopy=False)
    found = contents(saved.folder)
    checkpoints, left_out = [], [f"{name}: no regular file" for name in found.others]
    left_out += [f"{name}: MLflow's own database does not travel" for name in found.matching(r"mlflow/.*")]
    for trial in trials:
        noted = trial.user_attrs.get("checkpoint")
        if trial.state != TrialState.RUNNING or noted is None:
            continue
        kept = found.matching(rf"ray/[^/]+/trial-{trial.number}-[^/]+/checkpoint_\d+/.+")
        checkpoints += kept  # the one before as well, in case the newest is damaged
        if not any(name.startswith(f"{noted}/") for name in kept):
            if saved.trials()[trial.number].user_attrs.get("checkpoint") != noted:
                raise _Vanished(f"the checkpoint of trial {trial.number} was replaced while the study was copied.")
            left_out.append(f"{noted}: this checkpoint is not in the folder; trial {trial.number} begins anew")
    storage = storage_file(storage_url(saved.config))
    plain = [name for name in found.files if travels(name) and saved.folder / name != storage]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "study": saved.folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "trials": dict(Counter(trial.state.name for trial in trials)),
        "files": {},
    }
    with tarfile.open(work / "archive.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        manifest["files"][DATABASE] = _add(tar, DATABASE, database)
        for name in checkpoints + plain:
            try:
                manifest["files"][name] = _add(tar, name, saved.folder / name)
            except FileNotFoundError:
                if name in checkpoints:
                    raise _Vanished(f"the checkpoint {name} was replaced while it was copied.") from None
            except ValueError as error:  # longer than this format's names, or than its largest file
                left_out.append(f"{name}: {reason(error)}")
        content = json.dumps(manifest, indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(content)
        tar.addfile(info, BytesIO(content))
    return manifest, left_out


def _copy_database(saved: SavedStudy, target: Path) -> None:
    """The Optuna study as a file of its own, consistent even while a driver writes."""
    config = saved.config
    if config.storage is not None:
        url = storage_url(config)
        try:
            source, copy = storage_from(url), storage_from(target)
            optuna.copy_study(
                from_study_name=study_name(config), from_storage=source, to_storage=copy, to_study_name="anneal"
            )
            copy_notes(
                optuna.load_study(study_name=study_name(config), storage=source),
                optuna.load_study(study_name="anneal", storage=copy),
            )
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise StudyError(f"the Optuna study cannot be copied: {plain_reason(error, url)}.") from None
        return
    source = sqlite3.connect(saved.folder / DATABASE, timeout=SQLITE_TIMEOUT)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    except sqlite3.Error as error:
        raise StudyError(f"{saved.folder / DATABASE} cannot be copied: {error}. See what doctor says.") from error
    finally:
        source.close()
        copy.close()


class _Hashed:
    """A file that is read, and hashed on the way."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, count: int) -> bytes:
        block = self._file.read(count)
        self.digest.update(block)
        return block


def _add(tar: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    """Add a file as long as it is now; returns its entry in the manifest."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mtime = status.st_size, int(status.st_mtime)
        hashed = _Hashed(file)
        tar.addfile(info, hashed)
    return {"bytes": info.size, "sha256": hashed.digest.hexdigest()}


def _unpack(archive: Path, staging: Path) -> dict[str, Any]:
    """Unpack an archive into the empty folder `staging`; returns its manifest.

    Raises CheckpointError if it holds anything but regular files with plain relative names that the manifest knows,
    each of the length and the SHA-256 declared.
    """
    try:
        size = archive.stat().st_size if archive.is_file() else None
        if size is None:
            raise StudyError(f"there is no file {archive}: give one that export wrote.")
        with open(archive, "rb") as file:
            members = list(_members(archive, file, size))
            manifest = _manifest(archive, file, members)
            declared = sum(info.size for info, _ in members)
            free = shutil.disk_usage(staging).free
            if declared > free:
                raise StudyError(f"{archive} needs {size_text(declared)}, and {size_text(free)} are free here.")
            for info, offset in members[:-1]:
                if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on; refuses nothing that passed so far
                    tarfile.data_filter(info, str(staging))
                file.seek(offset)
                path = staging / info.name
                path.parent.mkdir(parents=True, exist_ok=True)
                digest = _copy(file, path, info.size)
                if digest != manifest["files"][info.name]["sha256"]:
                    raise CheckpointError(f"{archive} is damaged: {info.name} has changed. Copy the archive again.")
    except tarfile.TarError as error:
        raise CheckpointError(f"{archive} is no archive that export wrote: {reason(error)}.") from error
    return manifest


def _copy(source: BinaryIO, path: Path, size: int) -> str:
    """Copy `size` bytes into a new file; returns their SHA-256."""
    hashed = _Hashed(source)
    with open(path, "xb") as target:
        left = size
        while left:
            block = hashed.read(min(left, _BLOCK))
            if not block:
                break  # cut short meanwhile: the digest tells
            target.write(block)
            left -= len(block)
    return hashed.digest.hexdigest()


def _members(archive: Path, file: BinaryIO, size: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """The members of a tar file and where their content begins.

    Header by header: what export never writes (extended headers, links, devices, folders, sparse files) is refused
    before anything is read for it.
    """
    names: set[str] = set()
    total = 0
    while True:
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            raise CheckpointError(f"{archive} is no tar file, or was cut short. Copy it again from where it was made.")
        if not any(block):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            what = "no plain tar file" if not names else "damaged"
            raise CheckpointError(f"{archive} is {what}: {reason(error)}. Give a file that export wrote.") from None
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise CheckpointError(
                f"{archive} holds {shown(info.name)}, which is no regular file (type {shown(info.type)}): refused."
            )
        _check_name(archive, info.name)
        if info.name in names:
            raise CheckpointError(f"{archive} holds {shown(info.name)} twice: refused.")
        names.add(info.name)
        offset, total = file.tell(), total + max(0, info.size)
        if info.size < 0 or offset + info.size > size:
            raise CheckpointError(
                f"{archive} was cut short, or is forged: {shown(info.name)} declares {info.size} bytes, and the file "
                f"ends after {size - offset}. Copy it again from where it was made."
            )
        if total > MAX_BYTES or len(names) > MAX_FILES:
            raise CheckpointError(
                f"{archive} holds more than {size_text(MAX_BYTES)} or {MAX_FILES} files, more than is unpacked."
            )
        yield info, offset
        file.seek(offset + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    plain = path.parts and not path.is_absolute() and ".." not in path.parts and str(path) == name
    if not plain or "\\" in name or not name.isprintable():
        raise CheckpointError(f"{archive} holds {shown(name)}, which is no plain relative name: refused.")
    if name not in (MANIFEST, DATABASE) and not travels(name) and not _CHECKPOINT.fullmatch(name):
        raise CheckpointError(f"{archive} holds {shown(name)}, which export never writes: refused.")


def _manifest(archive: Path, file: BinaryIO, members: list[tuple[tarfile.TarInfo, int]]) -> dict[str, Any]:
    """The manifest, the last member; raises CheckpointError unless it declares exactly the others."""
    if not members or members[-1][0].name != MANIFEST:
        raise CheckpointError(f"{archive} ends without {MANIFEST}: export did not write it, or it was cut short.")
    info, offset = members[-1]
    if info.size > JSON_BYTES:
        raise CheckpointError(f"the {MANIFEST} of {archive} has {info.size} bytes, and at most {JSON_BYTES} are read.")
    file.seek(offset)
    try:
        manifest = parse_json(file.read(info.size).decode())
        if manifest["kind"] != KIND or not isinstance(manifest["created"], str):
            raise ValueError(f"its kind is {shown(manifest['kind'])}")
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"{archive} has format {shown(manifest['format'])}, this version reads format {FORMAT}; "
                "use the version of EdgeNES Studio that wrote it."
            )
        declared = {name: entry["bytes"] for name, entry in manifest["files"].items()}
        {name: entry["sha256"] for name, entry in manifest["files"].items()}, manifest["versions"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the {MANIFEST} of {archive} is not one of export: {reason(error)}.") from None
    held = {member.name: member.size for member, _ in members[:-1]}
    if held != declared:
        differing = sorted(name for name in held.keys() | declared.keys() if held.get(name) != declared.get(name))
        raise CheckpointError(
            f"{archive} does not hold what its manifest declares: {', '.join(map(shown, differing[:3]))}. "
            "Copy it again from where it was made."
        )
    return manifest


def paths_elsewhere(saved: SavedStudy) -> list[dict[str, Any]]:
    """Options that name files of the machine that the study comes from: [{"option", "value", "found", "said"}]."""
    config = saved.config
    rows = []
    if config.dataset not in SOURCES:
        said = f"the data were read from {config.dataset}; give their path here (digest {saved.data_digest})"
        rows.append(("--dataset", Path(config.dataset), said))
    if config.root is not None:
        rows.append(("--root", config.root, f"the data were below {config.root}; give where they are here"))
    if config.genotype_file:
        said = f"the study was begun with the genotype {config.optimal}: put search/genotype.json there, as a copy"
        rows.append(("--optimal", config.genotype_file, said))
    return [{"option": option, "value": str(path), "found": path.exists(), "said": said} for option, path, said in rows]


def command_line(config: SweepConfig, folder: Path) -> str:
    """The sweep's command that goes on with a study in `folder`: every setting that is not the default."""
    words = ["python", "studies/anneal_sweep.py", "--out", str(folder)]
    for field in dataclasses.fields(SweepConfig):
        value = getattr(config, field.name)
        if value == field.default or field.name in ("out", "storage", "address", "dashboard", "dry_run", "smoke_test"):
            continue
        option = field.name.replace("_", "-")
        if isinstance(field.default, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)
