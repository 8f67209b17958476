"""What may be wrong with a study's folder: checks that yield findings, each with its cure."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import FrozenTrial, TrialState

from edgenes.checkpoint import load_checkpoint, read_json, write_json, write_text
from edgenes.config import digest
from edgenes.errors import CheckpointError, EdgeNESError, FormatError
from edgenes.parsing import reason, shown
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import Hypernetwork, control_error
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.collapse import capped_genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.candidate_store import read_prediction
from tune_jobs.files.curves import read_curve
from tune_jobs.files.integrity import check_database as refuse_database
from tune_jobs.files.integrity import check_folder, is_damaged, is_temporary, set_aside
from tune_jobs.files.layout import (
    ARTIFACTS,
    CARD,
    CONFIG,
    DATABASE,
    ENSEMBLE,
    FINALISTS,
    GENOTYPE,
    HYPERNETWORK,
    LOGITS,
    TEST_READS,
    curve_path,
    file_digest,
    hypernetwork_path,
)
from tune_jobs.progress.text import counted, size_text
from tune_jobs.study.optuna_study import study_identity
from tune_jobs.study.result import read_result
from tune_jobs.study.saved import SavedStudy, open_saved, read_config, stage_seconds, storage_url
from tune_jobs.study.storage import SQLITE, resolve, sqlite_url, storage_file, storage_from, storage_reference
from tune_jobs.tools.folder import Contents
from tune_jobs.tools.machine import recorded_environment
from tune_jobs.watch.pictures import artifact_store, is_whole, trial_pictures, write_picture

FILES = (".json", ".jsonl", ".pt", ".csv", ".html", ".unfinished")
"""Ends of the names that only files have in a study."""
FOLDERS = ("search", "trials", "predictions", "hypernetwork", "ensemble", "report", "ray")


@dataclass(frozen=True)
class Finding:
    """Something wrong: what it is, and what `repair` does about it, or what is left to do where there is none.

    What is `harmless` is told and needs nothing. What comes `first` may be the cause of others, which are looked at
    again once it is repaired.
    """

    what: str
    cure: str
    repair: Callable[[], Any] | None = None
    harmless: bool = False
    first: bool = False


Findings = Iterator[Finding]


@dataclass
class Case:
    """A study under examination; what a check could read is there for the later ones."""

    folder: Path
    storage: str | None
    found: Contents
    driven: bool
    result: dict[str, Any] | None = None
    config: SweepConfig | None = None
    saved: SavedStudy | None = None
    trials: tuple[FrozenTrial, ...] = ()
    optimal: Genotype | None = None

    @property
    def finished(self) -> bool:
        """Whether the result is that of all trials planned."""
        return self.result is not None and self.config is not None and self.result["trials"] >= self.config.trials

    @property
    def elsewhere(self) -> bool:
        """Whether files of a study at work may lie under its --storage-path: its folder is whole at the end."""
        return self.config is not None and self.config.storage_path is not None and not self.finished

    def of_state(self, state: TrialState) -> list[FrozenTrial]:
        """The trials in a state."""
        return [trial for trial in self.trials if trial.state == state]


def examine(case: Case) -> Findings:
    """Everything that is wrong; a driver at work changes files all the time, so leftovers are not looked for then."""
    try:
        check_folder(case.folder)
    except StudyError as error:
        yield Finding(str(error), "that first: nothing else was looked at")
        return
    in_the_way = [*check_kinds(case), *check_permissions(case)]
    if in_the_way:
        yield from in_the_way
        return
    yield from check_result_file(case)
    yield from check_config(case)
    yield from check_database(case)
    yield from check_plain_files(case)
    if case.saved is not None:
        yield from check_identity(case)
        yield from check_genotype(case)
        yield from check_unfinished_trials(case)
        yield from check_curves(case)
    if case.optimal is not None:
        yield from check_hypernetworks(case)
        yield from check_pictures(case)
    yield from check_predictions(case)
    if case.optimal is not None and case.finished and not case.driven:
        yield from check_result(case)
        yield from check_chosen_hypernetwork(case)
        yield from check_ensemble(case)
    yield from check_test_reads(case)
    if not case.driven:
        yield from check_leftovers(case)


def _unreadable(path: Path, error: Exception, cure: str, repair: Callable[[], Any] | None = None) -> Finding:
    """A file that cannot be loaded; one of another version is left as it is."""
    if isinstance(error, FormatError):
        return Finding(str(error), "leave it: it is whole, and the version that wrote it reads it")
    return Finding(str(error), cure, repair or partial(set_aside, path))


def _rewritten(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file anew, what is there set aside."""
    if path.exists():
        set_aside(path)
    write(path)


