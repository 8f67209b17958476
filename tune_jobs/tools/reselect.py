"""Another ensemble from a hypernetwork that the study has trained: other candidates, other settings, no sweep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from edgenes.checkpoint import read_json
from edgenes.data.dataset import Dataset
from edgenes.errors import CheckpointError, ConfigError, DivergedError
from edgenes.seeds import stable_seed
from edgenes.selection import CRITERIA, select_ensemble
from edgenes.space.hypernetwork import Candidate, Hypernetwork, draw_candidates
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import FINALISTS, HYPERNETWORK, file_digest
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.text import aligned
from tune_jobs.stages.ensemble import save_ensemble
from tune_jobs.stages.finalists import Pool, final_training, pool_of
from tune_jobs.study.context import TrialSettings
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.result import read_result, read_test, test_reads
from tune_jobs.study.saved import SavedStudy
from tune_jobs.tools.command import StudyCommand
from tune_jobs.tools.display import Show, progress_line
from tune_jobs.tools.machine import Device, choose_device, threads

DRAWS = 10
"""Draws a candidate asked for, before a hypernetwork is taken to have no more."""


@dataclass(frozen=True, kw_only=True)
class Reselect(StudyCommand):
    """Choose another ensemble from the study's hypernetwork, or from that of one trial, without a sweep.

    The candidates are retrained fully, those of the study's store excepted; the members are chosen on the validation
    images; then the test images are read, once, which leaves a line in test_reads.jsonl. The result is an ensemble in
    ensembles/, beside the study's own. A sweep may go on in the same folder meanwhile: both add to one store, where
    none retrains what the other one does.
    """

    size: int | None = None
    """Members of the ensemble; by default as many as the study's has."""
    candidates: int | None = None
    """Distinct genotypes to draw and to choose from; by default as many as the study's."""
    lambdas: Annotated[str | None, tyro.conf.arg(name="lambda", metavar="LOW:HIGH")] = None
    """Draw them at these numbers of edges shared with the optimal genotype; by default at all of them."""
    trial: int | None = None
    """Trial whose hypernetwork to use; by default the one that the study chose."""
    criterion: Literal[*CRITERIA] | None = None
    """What chooses the members; by default what the study chose by."""
    device: Device = "auto"
    """Where to compute; auto is where the study did, or the CPU if that is not here."""
    out: Path | None = None
    """Folder of the ensemble; by default one in ensembles/ whose name says the settings."""

    def run(self) -> dict[str, Any]:
        saved = self.open()
        config = saved.config
        size, count = self.size or config.ensemble_size, self.candidates or config.candidates
        for option, number in (("--size", self.size), ("--candidates", self.candidates)):
            if number is not None and number < 1:
                raise ConfigError(f"{option} must be at least 1, got {number}.")
        if size > count:
            raise ConfigError(f"--size {size} is more than --candidates {count}: draw more, or choose fewer.")
        low, high = parse_range(self.lambdas, config.space.max_edges)
        criterion = self.criterion or config.criterion
        settings = saved.settings(choose_device(saved, self.device))
        number, path = find_hypernetwork(saved, settings, self.trial)
        name = f"trial-{number}-lambda-{low:g}-{high:g}-best-{size}-of-{count}-by-{criterion}"
        target = (self.out or saved.folder / "ensembles" / name).absolute()
        refuse_existing(target)

        digest = file_digest(path)
        drawn = draw(saved, Hypernetwork.load(path), number, count, low, high)
        if len(drawn) < size:
            raise StudyError(
                f"the hypernetwork of trial {number} gives only {len(drawn)} distinct genotypes at lambda {low:g} to "
                f"{high:g}, too few for an ensemble of {size}: give a wider --lambda or a smaller --size."
            )
        data = saved.data()
        with threads(config.cpus_per_trial):
            with progress_line("Retraining", shown=not self.json) as show:
                pool, cached, diverged = retrain(settings, data, drawn, show)
            if len(pool.records) < size:
                raise StudyError(f"only {len(pool.records)} retrainings did not diverge, too few for {size} members.")
            selection = select_ensemble(pool.predictions, data.validation.labels, size, criterion, "auto")
            make_folder(target)
            inside = target.is_relative_to(saved.folder)
            purpose = f"ensemble {target.relative_to(saved.folder) if inside else target}"
            test = read_test(data, StudyFiles(saved.folder), purpose)
            asked = {"trial": number, "lambda": [low, high], "size": size, "candidates": count, "criterion": criterion}
            about = {"hypernetwork": digest, "asked": asked}
            found = save_ensemble(settings, data, pool, selection, test, target, about)
        own = read_result(saved.folder)
        return {
            "folder": str(target),
            "asked": asked,
            "hypernetwork": digest,
            "device": settings.device,
            "candidates": len(drawn),
            "cached": cached,
            "diverged": diverged,
            **found,
            "images": {"validation": len(data.validation), "test": len(test)},
            "study": {part: own[part] for part in ("validation", "test")} if own else None,
            "test_reads": test_reads(saved.folder),
        }

    def text(self, answer: dict[str, Any]) -> str:
        asked, chosen = answer["asked"], answer["selection"]
        best = "the best" if chosen["proven_optimal"] else "a greedy choice"
        rows = [["", "lambda", "shared", "validation", "test"], _row("ensemble", answer)]
        rows += [_row(f"member {k}", member) for k, member in enumerate(answer["members"], start=1)]
        if answer["study"]:
            rows.append(_row("the study's ensemble", answer["study"]))
        low, high = asked["lambda"]
        lines = [
            f"{asked['size']} of {chosen['networks']} networks, {best} by {asked['criterion']} on "
            f"{answer['images']['validation']} validation images; hypernetwork of trial {asked['trial']}, "
            f"lambda {low:g} to {high:g}",
            "",
            aligned(rows),
            "",
        ]
        if answer["candidates"] < asked["candidates"]:
            lines.append(
                f"Only {answer['candidates']} distinct genotypes were found there, of {asked['candidates']} asked for."
            )
        if answer["diverged"]:
            lines.append(f"{answer['diverged']} retrainings diverged and are left out.")
        lines += [
            f"Found in the study's store: {answer['cached']} of {chosen['networks']} retrainings.",
            f"The test images of this study have now been read {answer['test_reads']} times: choose between ensembles "
            "by their validation images.",
            f"Saved: {answer['folder']}",
        ]
        return "\n".join(lines)


