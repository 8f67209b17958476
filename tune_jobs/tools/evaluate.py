"""An ensemble on labelled data, on corrupted images and on strange ones, with a page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.data import corruptions
from edgenes.data.corruptions import CORRUPTIONS, SEVERITIES, STRANGE, corrupt
from edgenes.data.dataset import Dataset, Part
from edgenes.data.images import resize
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError, ConfigError, DataError
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import file_digest
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.text import aligned
from tune_jobs.report.image_scores import BEFORE, Detectors, ImageScores, Models, detected, key
from tune_jobs.report.robustness_page import Evaluation, condition_frame, severity_frame, write
from tune_jobs.stages.calibration import reliability_rows
from tune_jobs.stages.ensemble import deep_ensemble
from tune_jobs.study.result import read_test, test_reads
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.commands import Evaluate
from tune_jobs.tools.folder import data_options, ensemble_file, study_of
from tune_jobs.tools.machine import choose_device, progress_line

DETECTORS = "uncertainties of strange images"


@dataclass(frozen=True)
class Labelled:
    """Images (N, C, S, S) with labels as the ensemble counts them, where they are from, and what to say about them."""

    data: Dataset
    part: str
    images: np.ndarray
    labels: np.ndarray
    notes: list[str]


@dataclass(frozen=True)
class Condition:
    """Images of one corruption and severity, made when they are asked for; `digest` is of what they are made of."""

    name: str
    severity: int
    digest: str
    labels: np.ndarray
    make: Callable[[], np.ndarray]


def run(command: Evaluate) -> dict[str, Any]:
    """Score the ensemble on each condition, and write the page and its tables."""
    path = ensemble_file(command.ensemble.absolute())
    ensemble, digest = Ensemble.load(path), file_digest(path)
    device = choose_device(None, command.device)
    clean = labelled(command, ensemble, path)
    deep, why = deep_of(path, len(ensemble.networks), device, clean.data)
    models, notes = Models(ensemble.to(device), deep), [*clean.notes, *why]
    digest += models.digest
    conditions = list(shifted(command, ensemble, clean.images, clean.labels))
    command.out.mkdir(parents=True, exist_ok=True)
    with progress_line("Evaluating", shown=not command.json) as show:
        total, cached = len(conditions) + len(command.ood) + 1, 0
        show(0, total, "clean")
        probabilities, known = models.of(clean.images)
        scores, ood = {("clean", 0): ImageScores.of(probabilities, clean.labels)}, []
        for k, each in enumerate(conditions, start=1):
            show(k, total, f"{each.name} {each.severity}")
            stored = command.out / "computed" / f"{each.name}-{each.severity}-{key(digest, each.digest)}.pt"
            found = ImageScores.load(stored)
            cached += found is not None
            if found is None:
                found = ImageScores.of(models.of(each.make())[0], each.labels)
                found.save(stored)
            scores[each.name, each.severity] = found
        for k, name in enumerate(command.ood, start=len(conditions) + 1):
            show(k, total, name)
            ood += detection(name, models, digest, known, strange(name, command, ensemble, clean.images), command.out)
    before = probabilities[models.names.index(BEFORE)] if ensemble.calibration else probabilities[0]
    bins = pd.DataFrame(reliability_rows(clean.part, before, probabilities[0], clean.labels))
    evaluation = Evaluation(
        f"{clean.data.name}, {clean.part} images",
        models.names,
        scores,
        pd.DataFrame(ood),
        bins if ensemble.calibration else bins[bins["when"] == "before"],
        clean.images,
        clean.labels,
        probabilities[0],
        ensemble.class_names,
        notes=notes,
    )
    severities, by_condition = severity_frame(evaluation), condition_frame(evaluation)
    page = write(command.out, evaluation, severities, by_condition)
    return {
        "page": str(page),
        "ensemble": digest,
        "data": clean.data.digest,
        "part": clean.part,
        "images": len(clean.labels),
        "cached": cached,
        "severities": severities.to_dict("records"),
        "conditions": by_condition.to_dict("records"),
        "ood": ood,
        "notes": notes,
    }


def labelled(command: Evaluate, ensemble: Ensemble, path: Path) -> Labelled:
    """The part of the data that the command names, of any data set whose classes the ensemble knows.

    The test images of the ensemble's own study are read only by name, and the read is recorded in the study's folder.
    """
    own = command.dataset in (None, ensemble.card.get("config", {}).get("dataset"))
    asked = {name: getattr(command, name) for name in ("dataset", "root", "download", "skip_broken")}
    data = data_options(ensemble, own, **asked).load()
    unknown = [name for name in data.class_names if name not in ensemble.class_names]
    if unknown:
        raise DataError(
            f"the ensemble knows no class {', '.join(unknown[:3])}; its classes are "
            f"{', '.join(ensemble.class_names[:10])}. For images of other classes use --ood."
        )
    own = own or data.digest == ensemble.card.get("data")
    part, notes = command.part or ("validation" if own else "test"), []
    if own and part == "validation":
        notes.append(
            "These validation images chose the members: the numbers on them are flattered. --part test reads the test "
            "images once more."
        )
    if own and data.digest != ensemble.card.get("data"):
        notes.append("The data are not those of the study any more: validation images may be training images of it.")
    if own and part == "all":
        raise ConfigError("--part all would score the ensemble's own training images: give test or validation.")
    parts = {"validation": [data.validation], "test": [data.test]}
    parts["all"] = [data.training, data.validation, data.test]
    chosen = Part(*(np.concatenate([getattr(p, name) for p in parts[part]]) for name in ("images", "labels")))
    study = study_of(path)
    if own and part == "test" and study:
        chosen = read_test(data, StudyFiles(study), f"evaluate {path.parent.name}")
        notes.append(f"The test images of this study have now been read {test_reads(study)} times.")
    places = np.array([ensemble.class_names.index(name) for name in data.class_names])
    return Labelled(data, part, fitted(chosen.images, ensemble), places[chosen.labels], notes)


def deep_of(path: Path, size: int, device: str, data: Dataset) -> tuple[Ensemble | None, list[str]]:
    """The deep ensemble of so many seeds of the study's best genotype, or None and a note why there is none.

    `data` are taken for the study's, where they are.
    """
    study = study_of(path)
    if study is None:
        return None, []
    try:
        saved = open_saved(study)
        data = data if data.digest == saved.data_digest else saved.data()
        found = deep_ensemble(saved.context(device), data, size)
    except (StudyError, DataError, CheckpointError) as error:
        return None, [f"No deep ensemble of the best genotype stands beside it: {error}"]
    if found is None:
        return None, [f"No deep ensemble stands beside it: the study has no {size} networks of its best genotype."]
    return found.to(device), []


def shifted(command: Evaluate, ensemble: Ensemble, images: np.ndarray, labels: np.ndarray) -> Iterator[Condition]:
    """The corruptions that are wanted: computed of these images, or read from the published arrays."""
    if command.corrupted:
        yield from published(command.corrupted, ensemble)
    elif command.shift:
        digest = key(images, labels, file_digest(Path(corruptions.__file__)))
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                yield Condition(name, severity, digest, labels, partial(corrupt, images, name, severity))


def published(folder: Path, ensemble: Ensemble) -> Iterator[Condition]:
    """Those of the fifteen corruptions that lie in a folder of CIFAR-10-C or CIFAR-100-C; raises DataError."""
    paths = {name: folder / f"{name}.npy" for name in ("labels", *CORRUPTIONS)}
    arrays = {name: _array(path) for name, path in paths.items() if path.exists() or name == "labels"}
    labels = arrays.pop("labels")
    odd = [name for name, a in arrays.items() if a.dtype != np.uint8 or a.ndim != 4 or len(a) != labels.size]
    if not arrays or odd or labels.ndim != 1 or not labels.size or labels.size % len(SEVERITIES):
        raise DataError(
            f"{folder} should hold NAME.npy of CIFAR-10-C or CIFAR-100-C, fog.npy for one, uint8 (N, 32, 32, 3), and "
            f"labels.npy with as many labels for each of 5 severities; got {labels.size} labels and {len(arrays)} "
            "known names" + "".join(f", {name}.npy {arrays[name].dtype} {arrays[name].shape}" for name in odd)
        )
    if labels.min() < 0 or labels.max() >= len(ensemble.class_names):
        raise DataError(f"labels.npy has the label {labels.max()}, the ensemble {len(ensemble.class_names)} classes.")
    each = labels.size // len(SEVERITIES)
    for name, pictures in arrays.items():
        for severity in SEVERITIES:
            rows = slice((severity - 1) * each, severity * each)
            make = partial(_published, pictures[rows], ensemble)
            yield Condition(name, severity, key(pictures[rows], labels[rows]), labels[rows].astype(np.int64), make)


def _published(pictures: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    return fitted(resize(pictures, ensemble.image_size).transpose(0, 3, 1, 2), ensemble)


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array of numpy ({error}).") from error


def strange(name: str, command: Evaluate, ensemble: Ensemble, images: np.ndarray) -> np.ndarray:
    """Images (N, C, S, S) that the ensemble was not made for: made of known ones, or the test part of other data."""
    if name in STRANGE:
        return STRANGE[name](images)
    options = data_options(ensemble, own=False, dataset=name, root=command.root, download=command.download)
    return fitted(options.load().test.images, ensemble)


def fitted(images: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """(N, C, S, S) with the ensemble's channels: grey ones repeated, RGB ones made grey as Pillow does."""
    wanted, there = ensemble.mean.shape[1], images.shape[1]
    if wanted == there:
        return images
    if {wanted, there} != {1, 3}:
        raise DataError(f"the images have {there} channels, and the networks take {wanted}.")
    if wanted == 3:
        return images.repeat(3, axis=1)
    return np.rint(np.einsum("nchw,c->nhw", images, [0.299, 0.587, 0.114])[:, None]).astype(np.uint8)