def check_kinds(case: Case) -> Findings:
    """A file's name is not a folder's, and the other way round; what stands there is in the way of all other checks."""
    for path in sorted(case.folder.rglob("*")):
        name = path.relative_to(case.folder)
        if (name.parts[0] == "ray" and len(name.parts) > 1) or name == Path(DATABASE):
            continue  # Ray's own; the database is never touched
        if path.is_dir() and path.suffix in FILES:
            yield Finding(f"{path} is a folder, where a study has a file.", *_aside(path))
        elif path.is_file() and str(name) in FOLDERS:
            yield Finding(f"{path} is a file, where a study has a folder.", *_aside(path))


def check_permissions(case: Case) -> Findings:
    """Each file can be read: what others may not read is not damaged, and is not to be set aside."""
    for name in case.found.files:
        path = case.folder / name
        if path.exists() and not os.access(path, os.R_OK):
            yield Finding(f"{path} may not be read by you.", "give yourself the right to, or let its owner look")


def _aside(path: Path) -> tuple[str, Callable[[], Any]]:
    return "set it aside as .damaged, and look at the rest then", partial(set_aside, path)


def check_result_file(case: Case) -> Findings:
    """result.json is a result."""
    try:
        case.result = read_result(case.folder)
    except CheckpointError as error:
        yield Finding(
            str(error),
            "set it aside as .damaged; the next run makes it anew from what is stored, and reads the test images again",
            partial(set_aside, case.folder / "result.json"),
        )


def check_config(case: Case) -> Findings:
    """config.json is a configuration."""
    try:
        case.config, _ = read_config(case.folder, case.storage)
        return
    except EdgeNESError as error:
        reason = str(error)
    try:
        data = read_json(case.folder / CARD)["data"]
        config = {**case.result["config"], "out": str(case.folder), "data": data}
    except (CheckpointError, KeyError, TypeError):
        yield Finding(reason, "run the sweep's same command: it writes the file anew; nothing else can be checked yet")
        return
    write = partial(write_json, value=config)
    yield Finding(reason, "write it anew from result.json", partial(_rewritten, case.folder / CONFIG, write))


def check_database(case: Case) -> Findings:
    """The Optuna study opens and its trials can be read; a damaged one is never touched."""
    cure = "nothing here repairs it: restore it from a backup or an export of the study; it was not touched"
    try:
        place = storage_reference(case.storage, case.folder)
        url = resolve(place or sqlite_url(case.folder / DATABASE))
        file = storage_file(url)
        if url.startswith(SQLITE) and file.exists():
            if file.stat().st_size == 0:
                raise StudyError(f"{file} is empty.")
            refuse_database(file)
        if case.config is not None:
            saved = open_saved(case.folder, case.storage)
            case.trials, case.saved = tuple(saved.trials()), saved
    except EdgeNESError as error:
        yield Finding(str(error), cure)
    except ValueError as error:
        yield Finding(f"{file} cannot be used: {error}.", cure)


def check_plain_files(case: Case) -> Findings:
    """The small JSON files beside the result."""
    try:
        stage_seconds(case.folder)
    except CheckpointError as error:
        path = case.folder / "stages.json"
        if case.result is None:
            yield Finding(str(error), "set it aside as .damaged; the seconds begin anew", partial(set_aside, path))
        else:
            write = partial(write_json, value=case.result["seconds"])
            yield Finding(str(error), "write it anew from result.json", partial(_rewritten, path, write))
    readers = {
        "environment.json": lambda: recorded_environment(case.folder),
        FINALISTS: lambda: read_json(case.folder / FINALISTS),
    }
    for name, read in readers.items():
        path = case.folder / name
        try:
            if path.exists():
                read()
        except CheckpointError as error:
            cure = "set it aside as .damaged; a run that goes on writes it anew"
            yield Finding(str(error), cure, partial(set_aside, path))


