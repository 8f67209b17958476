"""A study in one file, for another machine: a plain tar of its files, their SHA-256 in a manifest at its end."""

import hashlib
import json
import os
import re
import shlex
import sqlite3
import tarfile
import tempfile
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgenes.parsing import reason
from tune_jobs.errors import StudyError
from tune_jobs.files.integrity import is_damaged, is_temporary
from tune_jobs.files.layout import DATABASE, DRIVER
from tune_jobs.progress.text import size_text
from tune_jobs.study.saved import SavedStudy, open_saved, storage_url, study_name
from tune_jobs.study.storage import SQLITE_TIMEOUT, plain_reason, storage_file, storage_from
from tune_jobs.tools.commands import Export
from tune_jobs.tools.folder import contents, new_place
from tune_jobs.watch.pictures import copy_notes

KIND, FORMAT = "edgenes-study", 1
MANIFEST = "manifest.json"
CHECKPOINT = r"ray/[^/]+/trial-({})-[^/]+/checkpoint_\d+/.+"


def run(command: Export) -> dict[str, Any]:
    """Write the archive; the study may be running."""
    saved, target = open_saved(command.study, command.storage), new_place(command.archive)
    if target.is_relative_to(saved.folder):
        raise StudyError(f"{target} lies in the study itself: give a file outside of {saved.folder}.")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as work:
            packed = _pack(saved, Path(work))
            os.replace(Path(work) / "archive.tar", target)
    except OSError as error:
        raise StudyError(f"the study cannot be packed into {target}: {reason(error)}.") from error
    return {"folder": str(saved.folder), "archive": str(target), "bytes": target.stat().st_size, **packed}


def text(answer: dict[str, Any]) -> str:
    """What was packed, what was not, and the command for the other machine."""
    rows = [
        f"{answer['archive']}: {answer['files']} files, {size_text(answer['bytes'])}",
        f"  trials    {trials_text(answer['trials'])}",
        *(f"  left out  {name}" for name in answer["left_out"]),
        f"There: python -m tune_jobs import {shlex.quote(Path(answer['archive']).name)} FOLDER",
    ]
    return "\n".join(rows)


def trials_text(trials: dict[str, int]) -> str:
    """The numbers of trials by state."""
    return ", ".join(f"{count} {state}" for state, count in trials.items()) or "none"


def travels(name: str) -> bool:
    """Whether an archive holds a file of this name, beside the database and checkpoints."""
    own = name in (DRIVER, MANIFEST) or name.endswith(".lock") or is_temporary(name) or is_damaged(name)
    # Other programs than ours write these logs and databases, and libraries that trust them read them: they stay.
    return not own and re.match(r"(mlflow|wandb|ray)/|study\.db(-\w+)?\Z", name) is None


def _pack(saved: SavedStudy, work: Path) -> dict[str, Any]:
    """Write work/archive.tar; returns {"files", "trials", "left_out"}."""
    # The database comes first, so that whatever it names exists. Ray keeps a checkpoint until two newer ones are
    # there, which takes far longer than to copy them next.
    database = work / DATABASE
    _copy_database(saved, database)
    trials = optuna.load_study(study_name="anneal", storage=storage_from(database)).get_trials(deepcopy=False)
    found = contents(saved.folder)
    # Those of running trials; the one before the newest too, in case that is damaged.
    running = "|".join(str(trial.number) for trial in trials if trial.state == TrialState.RUNNING)
    checkpoints = found.matching(CHECKPOINT.format(running)) if running else []
    left_out = [f"{name}: no regular file" for name in found.others]
    left_out += [f"{name}: MLflow's own database is not exported" for name in found.matching(r"mlflow/.*")]
    left_out += [f"{name}: W&B's own log is not exported" for name in found.matching(r"wandb/.*\.wandb")]
    storage = storage_file(storage_url(saved.config))
    files = [name for name in found.files if travels(name)]
    digests: dict[str, dict[str, str]] = {}
    with tarfile.open(work / "archive.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in (DATABASE, *checkpoints, *files):
            path = database if name == DATABASE else saved.folder / name
            if path == storage:
                continue
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # a running study removed it meanwhile
                continue
            digests[name] = {"sha256": hashlib.sha256(content).hexdigest()}
            _add(tar, name, content)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {"kind": KIND, "format": FORMAT, "created": created, "files": digests}
        _add(tar, MANIFEST, json.dumps(manifest, indent=1).encode())
    counts = dict(Counter(trial.state.name for trial in trials))
    return {"files": len(digests), "trials": counts, "left_out": left_out}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))


def _copy_database(saved: SavedStudy, target: Path) -> None:
    """The Optuna study as a file of its own, consistent even while a driver writes."""
    if saved.config.storage is None:
        try:
            with (
                closing(sqlite3.connect(saved.folder / DATABASE, timeout=SQLITE_TIMEOUT)) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                source.backup(copy)
        except sqlite3.Error as error:
            raise StudyError(f"{saved.folder / DATABASE} cannot be copied: {error}.") from error
        return
    url = storage_url(saved.config)
    try:
        name, copied = study_name(saved.config), storage_from(target)
        optuna.copy_study(
            from_study_name=name, from_storage=storage_from(url), to_storage=copied, to_study_name="anneal"
        )
        copy_notes(saved.study, optuna.load_study(study_name="anneal", storage=copied))
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise StudyError(f"the Optuna study cannot be copied: {plain_reason(error, url)}.") from None
