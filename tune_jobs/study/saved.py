"""A study's folder, opened again: its configuration, its Optuna study, its genotype and its data."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from edgenes.checkpoint import read_json, read_text
from edgenes.data.dataset import Dataset
from edgenes.errors import CheckpointError, ConfigError, DataError
from edgenes.parsing import shown
from edgenes.space.genotype import Genotype, SearchSpace
from tune_jobs.config.passwords import redact
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.cache import OFF
from tune_jobs.files.layout import CONFIG, DATABASE, EXPERIMENT, GENOTYPE, STAGES
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.study.context import StudyContext
from tune_jobs.study.folder import check_owner
from tune_jobs.study.limits import planned_trials
from tune_jobs.study.storage import plain_reason, resolve, sqlite_url, storage_file, storage_from, storage_reference
from tune_jobs.study.trials import finalists

FORMAT = 2
"""Of config.json. In format 1 the candidates of an ensemble shared one training seed."""
UNREADABLE = (SQLAlchemyError, OptunaError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What Optuna raises where its storage is out of reach, or holds what it did not write."""


def storage_url(config: SweepConfig) -> str:
    """URL of the Optuna study: the storage's, else that of study.db in the folder."""
    return resolve(config.storage or sqlite_url(config.folder / DATABASE))


def study_name(config: SweepConfig) -> str:
    """Name of the Optuna study: the folder's in a shared storage, a fixed one inside the folder, which may be moved."""
    return config.folder.name if config.storage else "anneal"


def refuse_experiment(folder: Path) -> None:
    """Raise StudyError if the folder holds an experiment, which the tools for sweeps cannot read."""
    if (folder / EXPERIMENT).exists() and not (folder / CONFIG).exists():
        raise StudyError(
            f"{folder} holds an experiment and no sweep: its numbers are in report/, and its own command resumes it."
        )


def read_config(folder: Path, storage: str | None = None) -> tuple[SweepConfig, str]:
    """The configuration in a study's folder, its `out`, `storage` and `cache` replaced, and the digest of its data.

    Raises CheckpointError if the file is missing, damaged, or says what no configuration of this version can,
    ConfigError if `storage` shows a password.
    """
    path = folder / CONFIG
    refuse_experiment(folder)
    stored = read_json(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("data"), str):
        raise CheckpointError(f"{path} is no configuration of a study: give the study's folder.")
    _check_format(stored, path)
    # A stranger's study names no folder of this machine.
    place = {"out": folder, "storage": storage_reference(storage, folder), "cache": OFF}
    try:
        return SweepConfig.of(**{**stored["options"], **place}), stored["data"]
    except (ConfigError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be used: {error} Operations of your own have to be registered first; else it is damaged."
        ) from error


def check_version(folder: Path) -> None:
    """Raise StudyError if the study in `folder` is another version's."""
    with suppress(CheckpointError):  # a damaged file is written again
        stored = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {"format": FORMAT}
        _check_format(stored if isinstance(stored, dict) else {}, folder / CONFIG)


def _check_format(stored: dict[str, Any], path: Path) -> None:
    found = stored.get("format", 1)
    if found != FORMAT:
        raise StudyError(
            f"{path} has format {shown(found)}, this version reads format {FORMAT}. "
            + ("Version 0.1 of edgenes-studio" if found == 1 else "The version that wrote it")
            + " reads it: its retrainings drew other seeds. Use that version for this study, or start a new one with "
            "another --out."
        )