def check_identity(case: Case) -> Findings:
    """config.json says what the Optuna study was begun with."""
    try:
        identity = study_identity(case.saved.study)
    except StudyError as error:
        yield Finding(str(error), "nothing: another program made it")
        return
    if identity is None:
        if case.trials:
            yield Finding("the Optuna study has no record of its settings", "nothing: another program made it")
        return
    asked = json.loads(json.dumps({**case.config.defining(), "data": case.saved.data_digest}))
    differing = sorted(name for name in asked if identity.get(name) != asked[name])
    if not differing:
        return
    what = "; ".join(f"{name} is {asked[name]!r}, the study's {identity.get(name)!r}" for name in differing)
    what = f"config.json is not that of the study: {what}"
    if not set(differing) <= identity.keys():
        yield Finding(what, "nothing: another version of EdgeNES Studio began the study")
        return
    path = case.folder / CONFIG
    config = {**read_json(path), **{name: identity[name] for name in differing}}
    write = partial(write_json, value=config)
    yield Finding(what, "write the study's own settings into it", partial(_rewritten, path, write), first=True)


def check_genotype(case: Case) -> Findings:
    """The optimal genotype is there once trials are, and is of the study's space."""
    path = case.folder / GENOTYPE
    if not path.exists() and not any(trial.params for trial in case.trials):
        return
    try:
        case.optimal = case.saved.optimal
        return
    except EdgeNESError as error:
        reason = str(error) if str(path) in str(error) else f"{path}: {error}"
    source, genotype = _genotype_elsewhere(case)
    if genotype is None:
        what_then = "copies it from --optimal" if case.config.genotype_file else "searches again"
        cure = f"set it aside as .damaged; the next run {what_then}, and trials go on only if it is the same"
        yield Finding(reason, cure, partial(set_aside, path) if path.exists() else None)
    else:
        write = partial(write_text, text=genotype.to_json() + "\n")
        yield Finding(reason, f"write it anew from {source}", partial(_rewritten, path, write))


def _genotype_elsewhere(case: Case) -> tuple[str, Genotype | None]:
    """The optimal genotype from the result, else from the logits that it was read off."""
    if case.result is not None:
        return "result.json", Genotype.from_dict(case.result["optimal"])
    name = LOGITS
    try:
        state = load_checkpoint(case.folder / name, "logits")
        logits = ArchitectureLogits(state["alpha"], state["beta"])
        return name, capped_genotype(logits, case.config.space, case.config.max_parameter_free)
    except (CheckpointError, KeyError, IndexError, RuntimeError):
        return name, None


def check_unfinished_trials(case: Case) -> Findings:
    """Trials that a dead driver left, and whether the checkpoints they go on from are sound."""
    if case.driven:
        return
    waiting = case.of_state(TrialState.WAITING)
    if waiting:
        numbers = ", ".join(str(trial.number) for trial in waiting)
        yield Finding(f"enqueued and not begun: trial {numbers}", "the next run begins with them", harmless=True)
    for trial in case.of_state(TrialState.RUNNING):
        what = f"trial {trial.number} is RUNNING without a driver"
        anew = "begins it anew, with the same numbers"
        if case.elsewhere:
            place = case.config.storage_path
            yield Finding(what, f"no damage: the next run looks for its checkpoint under {place}", harmless=True)
            continue
        noted = trial.user_attrs.get("checkpoint")
        if noted is None:
            yield Finding(what, f"no damage: the next run {anew}", harmless=True)
            continue
        place = (case.folder / str(noted)).resolve()
        if place.is_relative_to(case.folder.resolve()) and place.is_dir():
            # Of a damaged one the run takes the one before.
            earlier = [path for path in place.parent.glob("checkpoint_*") if path.name <= place.name]
            steps = map(_checkpoint_step, sorted(earlier, reverse=True))
            step = next((step for step in steps if step is not None), None)
            goes_on = anew if step is None else f"goes on with it from step {step}"
            yield Finding(what, f"no damage: the next run {goes_on}", harmless=True)
            continue
        places = case.folder.glob(f"ray/*/trial-{trial.number}-*/checkpoint_*")
        kept = [(_checkpoint_step(path), path) for path in places]
        step, newest = max(((step, path) for step, path in kept if step is not None), default=(None, None))
        goes_on = anew if step is None else f"goes on with it from step {step}"
        yield Finding(
            f"{what}, and its checkpoint {noted} is gone",
            f"note {'that there is none' if newest is None else newest.name}; the next run {goes_on}",
            partial(_note_checkpoint, case, trial, newest, step),
        )


def _checkpoint_step(place: Path) -> int | None:
    """The step of a trial's checkpoint; None if it cannot be used."""
    try:
        return load_checkpoint(place / "state.pt", "trial")["epoch"] + 1
    except (CheckpointError, KeyError, TypeError):
        return None


