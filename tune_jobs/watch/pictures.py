"""Pictures and notes of a study's trials, as optuna-dashboard shows them: artifacts in STUDY/artifacts."""

import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna_dashboard import get_note, save_note

from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.layout import ARTIFACTS
from tune_jobs.messages import Report, Status
from tune_jobs.report.cell_drawing import cell_svg
from tune_jobs.report.control_drawing import control_frame, control_svg

_log = logging.getLogger(__name__)
NAMES = {"best_of_sweep": "Best of the sweep", "chosen": "Chosen"}
_TAG = re.compile(rf"\A(\*\*({'|'.join(NAMES.values())})\.\*\* ?)+\n\n")
_LINE = re.compile(" ".join(rf"{name}: trial \d+\." for name in NAMES.values()))


def trial_pictures(attributes: Mapping[str, Any], optimal: Genotype, either_input: bool = False) -> dict[str, str]:
    """File names and SVG of what a trial's attributes hold: its control curve, its most accurate candidate's cell."""
    curve, candidates = attributes.get("control_curve"), attributes.get("candidates", [])
    pictures = {"control.svg": control_svg(control_frame(curve, candidates))} if curve else {}
    if candidates:
        best = max(candidates, key=lambda row: row["accuracy"])
        title = f"Most accurate candidate: {best['accuracy']:.3f}"
        pictures["cell.svg"] = cell_svg(Genotype.from_dict(best["genotype"]), optimal, title, either_input)
    return pictures


def trial_note(ended: Report, config: SweepConfig) -> str:
    """One line in Markdown: what a trial found, or why it did not."""
    found = ended.attributes
    error = "" if ended.control_error is None else f"control error {ended.control_error:.2f} edges"
    if ended.status == Status.COMPLETE:
        fit = "allowed" if ended.control_error <= CONTROL_LIMIT else "too much to win"
        members = f"{config.budget.ensemble_size} of {found['pool_size']} candidates"
        value = f"**{ended.value:.3f} ± {found['standard_error']:.3f}**"
        return f"{value}, {error} ({fit}), {members}, {found['seconds']:.0f} s."
    reason = str(ended.reason).rstrip(".")
    word = "Pruned" if ended.status == Status.PRUNED else "Failed"
    return f"{word}: {reason}." + (f" Its {error}." if error else "")


def study_note(config: SweepConfig, commit: str | None) -> str:
    """What a study is, in Markdown: what a trial does, its objective, and the settings that are not the default."""
    default = SweepConfig().to_dict()
    changed = {name: value for name, value in config.defining().items() if value != default[name]}
    rows = [("data", config.data.dataset), ("commit", commit or "not known"), *changed.items()]
    return "\n".join(
        (
            f"# EdgeNES: how the annealing decides the ensemble, on {config.data.dataset}",
            "",
            "Each trial trains a hypernetwork with its own weight c, temperature t, pivots and epsilon; its "
            f"objective is `{config.value}`. Those with a control error of at most {CONTROL_LIMIT} edges may win.",
            "",
            "Its artifacts are the control curve and the cell of its most accurate candidate; dashed edges are not "
            "in the optimal genotype.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | `{value}` |" for name, value in rows),
            "",
        )
    )


class Album:
    """Gives each trial its pictures and its note before it ends; what goes wrong here is only logged.

    A note or a picture that is there stays: the user wrote the one, a driver that died drew the other.
    """

    def __init__(self, config: SweepConfig, optimal: Genotype):
        self._config, self._optimal = config, optimal
        self._store = FileSystemArtifactStore(config.folder / ARTIFACTS)

    def __call__(self, trial: optuna.Trial, ended: Report) -> None:
        """Add what its last report holds to a running trial."""
        try:
            note_once(trial, trial_note(ended, self._config))
            (self._config.folder / ARTIFACTS).mkdir(exist_ok=True)
            there = {meta.filename for meta in get_all_artifact_meta(trial)}
            pictures = trial_pictures(ended.attributes, self._optimal, self._config.search.either_input)
            for name, svg in pictures.items():
                if name not in there:
                    self._attach(trial, name, svg)
        except Exception as error:  # no picture fails a trial
            _log.warning("Trial %d goes without its pictures: %s: %s", trial.number, type(error).__name__, error)

    def _attach(self, trial: optuna.Trial, name: str, svg: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(svg, encoding="utf-8")
            upload_artifact(artifact_store=self._store, file_path=str(path), study_or_trial=trial)


def note_once(of: optuna.Study | optuna.Trial, text: str) -> None:
    """Give a study, or a trial, a note as optuna-dashboard shows it, unless there is one."""
    if not get_note(of):
        save_note(of, text)


def note_choice(study: optuna.Study, numbers: Mapping[str, int]) -> None:
    """Name two trials, by the keys of NAMES, in the study's attributes, in its note and in their own notes.

    The notes' other words stay; a trial that an earlier result named loses its name. What goes wrong is only logged.
    """
    try:
        earlier, trials = [study.user_attrs.get(name) for name in NAMES], study.get_trials(deepcopy=False)
        for number in {*numbers.values(), *(n for n in earlier if isinstance(n, int) and 0 <= n < len(trials))}:
            trial = optuna.Trial(study, trials[number]._trial_id)
            tag = " ".join(f"**{NAMES[name]}.**" for name, named in numbers.items() if named == number)
            save_note(trial, (f"{tag}\n\n" if tag else "") + _TAG.sub("", get_note(trial)))
        line = " ".join(f"{NAMES[name]}: trial {number}." for name, number in numbers.items())
        save_note(study, _LINE.sub("", get_note(study)).rstrip() + f"\n\n{line}\n")
        for name, number in numbers.items():
            study.set_user_attr(name, number)
    except Exception as error:  # no note fails a study
        _log.warning("The study's notes do not name its trials: %s: %s", type(error).__name__, error)


def copy_notes(source: optuna.Study, copy: optuna.Study) -> None:
    """Give each trial of a copied study its own note: they are kept under the trials' ids, which are new ones."""
    for old, new in zip(source.get_trials(deepcopy=False), copy.get_trials(deepcopy=False), strict=False):
        save_note(optuna.Trial(copy, new._trial_id), get_note(optuna.Trial(source, old._trial_id)))
