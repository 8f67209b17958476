"""The doctor finds every kind of damaged file, what is missing, and a dead driver; it changes nothing."""

import json
import re
import shutil
import socket

import pytest
import torch

from tests.support.tiny_study import begin_study, begun_study
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import DRIVER
from tune_jobs.files.lease import study_lock
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.commands import Doctor
from tune_jobs.tools.doctor import READERS
from tune_jobs.tools.folder import contents

KINDS = [
    *("result.json", "result-1.json", "stages.json", "environment.json", "test_reads.jsonl"),
    *("search/genotype.json", "search/predictor.json", "searches/search-0123.pt", "jobs/final/0.json"),
    *("trials/0001.jsonl", "trials/0001-hypernetwork.pt"),
    *("hypernetwork/hypernetwork.pt", "hypernetwork/finalists.json", "predictions/0123456789abcdef.pt"),
    *("ensemble/config.json", "ensembles/mine/ensemble.pt"),
    "ray/sweep-1/trial-0-ab/checkpoint_000001/state.pt",
]


def examined(folder):
    before = {name: (folder / name).read_bytes() for name in contents(folder).files}
    command = Doctor(study=folder)
    answer = command.run()
    json.dumps(answer, allow_nan=False)
    assert command.status(answer) == (0 if answer["sound"] else 1)
    assert all(finding["to_do"] in command.text(answer) for finding in answer["findings"])
    assert {name: (folder / name).read_bytes() for name in contents(folder).files} == before
    return answer


def wrong(folder):
    return [finding["file"] for finding in examined(folder)["findings"]]


def test_a_finished_study_is_sound(study):
    answer = examined(study)
    assert answer["sound"] and answer["notes"] == [] and not answer["driven"]


@pytest.mark.parametrize("names", [KINDS, ["config.json"], ["study.db"]], ids=["kinds", "config", "study"])
def test_every_kind_of_damaged_file_is_found(study, names):
    for name in names:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_bytes(b"\xff{\n")
    assert wrong(study) == sorted(names)


def test_an_ensemble_without_its_own_weights_is_found(study):
    weights = study / "ensemble" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (found,) = examined(study)["findings"]
    assert found["file"] == "ensemble/config.json" and str(weights) in found["what"]


def test_every_reader_is_tested():
    assert all(any(re.fullmatch(pattern, name) for name in KINDS) for pattern in READERS)


def test_missing_files_are_found(study):
    needed = ["ensemble/config.json", "hypernetwork/hypernetwork.pt", "search/genotype.json", "search/predictor.json"]
    for name in needed:
        (study / name).unlink()
    assert wrong(study) == needed
    for name in ("study.db", "config.json"):
        (study / name).unlink()
        assert wrong(study)[0] == name


def test_only_a_finalists_hypernetwork_has_to_be_there(study):
    finalists = {finalist.number for finalist in open_saved(study).finalists()}
    assert len(finalists) < 3
    for number in range(3):
        (study / "trials" / f"{number:04d}-hypernetwork.pt").unlink()
    assert wrong(study) == [f"trials/{number:04d}-hypernetwork.pt" for number in sorted(finalists)]


def test_a_truncated_file_and_one_of_a_hollow_content_are_found(study):
    one, other = sorted((study / "predictions").glob("*.pt"))[:2]
    one.write_bytes(one.read_bytes()[:-40])
    content = torch.load(other, weights_only=True)
    torch.save({**content, "log_probabilities": [1.0]}, other)
    assert wrong(study) == [f"predictions/{path.name}" for path in (one, other)]


def test_a_study_of_another_version_is_an_error_and_nothing_is_examined(study):
    stored = json.loads((study / "config.json").read_text())
    (study / "config.json").write_text(json.dumps(stored | {"format": 99}))
    (study / "result.json").write_text("{")
    with pytest.raises(StudyError, match=r"config\.json has format 99"):
        Doctor(study=study).run()


def test_a_file_of_another_version_is_left(study):
    path = next((study / "predictions").glob("*.pt"))
    torch.save({**torch.load(path, weights_only=True), "format": 99}, path)
    [finding] = examined(study)["findings"]
    assert "format 99" in finding["what"] and finding["to_do"].startswith("leave it")


def test_what_dead_processes_left_is_a_note(study):
    (study / "trials" / ".0000-hypernetwork.pt-ab12_xyz").write_text("x")
    (study / "predictions" / "0123.damaged").write_text("x")
    answer = examined(study)
    assert answer["sound"] and len(answer["notes"]) == 2


def test_a_trial_whose_values_cannot_be_is_a_note(study):
    open_saved(study).study.enqueue_trial({"pivots": 4})
    answer = examined(study)
    assert answer["sound"] and "trial 3 will be FAIL" in answer["notes"][0] and "got 4" in answer["notes"][0]


def test_a_dead_driver_and_its_trial_are_notes_and_a_living_one_is_no_news(tmp_path):
    folder = begun_study(tmp_path / "study").folder
    with study_lock(folder):
        answer = examined(folder)
    assert answer["driven"] and answer["sound"] and answer["notes"] == []
    with open(folder / "trials" / "0000.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # the record that it was writing
    record = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": "2026-01-01T00:00:00+00:00"}
    (folder / DRIVER).write_text(json.dumps(record))
    answer = examined(folder)
    assert answer["sound"] and not answer["driven"]
    assert "no longer drives" in answer["notes"][0] and "trial 0 is RUNNING without a driver" in answer["notes"][1]


def test_before_its_first_trial_a_study_needs_no_files(tmp_path):
    folder = begin_study(tmp_path / "study").folder
    shutil.rmtree(folder / "search")
    assert examined(folder)["sound"]