def _note_checkpoint(case: Case, trial: FrozenTrial, place: Path | None, step: int | None) -> None:
    # As in the searcher: there is no public way back to a running trial.
    running = optuna.Trial(case.saved.study, trial._trial_id)
    running.set_user_attr("checkpoint", None if place is None else os.path.relpath(place, case.folder))
    running.set_user_attr("checkpoint_step", -1 if step is None else step)


def check_hypernetworks(case: Case) -> Findings:
    """Each complete trial has its hypernetwork. Finalists need it; of other trials it is a result, and no more.

    More trials only push trials out of the finalists, so that one which is none now never becomes one.
    """
    needed = {finalist.number for finalist in case.saved.finalists()}
    for trial in case.of_state(TrialState.COMPLETE):
        path = case.folder / hypernetwork_path(trial.number)
        if case.elsewhere and not path.exists():
            continue
        fault = _hypernetwork_fault(case, path, trial.user_attrs.get("control_error"))
        if fault is None:
            continue
        what = f"trial {trial.number}: {fault}"
        copy = case.folder / HYPERNETWORK
        if isinstance(fault, FormatError):
            yield Finding(what, "leave it: it is whole, and the version that wrote it reads it")
        elif _is_chosen(case, trial.number, copy):
            copied = partial(_rewritten, path, partial(shutil.copyfile, copy))
            yield Finding(what, f"copy it from {HYPERNETWORK}, the same file", copied)
        elif path.exists():
            yield Finding(what, "set it aside as .damaged", partial(set_aside, path))
        elif trial.number in needed:
            yield Finding(what, "nothing here has another copy, and no run ends without it: the trial is a finalist")
        else:
            yield Finding(what, "no run needs it: the trial is no finalist, and will be none", harmless=True)


def _hypernetwork_fault(case: Case, path: Path, expected: float | None) -> CheckpointError | None:
    try:
        hypernetwork = Hypernetwork.load(path)
        if case.optimal is None or expected is None:
            return None
        found = control_error(hypernetwork, case.optimal)
    except CheckpointError as error:
        return error
    except (EdgeNESError, KeyError, TypeError, RuntimeError) as error:
        return CheckpointError(f"{path} holds no whole hypernetwork: {error}")
    if abs(found - expected) > 1e-6:
        return CheckpointError(
            f"{path} is not its hypernetwork: the control error is {found:.3f}, the trial's {expected:.3f}."
        )
    return None


def _is_chosen(case: Case, number: int, path: Path) -> bool:
    """Whether `path` is the hypernetwork that the result was made from, and that of trial `number`."""
    try:
        return (
            case.result is not None
            and case.result["best_trial"]["number"] == number
            and file_digest(path) == read_json(case.folder / CARD)["hypernetwork"]
        )
    except (CheckpointError, OSError, KeyError, TypeError):
        return False


def check_curves(case: Case) -> Findings:
    """Curve files hold whole records, and those of complete trials every step."""
    for trial in case.trials:
        path = curve_path(case.folder, trial.number)
        if not path.exists():
            if trial.state == TrialState.COMPLETE:
                yield Finding(f"trial {trial.number} is complete and has no curve: {path}", "nothing: it is lost")
            continue
        if case.driven and trial.state == TrialState.RUNNING:
            continue  # it is being written
        lines = _altered_lines(path)
        if lines and not (lines == ["the last"] and trial.state == TrialState.RUNNING):
            yield Finding(
                f"{path} has lines that are no records: {', '.join(lines)}.",
                "set it aside as .damaged, and keep the whole lines in its place",
                partial(_keep_whole_lines, path),
            )
            continue
        if trial.state == TrialState.COMPLETE:
            missing = _missing_steps(case.config, trial, path)
            if missing:
                steps = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
                yield Finding(f"{path} lacks steps of trial {trial.number}: {steps}.", "nothing: they are lost")


def _is_record(line: bytes) -> bool:
    try:
        return type(json.loads(line)["step"]) is int
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _altered_lines(path: Path) -> list[str]:
    """Numbers of the lines that are no records; "the last" is torn, without an end."""
    *lines, rest = path.read_bytes().split(b"\n")
    altered = [str(number) for number, line in enumerate(lines, start=1) if not _is_record(line)]
    return altered + (["the last"] if rest else [])


def _keep_whole_lines(path: Path) -> None:
    lines = [line for line in path.read_bytes().split(b"\n")[:-1] if _is_record(line)]
    _rewritten(path, partial(write_text, text="".join(f"{line.decode()}\n" for line in lines)))


