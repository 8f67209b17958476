"""Pictures and notes of trials: drawn from what a trial recorded, attached before it ends, never in its way."""

import shutil

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note, save_note

from edgenes.space.genotype import random_genotype
from tests.support.tiny_study import TINY
from tests.support.toys import seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.layout import ARTIFACTS
from tune_jobs.messages import Report, Status
from tune_jobs.watch.pictures import Album, note_choice, study_note, trial_note, trial_pictures

CONFIG = SweepConfig.of(**TINY)
CURVE = [{"lambda": k / 2, "shared": k // 2} for k in range(5)]


def genotype(seed=0):
    return random_genotype(CONFIG.space, seeded(seed))


def attributes(accuracies=(0.8, 0.9)):
    rows = [
        {"lambda": float(k), "shared": k, "source": "argmax", "accuracy": accuracy, "genotype": genotype(k).to_dict()}
        for k, accuracy in enumerate(accuracies)
    ]
    return {"control_curve": CURVE, "candidates": rows, "pool_size": len(rows), "seconds": 3.2, "standard_error": 0.02}


def ended(value, attributes, error=0.2):
    return Report(status=Status.COMPLETE, value=value, control_error=error, attributes=attributes)


def test_pictures_are_of_what_a_trial_has():
    assert trial_pictures({}, genotype()) == {}
    assert set(trial_pictures({"control_curve": CURVE}, genotype())) == {"control.svg"}
    pictures = trial_pictures(attributes(), genotype())
    assert set(pictures) == {"control.svg", "cell.svg"}
    assert "Most accurate candidate: 0.900" in pictures["cell.svg"]


@pytest.mark.parametrize(
    "report, expected",
    [
        (
            ended(0.912, attributes()),
            "**0.912 ± 0.020**, control error 0.20 edges (allowed), 2 of 2 candidates, 3 s.",
        ),
        (
            ended(0.9, attributes(), error=0.5),
            "**0.900 ± 0.020**, control error 0.50 edges (too much to win), 2 of 2 candidates, 3 s.",
        ),
        (
            Report(status=Status.PRUNED, control_error=0.5, reason="as asked."),
            "Pruned: as asked. Its control error 0.50 edges.",
        ),
        (Report(status=Status.FAILED, reason="no memory"), "Failed: no memory."),
    ],
)
def test_a_note_says_in_one_line_what_a_trial_found(report, expected):
    assert trial_note(report, CONFIG) == expected


def test_the_note_of_a_study_names_data_commit_and_what_is_not_the_default():
    note = study_note(SweepConfig.of(dataset="digits", value="mean", short_epochs=9), "abc123+")
    for text in ("digits", "abc123+", "objective is `mean`", "| short_epochs | `9` |"):
        assert text in note
    assert "final_epochs" not in note and "not known" in study_note(CONFIG, None)


@pytest.fixture
def study():
    return optuna.create_study()


@pytest.fixture
def album(tmp_path):
    return Album(SweepConfig.of(**TINY, out=tmp_path), genotype())


def test_a_trial_gets_each_picture_once_and_keeps_its_users_note(study, album, tmp_path):
    trial = study.ask()
    album(trial, ended(0.9, attributes()))
    metas = {meta.filename: meta for meta in get_all_artifact_meta(trial)}
    assert {meta.mimetype for meta in metas.values()} == {"image/svg+xml"} and set(metas) == {"control.svg", "cell.svg"}
    before = {path.name: path.read_bytes() for path in (tmp_path / ARTIFACTS).iterdir()}
    assert set(before) == {meta.artifact_id for meta in metas.values()}
    assert get_note(trial).startswith("**0.900")
    album(trial, ended(0.1, attributes()))  # by the next driver, if one died here
    assert {path.name: path.read_bytes() for path in (tmp_path / ARTIFACTS).iterdir()} == before
    assert get_note(trial).startswith("**0.900")


def test_no_picture_fails_a_trial(study, album, tmp_path, caplog):
    broken = {**attributes(), "candidates": [{"lambda": 0, "accuracy": 1.0, "genotype": "none"}]}
    for held in (broken, attributes()):
        trial = study.ask()
        album(trial, ended(0.9, held))
        assert f"Trial {trial.number} goes without its pictures" in caplog.text
        assert get_note(trial).startswith("**0.900")
        study.tell(trial, 0.9)
        shutil.rmtree(tmp_path / ARTIFACTS, ignore_errors=True)
        (tmp_path / ARTIFACTS).write_text("a file where the folder should be")


def test_the_best_of_the_sweep_and_the_chosen_trial_are_named_and_lose_their_names(study):
    trials = [study.ask() for _ in range(3)]
    for trial in trials:
        save_note(trial, f"note {trial.number}")
        study.tell(trial, 0.5)
    save_note(study, "mine")
    for numbers in ({"best_of_sweep": 0, "chosen": 1}, {"best_of_sweep": 2, "chosen": 2}):
        for _ in range(2):  # a restarted driver says it again
            note_choice(study, numbers)
        assert {name: study.user_attrs[name] for name in numbers} == numbers
        assert get_note(study) == f"mine\n\nBest of the sweep: trial {numbers['best_of_sweep']}. " + (
            f"Chosen: trial {numbers['chosen']}.\n"
        )
        tags = ["", "", "**Best of the sweep.** **Chosen.**\n\n"]
        if numbers["chosen"] == 1:
            tags = ["**Best of the sweep.**\n\n", "**Chosen.**\n\n", ""]
        assert [get_note(trial) for trial in trials] == [f"{tag}note {k}" for k, tag in enumerate(tags)]
