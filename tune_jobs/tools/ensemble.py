"""Another ensemble from a hypernetwork that the study has trained: other candidates, other settings, no sweep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgenes.checkpoint import read_json
from edgenes.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from edgenes.data.dataset import Dataset, Part
from edgenes.errors import CheckpointError, ConfigError, DivergedError
from edgenes.space.hypernetwork import Hypernetwork
from edgenes.training.retraining import predict
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import FINALISTS, HYPERNETWORK, file_digest
from tune_jobs.files.stored_trainer import CANDIDATE, network_of
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.text import aligned
from tune_jobs.stages.ensemble import save_ensemble, select
from tune_jobs.stages.finalists import Entry, Pool, pool_of, with_every_seed, with_optimal
from tune_jobs.study.context import StudyContext
from tune_jobs.study.optuna_study import study_seed, trial_seed
from tune_jobs.study.result import read_result, read_test, test_reads
from tune_jobs.study.saved import SavedStudy, open_saved
from tune_jobs.tools.commands import Reselect
from tune_jobs.tools.folder import new_place
from tune_jobs.tools.machine import Show, choose_device, progress_line, threads


def run(command: Reselect) -> dict[str, Any]:
    """Draw and retrain the candidates, choose the members on V, read T once, and save the ensemble."""
    saved = open_saved(command.study, command.storage).with_data(command.dataset, command.root)
    config, wanted = saved.config, asked_for(command, saved)
    size, (low, high) = wanted["size"], wanted["lambda"]
    context = saved.context(choose_device(saved, command.device))
    asked = {name: wanted[name] for name in ("size", "candidates", "criterion", "selection")}
    context = replace(
        context,
        setting=replace(context.setting, **asked),
        calibration=wanted["calibration"],
        best_prefix=wanted["best_prefix"],
    )
    number, path = find_hypernetwork(saved, context, command.trial)
    wanted["trial"] = number
    target = new_place(command.out or saved.folder / "ensembles" / folder_name(wanted), folder=True)
    digest = file_digest(path)
    drawn = context.candidates(Hypernetwork.load(path), trial_seed(study_seed(saved.study), number), low, high)
    if len(drawn) < size:
        raise StudyError(
            f"the hypernetwork of trial {number} gives only {len(drawn)} distinct genotypes in that range, too few for "
            f"{size} members: give a wider --lambda or a smaller --size."
        )
    data = saved.data()
    with threads(config.execution.cpus_per_trial):
        with progress_line("Retraining", shown=not command.json) as show:
            entries = with_every_seed(context, [(candidate.genotype, candidate.lam) for candidate in drawn])
            if high == config.space.max_edges:
                entries = with_optimal(context, entries)
            pool, cached, diverged = retrain(context, data, entries, show)
        if len(pool.records) < size:
            raise StudyError(
                f"only {len(pool.records)} retrainings did not diverge, too few for {size} members: raise --candidates "
                "or lower --size."
            )
        if command.select_under == "shift":
            data, pool = with_corruptions(context, data, pool)
        selection = select(context, data, pool)
        # Before the test images are read: what cannot be written must not cost a read.
        target.mkdir(parents=True, exist_ok=True)
        place = target.relative_to(saved.folder) if target.is_relative_to(saved.folder) else target
        test = read_test(data, StudyFiles(saved.folder), f"ensemble {place}")
        about = {"hypernetwork": digest, "asked": wanted, "config": config.to_dict()}
        found = save_ensemble(context, data, pool, selection, test, target, about)
    own = read_result(saved.folder)
    return {
        "folder": str(target),
        "hypernetwork": digest,
        "asked": wanted,
        "device": context.device,
        "candidates": len(drawn),
        "cached": cached,
        "diverged": diverged,
        **found,
        "study": {part: own[part] for part in ("validation", "test")} if own else None,
        "test_reads": test_reads(saved.folder),
    }


def asked_for(command: Reselect, saved: SavedStudy) -> dict[str, Any]:
    """The command's settings, the study's where it gives none; raises ConfigError for what cannot be."""
    budget = saved.config.budget
    own = {
        "size": budget.ensemble_size,
        "candidates": budget.candidates,
        "criterion": budget.criterion,
        "selection": budget.selection,
        "calibration": saved.config.calibration,
    }
    given = {name: getattr(command, name) for name in own}
    asked = {name: own[name] if value is None else value for name, value in given.items()}
    if asked["size"] > asked["candidates"]:
        raise ConfigError(
            f"--size {asked['size']} is more than --candidates {asked['candidates']}: draw more, or choose fewer."
        )
    return {
        "lambda": list(parse_range(command.lambdas, saved.config.space.max_edges)),
        **asked,
        "best_prefix": command.best_prefix,
        "select_under": command.select_under,
    }


def folder_name(wanted: dict[str, Any]) -> str:
    """A name that shows the settings."""
    low, high = wanted["lambda"]
    most = "up-to-" * wanted["best_prefix"]
    name = f"trial-{wanted['trial']}-lambda-{low:g}-{high:g}-best-{most}{wanted['size']}-of-{wanted['candidates']}"
    name += "-under-shift" * (wanted["select_under"] == "shift")
    name += f"-by-{wanted['criterion']}" + ("" if wanted["selection"] == "auto" else f"-{wanted['selection']}")
    return name + ("" if wanted["calibration"] == "temperature" else f"-calibration-{wanted['calibration']}")


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


def find_hypernetwork(saved: SavedStudy, context: StudyContext, trial: int | None) -> tuple[int, Path]:
    """Trial and file of a hypernetwork, that of `trial` or the study's choice; raises StudyError if there is none."""
    trials = saved.trials()
    if trial is not None:
        if not 0 <= trial < len(trials):
            raise StudyError(f"the study has no trial {trial}: it has {len(trials)}, counted from 0.")
        path = context.hypernetwork(trial)
        if not path.exists():
            raise StudyError(f"trial {trial} ({trials[trial].state.name}) has no hypernetwork: {path} is missing.")
        return trial, path
    path = saved.folder / HYPERNETWORK
    if not path.exists():
        ready = [t.number for t in trials if context.hypernetwork(t.number).exists()]
        there = f"; give --trial, one of {', '.join(map(str, ready))}, or" if ready else ":"
        raise StudyError(f"the study has not chosen its hypernetwork yet{there} let its command run to the end.")
    table = read_json(saved.folder / FINALISTS)
    try:
        return int(table["chosen"]), path
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{saved.folder / FINALISTS} does not show whose hypernetwork it is.") from error