def _missing_steps(config: SweepConfig, trial: FrozenTrial, path: Path) -> list[int]:
    """Steps of a complete trial that its curve does not have: epochs, its candidates, and the result."""
    epochs, pool = config.hypernetwork_epochs, trial.user_attrs.get("pool_size") or config.candidates
    expected = {*range(1, epochs + min(int(pool), config.candidates) + 1), epochs + config.candidates}
    return sorted(expected - {record["step"] for record in read_curve(path)})


def check_predictions(case: Case) -> Findings:
    """Each stored candidate loads, and is what its name says."""
    again = "set it aside as .damaged; a run that needs it computes it again"
    for name in case.found.matching(r"predictions/[^/]+\.pt"):
        path = case.folder / name
        if is_temporary(name) or not path.exists():
            continue
        try:
            record = read_prediction(path)
            key = digest(record["config"], Genotype.from_dict(record["genotype"]).digest, record["data"])
        except (EdgeNESError, KeyError, TypeError) as error:
            yield _unreadable(path, error, again)
            continue
        if key != path.stem:
            yield Finding(f"{path} holds another candidate, {key}.", again, partial(set_aside, path))


def check_pictures(case: Case) -> Findings:
    """The pictures that optuna-dashboard shows with a trial are there, and whole."""
    storage, store = storage_from(storage_url(case.config)), artifact_store(case.folder)
    for trial in case.trials:
        if not trial.state.is_finished():
            continue  # it may be getting them now
        try:
            metas = get_all_artifact_meta(trial, storage=storage)
        except (ValueError, TypeError, KeyError) as error:
            yield Finding(f"trial {trial.number}'s artifacts are not Optuna's: {reason(error)}", "leave them alone")
            continue
        for meta in metas:
            if is_whole(store, meta):
                continue
            what = f"trial {trial.number}'s artifact {shown(meta.filename)} is missing, or was cut short"
            picture = _picture(case, trial, meta.filename)
            if picture is None:
                yield Finding(what, "nothing: it is lost", harmless=True)
            else:
                cure = "set aside as .damaged what is left of it, and draw it again"
                yield Finding(what, cure, partial(_draw_again, case.folder, meta.artifact_id, picture))


def _picture(case: Case, trial: FrozenTrial, name: str) -> str | None:
    try:
        return trial_pictures(trial.user_attrs, case.optimal).get(name)
    except (EdgeNESError, KeyError, TypeError, ValueError, AttributeError):  # what the trial recorded was altered
        return None


def _draw_again(folder: Path, artifact_id: str, picture: str) -> None:
    path = folder / ARTIFACTS / artifact_id
    if path.exists():
        set_aside(path)
    write_picture(folder, artifact_id, picture)


def check_result(case: Case) -> Findings:
    """result.json is that of this study, its genotype and its ensemble."""
    result, faults = case.result, []
    done = len(case.of_state(TrialState.COMPLETE)) + len(case.of_state(TrialState.PRUNED))
    if result["trials"] > done:
        faults.append(f"it is of {result['trials']} trials, the study has {done}")
    best = result["best_trial"]
    trial = case.trials[best["number"]] if 0 <= best["number"] < len(case.trials) else None
    if trial is None or trial.state != TrialState.COMPLETE:
        faults.append(f"its best trial {best['number']} is not complete")
    elif trial.values[0] != best["value"] or trial.params != best["params"]:
        faults.append(f"its best trial {best['number']} has another value or other parameters in the study")
    if case.optimal is not None and case.optimal.to_dict() != result["optimal"]:
        faults.append(f"its optimal genotype is not that of {GENOTYPE}")
    plain = case.config.to_dict()
    differing = [name for name in case.config.defining() if result["config"].get(name) != plain[name]]
    if differing:
        faults.append(f"its settings are others: {', '.join(differing)}")
    if faults:
        yield Finding(
            f"result.json does not fit the study: {'; '.join(faults)}.",
            "set it aside as .damaged; the next run makes it anew from what is stored, and reads the test images again",
            partial(set_aside, case.folder / "result.json"),
        )