def parse_range(text: str | None, most: int) -> tuple[float, float]:
    """The lambdas (low, high) of "LOW:HIGH", or 0 and `most`; raises ConfigError on anything else."""
    if text is None:
        return 0.0, float(most)
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= most:
        raise ConfigError(f"--lambda must be LOW:HIGH within 0:{most}, the lowest first, as 1:{most}; got {text!r}.")
    return low, high


def find_hypernetwork(saved: SavedStudy, settings: TrialSettings, trial: int | None) -> tuple[int, Path]:
    """Trial and file of a hypernetwork, that of `trial` or the study's choice; raises StudyError if there is none."""
    trials = saved.trials()
    if trial is not None:
        if not 0 <= trial < len(trials):
            raise StudyError(f"the study has no trial {trial}: it has {len(trials)}, counted from 0.")
        path = settings.hypernetwork(trial)
        if not path.exists():
            raise StudyError(f"trial {trial} ({trials[trial].state.name}) has no hypernetwork: {path} is missing.")
        return trial, path
    path = saved.folder / HYPERNETWORK
    if not path.exists():
        ready = [t.number for t in trials if settings.hypernetwork(t.number).exists()]
        there = f"; give --trial, one of {', '.join(map(str, ready))}, or" if ready else ":"
        raise StudyError(f"the study has not chosen its hypernetwork yet{there} let its command run to the end.")
    table = read_json(saved.folder / FINALISTS)
    try:
        return int(table["chosen"]), path
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.with_name('finalists.json')} does not say whose hypernetwork it is.") from error


def draw(
    saved: SavedStudy, hypernetwork: Hypernetwork, trial: int, count: int, low: float, high: float
) -> list[Candidate]:
    """Up to `count` candidates of a trial's hypernetwork; with the study's settings, those that it was valued on."""
    generator = torch.Generator().manual_seed(stable_seed("candidates", trial_seed(study_seed(saved.study), trial)))
    return draw_candidates(hypernetwork, count, generator, low, high, max_draws=max(200, DRAWS * count))


def retrain(settings: TrialSettings, data: Dataset, drawn: list[Candidate], show: Show) -> tuple[Pool, int, int]:
    """The fully retrained candidates, how many of them were stored, and how many diverged and are left out."""
    repeats = range(settings.config.seeds_per_candidate)
    jobs = [(candidate.genotype, candidate.lam, repeat) for candidate in drawn for repeat in repeats]
    done, cached, train = [], 0, data.without_test()
    for k, (genotype, lam, repeat) in enumerate(jobs):
        show(k, len(jobs), f"lambda {lam:.2f}")
        try:
            training = final_training(settings, repeat)
            cached += settings.store.retrained(training, train, genotype, weights=True).cached
        except DivergedError:
            continue
        done.append((genotype, lam, repeat))
    return pool_of(settings, data, done), cached, len(jobs) - len(done)


def refuse_existing(folder: Path) -> None:
    """Raise StudyError if there is something in `folder` already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StudyError(f"{folder} is there already, and is not overwritten: give another --out, or remove it.")


def make_folder(folder: Path) -> None:
    """Make sure that `folder` can be written, and is still empty, before the test images are read."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder} cannot be made ({error.strerror}): give another --out.") from error
    refuse_existing(folder)


def _row(name: str, scores: dict[str, Any]) -> list[str]:
    lam, shared = scores.get("lambda"), scores.get("shared")
    told = ["" if lam is None else f"{lam:.2f}", "" if shared is None else str(shared)]
    measured = [f"{scores[p]['accuracy']:.3f} ± {scores[p]['standard_error']:.3f}" for p in ("validation", "test")]
    return [name, *told, *measured]