def detection(
    name: str, models: Models, digest: str, known: list[Detectors], images: np.ndarray, out: Path
) -> list[dict[str, Any]]:
    """How well each model tells strange images from the `known` ones; what was computed before is read."""
    stored, rows = out / "computed" / f"strange-{key(digest, images)}.pt", []
    try:
        tables = load_checkpoint(stored, DETECTORS)["models"]
    except CheckpointError:
        tables = [{score: torch.from_numpy(values) for score, values in each.items()} for each in models.of(images)[1]]
        save_checkpoint(stored, DETECTORS, {"models": tables})
    for model, mine, table in zip(models.detecting, known, tables, strict=True):
        found = detected(name, mine, {score: values.numpy() for score, values in table.items()})
        rows += [{"model": model, **row} for row in found]
    return rows


def text(answer: dict[str, Any]) -> str:
    """The means at each severity, ensemble and mean member, and what was detected."""
    rows = [["severity", "", "accuracy", "NLL", "ECE", "Brier"]]
    for row in answer["severities"]:
        values = [f"{row[each]:.4f} ± {row[f'{each}_error']:.4f}" for each in ("accuracy", "nll", "ece", "brier")]
        rows.append([str(row["severity"] or "clean"), row["model"], *values])
    parts = [f"{answer['images']} images ({answer['part']}), ± one standard error over images", aligned(rows, left=2)]
    if answer["ood"]:
        heads = [["strange images", "", "by", "AUROC", "AUPR", "FPR at 95%"]]
        for row in answer["ood"]:
            values = [f"{row[name]:.3f} ± {row[f'{name}_error']:.3f}" for name in ("auroc", "aupr", "fpr95")]
            heads.append([row["data"], row["model"], row["score"], *values])
        parts.append(aligned(heads, left=3))
    parts += answer["notes"]
    if answer["cached"]:
        parts.append(f"{answer['cached']} corruptions were computed before.")
    return "\n\n".join([*parts, f"Page: {answer['page']}"])