@dataclass(frozen=True)
class SavedStudy:
    """A study that has begun; `storage` is where its Optuna study is, if not in the folder."""

    config: SweepConfig
    data_digest: str
    study: optuna.Study

    @property
    def folder(self) -> Path:
        return self.config.folder

    @cached_property
    def optimal(self) -> Genotype:
        """The optimal genotype; raises CheckpointError before the search has found it, or if it is another space's."""
        return stored_genotype(self.folder, self.config.space)

    @property
    def planned(self) -> int:
        """With how many trials the sweep is finished; raises StudyError as `trials`."""
        self.trials()
        return planned_trials(self.config, self.study, stage_seconds(self.folder).get("sweep", 0))

    def trials(self) -> list[FrozenTrial]:
        """All trials by their numbers; raises StudyError if the storage is damaged or out of reach."""
        try:
            return self.study.get_trials(deepcopy=False)
        except UNREADABLE as error:
            reason = plain_reason(error, storage_url(self.config))
            raise StudyError(f"the trials of the study cannot be read: {reason}. See what doctor says.") from None

    def finalists(self) -> list[FrozenTrial]:
        """The finalists of the trials that are complete now; [] as long as none is. Raises StudyError as `trials`."""
        self.trials()
        return finalists(self.study, self.config.finalists)

    def context(self, device: str = "cpu") -> StudyContext:
        """What the trials of the study share."""
        return context_of(self.config, Workplace(StudyFiles(self.folder)), self.optimal, device)

    def with_data(self, dataset: str | None, root: Path | None) -> "SavedStudy":
        """The same study with its data at another place, where one is given."""
        data = self.config.data
        data = replace(data, dataset=dataset or data.dataset, root=root or data.root).located()
        return replace(self, config=replace(self.config, data=data))

    def data(self) -> Dataset:
        """The study's data, known by their digest; raises StudyError if what is found now is something else.

        Nothing is downloaded: where to would be for the study to say, and who wrote it is not known.
        """
        elsewhere = "Give the place of the study's data with --dataset, or --root."
        try:
            data = replace(self.config, data=replace(self.config.data, download=False)).load()
        except DataError as error:
            raise DataError(f"{error} {elsewhere}") from error
        if data.digest != self.data_digest:
            raise StudyError(
                f"the data set {self.config.data.dataset} found here is not the study's: its digest is {data.digest}, "
                f"the study's {self.data_digest}. {elsewhere}"
            )
        return data


def context_of(config: SweepConfig, place: Workplace, optimal: Genotype, device: str) -> StudyContext:
    """What the trials of a study of this configuration share."""
    return StudyContext(
        config.setting(device),
        place,
        optimal,
        config.guided,
        config.value,
        config.prune_infeasible,
        config.pruner != "none",
        config.seeds_per_candidate,
        config.calibration,
        config.best_prefix,
        "latency" in config.objectives,
    )


def open_saved(folder: Path, storage: str | None = None) -> SavedStudy:
    """Open the study in `folder` for reading; nothing is created. Raises StudyError, CheckpointError or ConfigError."""
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise StudyError(f"there is no study in {folder}: give the folder that --out named, or runs/anneal-DATASET.")
    config, digest = read_config(folder, storage)
    url = storage_url(config)
    file = storage_file(url)
    if file is not None and (not file.exists() or file.stat().st_size == 0):  # Optuna would fill an empty one
        what = "is empty" if file.exists() else "is missing"
        raise StudyError(f"the Optuna study {file} {what}: give --storage if it lies elsewhere.")
    opened = storage_from(url)
    try:
        study = optuna.load_study(study_name=study_name(config), storage=opened)
        check_owner(study, folder, redact(url), inside=config.storage is None)
    except KeyError as error:
        raise StudyError(f"the storage holds no study named {study_name(config)!r}: check --storage.") from error
    except UNREADABLE as error:
        raise StudyError(f"the Optuna study cannot be read: {plain_reason(error, url)}.") from None
    return SavedStudy(config, digest, study)


def stored_genotype(folder: Path, space: SearchSpace) -> Genotype:
    """The optimal genotype in a study's folder; raises CheckpointError unless there is one, of the study's space."""
    path = folder / GENOTYPE
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing: the study has not found its optimal genotype yet. Let its command run on first."
        )
    try:
        genotype = Genotype.from_json(read_text(path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if genotype.space != space:
        raise CheckpointError(f"{path} holds a genotype of another search space.")
    return genotype


def stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds that each stage took, over all drivers; raises CheckpointError if stages.json is damaged."""
    path = folder / STAGES
    seconds = read_json(path) if path.exists() else {}
    if not isinstance(seconds, dict) or not all(type(v) in (int, float) and 0 <= v < 1e12 for v in seconds.values()):
        raise CheckpointError(f"{path} does not hold the seconds of stages.")
    return seconds


def plain_config(config: SweepConfig, data_digest: str, identifier: str | None) -> dict[str, Any]:
    """What config.json holds; `identifier` is the Optuna study's."""
    return {"format": FORMAT, "study": identifier, "options": config.to_dict(), "data": data_digest}