def retrain(context: StudyContext, data: Dataset, entries: list[Entry], show: Show) -> tuple[Pool, int, int]:
    """The fully retrained networks, how many of them were stored, and how many diverged and are left out."""
    trainer, done, cached = context.place.trainer(data), [], 0
    for k, entry in enumerate(entries):
        show(k, len(entries), "optimal" if entry.lam is None else f"lambda {entry.lam:.2f}")
        try:
            cached += trainer.candidate(entry.member.config, entry.member.genotype).cached
        except DivergedError:
            continue
        done.append(entry)
    return pool_of(context, data, done), cached, len(entries) - len(done)


def with_corruptions(context: StudyContext, data: Dataset, pool: Pool) -> tuple[Dataset, Pool]:
    """V with a corrupted picture of each of its images, and what the networks of the pool predict of both.

    Every image has one of the fifteen corruptions at one of five severities, the same ones each time.
    """
    clean = data.validation
    kinds = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    drawn, worse = np.random.default_rng(0).integers(len(kinds), size=len(clean)), clean.images.copy()
    for k in np.unique(drawn):
        worse[drawn == k] = corrupt(clean.images[drawn == k], *kinds[k])
    added, store, records = Part(worse, clean.labels), context.place.store, []
    for entry, record in zip(pool.entries, pool.records, strict=True):
        stored = store.find(CANDIDATE, record.key).value
        network = network_of(stored, entry.member.config, data, entry.member.genotype)
        logs = [stored.log_probabilities, predict(network, added, data, context.device)]
        records.append(replace(record, value=replace(record.value, log_probabilities=np.concatenate(logs))))
    both = Part(np.concatenate([clean.images, worse]), np.tile(clean.labels, 2))
    return replace(data, validation=both), Pool(pool.entries, records)


def text(answer: dict[str, Any]) -> str:
    """The ensemble and its members in a table, beside the study's own ensemble."""
    wanted, chosen = answer["asked"], answer["selection"]
    low, high = wanted["lambda"]
    best = "the best" if chosen["proven_optimal"] else "chosen"
    method = "" if wanted["selection"] == "auto" else f" ({wanted['selection']})"
    rows = [["", "lambda", "shared", "validation", "test"], _row("ensemble", answer)]
    rows += [_row(f"member {k}", member) for k, member in enumerate(answer["members"], start=1)]
    if answer["study"]:
        rows.append(_row("the study's ensemble", answer["study"]))
    lines = [
        f"{len(answer['members'])} of {chosen['networks']} networks, {best} by {wanted['criterion']}{method}; "
        f"hypernetwork of trial {wanted['trial']}, lambda {low:g} to {high:g}",
        "",
        aligned(rows),
        "",
    ]
    if answer["candidates"] < wanted["candidates"]:
        lines.append(f"Only {answer['candidates']} of {wanted['candidates']} distinct genotypes were found there.")
    calibration = answer["calibration"]
    if calibration["method"] != "none":
        change = f"{-calibration['nll_gain']:+.4f} ± {calibration['nll_gain_error']:.4f}"
        lines.append(f"Calibration ({calibration['method']}) changes the NLL by {change}, cross-fitted.")
    if chosen["weights"]:
        lines.append(f"The members' weights are {', '.join(f'{weight:.2f}' for weight in chosen['weights'])}.")
    if wanted["select_under"] == "shift":
        lines.append("The validation images are here those of the study and as many corrupted ones.")
    if answer["diverged"]:
        lines.append(f"{answer['diverged']} retrainings diverged and are left out.")
    lines += [
        f"Found in the study's store: {answer['cached']} of {chosen['networks']} retrainings.",
        f"The test images of this study have now been read {answer['test_reads']} times: choose between ensembles "
        "by their validation images.",
        f"Saved: {answer['folder']}",
    ]
    return "\n".join(lines)


def _row(name: str, scores: dict[str, Any]) -> list[str]:
    lam, shared = scores.get("lambda"), scores.get("shared")
    place = ["" if lam is None else f"{lam:.2f}", "" if shared is None else str(shared)]
    measured = [f"{scores[p]['accuracy']:.3f} ± {scores[p]['standard_error']:.3f}" for p in ("validation", "test")]
    return [name, *place, *measured]