def check_chosen_hypernetwork(case: Case) -> Findings:
    """hypernetwork/ holds the file that the ensemble's card names."""
    path = case.folder / HYPERNETWORK
    number = case.result["best_trial"]["number"]
    try:
        expected = read_json(case.folder / CARD)["hypernetwork"]
    except (CheckpointError, KeyError, TypeError):
        expected = None  # a finding of its own
    try:
        Hypernetwork.load(path)
        if expected in (None, file_digest(path)):
            return
        reason = f"{path} is not the file that the ensemble was made from."
    except (EdgeNESError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error)
    source = case.folder / hypernetwork_path(number)
    if _is_chosen(case, number, source):
        copied = partial(_rewritten, path, partial(shutil.copyfile, source))
        yield Finding(reason, f"copy it from {source.relative_to(case.folder)}, the same file", copied)
    else:
        yield Finding(reason, "nothing here has another copy: run the study with more --trials to choose anew")


def check_ensemble(case: Case) -> Findings:
    """ensemble/ loads, holds the result's members, and its card says so."""
    from edgenes.ensemble import Ensemble
    from tune_jobs.stages.ensemble import rebuild_ensemble

    members = case.result["members"]
    anew = "build it anew from the stored weights of its members, without reading the test images"
    build = partial(rebuild_ensemble, case.saved, case.result)
    path = case.folder / ENSEMBLE
    try:
        ensemble = Ensemble.load(path.parent)
    except CheckpointError as error:
        yield _unreadable(path, error, anew, build)
        return
    if [network.genotype.digest for network in ensemble.networks] != [member["digest"] for member in members]:
        yield Finding(f"{path} does not hold the members of result.json.", anew, build)
        return
    card = case.folder / CARD
    try:
        if read_json(card) == ensemble.card:
            return
        reason = f"{card} is not the card of the ensemble beside it."
    except CheckpointError as error:
        reason = str(error)
    write = partial(write_json, value=ensemble.card)
    yield Finding(reason, f"write it anew from {ENSEMBLE.name}, which holds it too", partial(_rewritten, card, write))


def check_test_reads(case: Case) -> Findings:
    """The test images were read once a result, and once for each ensemble beside it."""
    path = case.folder / TEST_READS
    reads = path.read_bytes().splitlines() if path.exists() else []
    results = len(case.found.matching(r"result(-\d+)?\.json"))
    ensembles = len(case.found.matching(r"ensembles/[^/]+/card\.json"))
    counted_then = case.result["test_reads"] if case.result is not None else 0
    if len(reads) < counted_then:
        yield Finding(
            f"{path} has {counted(len(reads), 'line')}, and there were {counted_then} when result.json was written",
            "nothing: how often the test images were read is no longer known",
        )
    if len(reads) > results + ensembles and not case.driven:
        beside = f" and {counted(ensembles, 'other ensemble')}" if ensembles else ""
        yield Finding(
            f"the test images were read {counted(len(reads), 'time')} for {counted(results, 'result')}{beside}",
            f"no damage: {TEST_READS} says when and why; no choice depends on them",
            harmless=True,
        )


def check_leftovers(case: Case) -> Findings:
    """What dead processes left behind."""
    found, folder = case.found, case.folder
    temporary = [name for name in found.files if is_temporary(name)]
    if temporary:
        what = f"{counted(len(temporary), 'half-written file')} of dead processes, {size_text(found.size(temporary))}"
        yield Finding(f"{what}: {', '.join(temporary[:3])}", "remove them", partial(_remove, folder, temporary))
    redundant = [name for name in found.matching(r"predictions/[^/]+\.unfinished") if _is_redundant(case, name)]
    if redundant:
        what = f"{counted(len(redundant), 'unfinished training')}, finished later, {size_text(found.size(redundant))}"
        yield Finding(what, "remove them", partial(_remove, folder, redundant))
    ray = found.matching(r"ray/.*")
    if (folder / "ray").is_dir() and case.finished and case.saved and not case.of_state(TrialState.RUNNING):
        what = f"ray/, {size_text(found.size(ray))}, was left by a driver of the finished study"
        yield Finding(what, "remove it: all that it held is stored", partial(shutil.rmtree, folder / "ray"))
    damaged = [name for name in found.files if is_damaged(name)]
    if damaged:
        what = f"{counted(len(damaged), 'file')} set aside as damaged, {size_text(found.size(damaged))}"
        yield Finding(f"{what}: {', '.join(damaged[:3])}", "no harm; clean removes them", harmless=True)


def _is_redundant(case: Case, name: str) -> bool:
    """Whether the record of an unfinished training is whole, with the weights that it may have been for."""
    try:
        record = read_prediction((case.folder / name).with_suffix(".pt"))
    except CheckpointError:
        return False
    same = case.config is None or case.config.short_epochs == case.config.final_epochs
    return record.get("weights") is not None or not same


def _remove(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
