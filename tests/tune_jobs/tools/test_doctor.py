"""What the doctor finds in a damaged study, what its repair does, and what it leaves alone."""

import json
import os
import shutil
import socket
import subprocess
import sys

import optuna
import pytest
import torch

from edgenes import Ensemble, Genotype
from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.errors import CheckpointError
from tests.support.tiny_study import begin_study, begun_study, finish_study, run_trials
from tests.support.toys import one_hot_logits
from tune_jobs.errors import StudyError
from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import file_digest
from tune_jobs.files.lease import study_lock
from tune_jobs.study.result import finished
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.doctor import Doctor
from tune_jobs.tools.folder import DRIVER, contents, full_retrainings

TRIALS = 3


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory):
    """A finished study of three trials, two of them finalists."""
    saved = begin_study(
        tmp_path_factory.mktemp("finished") / "study", trials=TRIALS, finalists=2, hypernetwork_epochs=8
    )
    run_trials(saved)
    result = finish_study(saved)
    (saved.folder / "stages.json").write_text(json.dumps(result["seconds"]))
    return saved.folder


@pytest.fixture
def study(finished_study, tmp_path):
    return shutil.copytree(finished_study, tmp_path / "study")


def examined(folder, repair=False, **options):
    answer = Doctor(study=folder, repair=repair, **options).run()
    json.dumps(answer, allow_nan=False)
    assert Doctor(study=folder).status(answer) == (0 if answer["sound"] else 1)
    assert Doctor(study=folder).text(answer)
    return answer


def told(rows):
    return "\n".join(f"{row['what']} {row['cure']}" for row in rows)


def snapshot(folder):
    return {name: (folder / name).read_bytes() for name in contents(folder).files if name != "driver.lock"}


def best(folder):
    return json.loads((folder / "result.json").read_text())["best_trial"]["number"]


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def prediction(folder, whole):
    """The file of a fully retrained candidate, or of a shortly retrained one."""
    keys = full_retrainings(open_saved(folder))
    return next(path for path in sorted((folder / "predictions").glob("*.pt")) if (path.stem in keys) == whole)


def rename_prediction(folder):
    one, other = prediction(folder, True), prediction(folder, False)
    shutil.copyfile(other, one)


def other_hypernetwork(folder, number):
    path = folder / "trials" / f"{number:04d}-hypernetwork.pt"
    wrong = torch.load(path, weights_only=True)
    wrong["weights"]["alpha"] = -wrong["weights"]["alpha"]
    torch.save(wrong, path)


def alter_line(folder):
    path = folder / "trials" / "0001.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "{altered"]) + "\n")


def test_a_sound_study_is_left_as_it_is(study):
    before = snapshot(study)
    for repair in (False, True):
        answer = examined(study, repair)
        assert answer["sound"] and not answer["findings"] and not answer["notes"] and not answer["repaired"]
        assert snapshot(study) == before


def hollow_prediction(folder, **changes):
    """A whole file whose checksums are right, and whose content is not."""
    path = prediction(folder, True)
    save_checkpoint(path, "prediction", load_checkpoint(path, "prediction") | changes)


REPAIRED = {
    "prediction without numbers": (lambda s: hollow_prediction(s, log_probabilities=[1.0]), "holds no candidate's"),
    "prediction without weights": (lambda s: hollow_prediction(s, weights=3), "holds no candidate's"),
    "prediction": (lambda s: cut(prediction(s, True)), "damaged"),
    "short prediction": (lambda s: cut(prediction(s, False)), "damaged"),
    "misnamed prediction": (rename_prediction, "holds another candidate"),
    "chosen trial's hypernetwork": (
        lambda s: cut(s / "trials" / f"{best(s):04d}-hypernetwork.pt"),
        "copy it from hypernetwork/hypernetwork.pt",
    ),
    "chosen trial's hypernetwork altered": (lambda s: other_hypernetwork(s, best(s)), "is not its hypernetwork"),
    "chosen hypernetwork": (lambda s: cut(s / "hypernetwork" / "hypernetwork.pt"), "copy it from trials/"),
    "chosen hypernetwork gone": (lambda s: (s / "hypernetwork" / "hypernetwork.pt").unlink(), "is missing"),
    "altered line": (alter_line, "lines that are no records: "),
    "torn line": (lambda s: (s / "trials" / "0001.jsonl").open("a").write('{"step": 3'), "records: the last"),
    "config": (lambda s: cut(s / "config.json"), "write it anew from result.json"),
    "config gone": (lambda s: (s / "config.json").unlink(), "is missing"),
    "config altered": (lambda s: edit(s / "config.json", candidates=5), "candidates is 5, the study's 3"),
    "stages": (lambda s: cut(s / "stages.json"), "stages.json"),
    "stages below zero": (lambda s: edit(s / "stages.json", search=-1), "seconds of stages"),
    "environment of lists": (lambda s: edit(s / "environment.json", versions=[]), "does not hold an environment"),
    "stages without numbers": (lambda s: (s / "stages.json").write_text('{"search": "x"}'), "seconds of stages"),
    "environment": (lambda s: cut(s / "environment.json"), "environment.json"),
    "finalists": (lambda s: cut(s / "hypernetwork" / "finalists.json"), "finalists.json"),
    "genotype": (lambda s: cut(s / "search" / "genotype.json"), "write it anew from result.json"),
    "genotype gone": (lambda s: (s / "search" / "genotype.json").unlink(), "is missing"),
    "ensemble": (lambda s: cut(s / "ensemble" / "ensemble.pt"), "build it anew"),
    "ensemble gone": (lambda s: shutil.rmtree(s / "ensemble"), "build it anew"),
    "card": (lambda s: cut(s / "ensemble" / "card.json"), "write it anew from ensemble.pt"),
    "card altered": (lambda s: edit(s / "ensemble" / "card.json", device="tpu"), "is not the card"),
    "picture": (lambda s: cut(next((s / "artifacts").iterdir())), "was cut short"),
    "pictures gone": (lambda s: shutil.rmtree(s / "artifacts"), "'cell.svg' is missing, or was cut short"),
    "temporary": (lambda s: (s / "trials" / ".0000-hypernetwork.pt-ab12_xyz").write_text("x"), "half-written"),
    "new": (lambda s: (s / "hypernetwork" / "hypernetwork.pt.new").write_text("x"), "half-written"),
    "ray": (lambda s: (s / "ray" / "sweep-1").mkdir(parents=True), "was left by a driver"),
    "unfinished": (lambda s: prediction(s, True).with_suffix(".unfinished").write_text("x"), "finished later"),
}
REBUILT = {"config", "config gone", "ensemble gone", "genotype gone"}


@pytest.mark.parametrize("name", REPAIRED)
def test_damage_is_told_repaired_and_gone(study, name):
    damage, words = REPAIRED[name]
    damage(study)
    before = snapshot(study)
    found = examined(study)
    assert words in told(found["findings"])
    assert not found["sound"] and any(row["repairable"] for row in found["findings"])
    assert snapshot(study) == before, "without --repair nothing is touched"

    answer = examined(study, repair=True)
    assert answer["sound"] and answer["repaired"], answer
    for name, content in before.items():  # what is no longer there under its name is there under another
        kept = [path.read_bytes() for path in study.rglob("*") if path.is_file()]
        assert content in kept or "half-written" in words or "finished later" in words, name
    ensemble = Ensemble.load(study / "ensemble")
    result = finished(study, TRIALS)
    assert [network.genotype.digest for network in ensemble.networks] == [m["digest"] for m in result["members"]]


FOLDERS = ["test_reads.jsonl", "trials/0001.jsonl", "config.json", "ensemble/ensemble.pt", "trials.csv"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_in_a_files_place_is_set_aside(study, name):
    place = study / name
    place.unlink(missing_ok=True)
    place.mkdir()
    (place / "kept").write_text("x")
    assert f"{name} is a folder" in told(examined(study)["findings"])
    examined(study, repair=True)
    assert (study / f"{name}.damaged" / "kept").exists() and not place.is_dir()
    assert not examined(study, repair=True)["repaired"]


def test_a_folder_in_the_locks_place_is_told(study):
    (study / "driver.json").mkdir()
    assert "driver.json is a folder" in told(examined(study)["findings"])
    with pytest.raises(StudyError, match="remove what stands in its place"):
        Doctor(study=study, repair=True).run()


def test_a_file_in_a_folders_place_is_set_aside(study):
    shutil.rmtree(study / "search")
    (study / "search").write_text("x")
    assert "search is a file" in told(examined(study)["findings"])
    assert examined(study, repair=True)["sound"] and (study / "search" / "genotype.json").exists()


def test_a_file_of_others_is_not_damaged(study, monkeypatch):
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "result.json" and may(path, mode))  # root may all
    before = snapshot(study)
    answer = examined(study, repair=True)
    assert "result.json may not be read by you" in told(answer["findings"]) and not answer["repaired"]
    assert snapshot(study) == before


def test_a_pipe_is_not_waited_for(study):
    os.mkfifo(study / "driver.json")
    assert "neither a file nor a folder" in told(examined(study)["findings"])


def test_a_rebuilt_ensemble_is_the_one_that_was_damaged_and_reads_no_test_image(study, finished_study):
    cut(study / "ensemble" / "ensemble.pt")
    reads = (study / "test_reads.jsonl").read_bytes()
    assert examined(study, repair=True)["sound"]
    assert (study / "test_reads.jsonl").read_bytes() == reads
    mine, original = (Ensemble.load(folder / "ensemble") for folder in (study, finished_study))
    assert mine.card == original.card
    for one, other in zip(mine.state_dict().values(), original.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_without_the_data_a_damaged_ensemble_is_not_touched_and_the_repair_says_why(study):
    cut(study / "ensemble" / "ensemble.pt")
    edit(study / "config.json", dataset="/nowhere/blobs.npz")
    before = (study / "ensemble" / "ensemble.pt").read_bytes()
    answer = examined(study, repair=True)
    assert not answer["sound"]
    assert "/nowhere/blobs.npz does not exist" in answer["findings"][0]["failed"]
    assert (study / "ensemble" / "ensemble.pt").read_bytes() == before


def test_the_genotype_of_an_unfinished_study_is_read_off_its_logits(study):
    (study / "result.json").unlink()
    path = study / "search" / "genotype.json"
    genotype = Genotype.from_json(path.read_text())
    logits = one_hot_logits(genotype)
    save_checkpoint(study / "search" / "logits.pt", "logits", {"alpha": logits.alpha, "beta": logits.beta})
    cut(path)
    assert "search/logits.pt" in told(examined(study)["findings"])
    assert examined(study, repair=True)["sound"]
    assert Genotype.from_json(path.read_text()) == genotype


def test_a_finalist_without_a_hypernetwork_stays_a_finding(study):
    finalists = {finalist.number for finalist in open_saved(study).finalists()}
    other = (finalists - {best(study)}).pop()
    cut(study / "trials" / f"{other:04d}-hypernetwork.pt")
    answer = examined(study, repair=True)
    assert "no run ends without it" in told(answer["findings"]) and "missing" in told(answer["findings"])
    assert (study / "trials" / f"{other:04d}-hypernetwork.pt.damaged").exists()


def test_no_run_needs_the_hypernetwork_of_another_trial(study):
    finalists = {finalist.number for finalist in open_saved(study).finalists()}
    other = ({0, 1, 2} - finalists).pop()
    (study / "trials" / f"{other:04d}-hypernetwork.pt").unlink()
    answer = examined(study)
    assert answer["sound"] and "no run needs it" in told(answer["notes"])


def test_lost_steps_and_curves_are_told_and_cannot_be_repaired(study):
    path = study / "trials" / "0002.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[5:]) + "\n")
    (study / "trials" / "0000.jsonl").unlink()
    answer = examined(study, repair=True)
    assert "lacks steps of trial 2: 4, 5" in told(answer["findings"])
    assert "trial 0 is complete and has no curve" in told(answer["findings"])
    assert not answer["repaired"]


@pytest.mark.parametrize("trials, done", [(TRIALS - 1, True), (TRIALS, True), (TRIALS + 1, False)])
def test_a_study_is_finished_with_as_many_trials_as_asked_for(study, trials, done):
    assert (finished(study, trials) is not None) == done
    (study / "result.json").unlink()
    assert finished(study, trials) is None


def test_a_result_that_is_none_is_told_by_the_sweep(study):
    edit(study / "result.json", trials="3")
    with pytest.raises(CheckpointError, match=r"'3' is no int.*doctor"):
        finished(study, TRIALS)


def test_whole_lines_of_an_altered_curve_are_kept(study):
    before = read_curve(study / "trials" / "0001.jsonl")
    alter_line(study)
    examined(study, repair=True)
    assert read_curve(study / "trials" / "0001.jsonl") == before


def test_a_file_of_another_version_is_left_alone(study):
    path = prediction(study, False)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format": 99}, path)
    before = snapshot(study)
    answer = examined(study, repair=True)
    assert "format 99" in told(answer["findings"]) and "the version that wrote it reads it" in told(answer["findings"])
    assert snapshot(study) == before


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"trials": 7}, "it is of 7 trials, the study has 3"),
        ({"best_trial": {"number": 9, "value": 1.0, "params": {}}}, "best trial 9 is not complete"),
        ({"best_trial": {"number": 0, "value": 1.0, "params": {}}}, "another value or other parameters"),
    ],
)
def test_a_result_of_another_study_is_set_aside(study, changes, words):
    edit(study / "result.json", **changes)
    content = (study / "result.json").read_bytes()
    assert words in told(examined(study)["findings"])
    examined(study, repair=True)
    assert (study / "result.json.damaged").read_bytes() == content and not (study / "result.json").exists()


NONE = [{"config": []}, {"optimal": {}}, {"seconds": {"search": None}}, {"members": [{"seed": []}]}, {"baseline": None}]


@pytest.mark.parametrize("text", ["{", "[]", '{"trials": 3}', '{"trials": NaN}', *NONE])
def test_a_result_that_is_none_is_set_aside(study, text):
    if isinstance(text, dict):
        text = json.dumps({**json.loads((study / "result.json").read_text()), **text})
    (study / "result.json").write_text(text)
    assert "result.json" in told(examined(study)["findings"])
    answer = examined(study, repair=True)
    assert answer["sound"] and (study / "result.json.damaged").read_text() == text


@pytest.mark.parametrize("damage", ["middle", "text", "empty", "gone"])
def test_a_damaged_database_is_told_and_never_touched(study, damage):
    path = study / "study.db"
    content = bytearray(path.read_bytes())
    if damage == "middle":
        content[4096 * 3 : 4096 * 12] = b"x" * (4096 * 9)
    path.write_bytes({"middle": bytes(content), "text": b"no database" * 100, "empty": b"", "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    before = snapshot(study)
    answer = examined(study, repair=True)
    assert "study.db" in told(answer["findings"]) and "restore it from a backup" in told(answer["findings"])
    assert not answer["repaired"] and snapshot(study) == before


def test_set_aside_files_keep_each_other(study):
    path = prediction(study, False)
    contents_seen = []
    for k in range(3):
        path.write_bytes(f"damage {k}".encode())
        contents_seen.append(path.read_bytes())
        assert examined(study, repair=True)["sound"]
    aside = sorted(study.glob("predictions/*.damaged*"))
    assert sorted(p.read_bytes() for p in aside) == contents_seen
    assert "3 files set aside" in told(examined(study)["notes"])


def test_more_test_reads_than_results_are_noted(study):
    with open(study / "test_reads.jsonl", "a") as file:
        file.write('{"time": "now"}\n')
    answer = examined(study)
    assert answer["sound"] and "read 2 times for 1 result no damage" in told(answer["notes"])


def test_a_removed_test_read_is_told(study):
    (study / "test_reads.jsonl").unlink()
    assert "has 0 lines, and there were 1 when" in told(examined(study, repair=True)["findings"])


def test_a_folder_with_a_way_out_is_not_touched(study, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.pt").write_bytes(b"no checkpoint")
    (study / "predictions" / "inside").symlink_to(study / "result.json")
    assert examined(study)["sound"]
    (study / "more").symlink_to(outside)
    cut(study / "config.json")
    before = snapshot(study)
    answer = examined(study)
    assert "more is a link that leads out" in told(answer["findings"])
    with pytest.raises(StudyError, match="leads out"):
        examined(study, repair=True)
    assert os.listdir(outside) == ["precious.pt"] and snapshot(study) == before


class TestOrphans:
    @pytest.fixture
    def begun(self, tmp_path):
        return begun_study(tmp_path / "study").folder

    def newest(self, folder):
        return folder / "ray" / "sweep-1" / "trial-0-ab" / "checkpoint_000001"

    def test_they_are_no_damage(self, begun):
        answer = examined(begun)
        assert answer["sound"]
        assert "trial 0 is RUNNING without a driver" in told(answer["notes"])
        assert "goes on with it from step 2" in told(answer["notes"])
        assert "ray/" not in told(answer["notes"]), "the study is not finished"

    def test_a_damaged_checkpoint_gives_way_to_the_one_before(self, begun):
        cut(self.newest(begun) / "state.pt")
        answer = examined(begun)
        assert answer["sound"] and "goes on with it from step 1" in told(answer["notes"])

    def test_where_a_checkpoint_is_gone_the_one_before_is_noted(self, begun):
        shutil.rmtree(self.newest(begun))
        assert "checkpoint_000001 is gone" in told(examined(begun)["findings"])
        answer = examined(begun, repair=True)
        assert answer["sound"] and "from step 1" in told(answer["notes"])
        attributes = open_saved(begun).trials()[0].user_attrs
        assert attributes["checkpoint"] == "ray/sweep-1/trial-0-ab/checkpoint_000000"
        assert attributes["checkpoint_step"] == 1

    def test_where_all_are_gone_the_trial_begins_anew(self, begun):
        shutil.rmtree(begun / "ray")
        answer = examined(begun, repair=True)
        assert answer["sound"] and "begins it anew" in told(answer["notes"])

    def test_a_torn_line_of_a_running_trial_is_no_damage(self, begun):
        with open(begun / "trials" / "0000.jsonl", "a") as file:
            file.write('{"step": 3, "lo')
        assert examined(begun)["sound"]

    def test_an_enqueued_trial_is_told(self, tmp_path):
        folder = begin_study(tmp_path / "study").folder
        assert "enqueued and not begun: trial 0" in told(examined(folder)["notes"])


class TestDriver:
    @pytest.mark.e2e
    def test_a_dead_one_is_told_and_removed(self, study):
        gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
        record = {"host": socket.gethostname(), "pid": int(gone.stdout), "started": "2026-01-01T00:00:00+00:00"}
        (study / DRIVER).write_text(json.dumps(record))
        answer = examined(study)
        assert answer["sound"] and "no longer drives the study" in told(answer["notes"])
        answer = examined(study, repair=True)
        assert answer["sound"] and answer["repaired"] and not (study / DRIVER).exists()

    def test_a_living_one_is_not_disturbed(self, study):
        (study / "trials" / ".0000-hypernetwork.pt-ab12_xyz").write_text("being written")
        cut(prediction(study, True))
        with study_lock(study):
            answer = examined(study)
            assert answer["driven"] and "half-written" not in told(answer["findings"])
            assert "damaged" in told(answer["findings"])
            with pytest.raises(StudyError, match="is already driven by"):
                examined(study, repair=True)


def test_no_study_is_an_error(tmp_path):
    with pytest.raises(StudyError, match="there is no study"):
        examined(tmp_path / "nothing")
    with pytest.raises(StudyError, match="none of a study's files"):
        examined(tmp_path)


def test_a_study_kept_elsewhere_is_examined_there(study, tmp_path):
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    own = f"sqlite:///{study / 'study.db'}"
    optuna.copy_study(from_study_name="anneal", from_storage=own, to_storage=storage, to_study_name="study")
    (study / "study.db").unlink()
    assert examined(study, storage=storage)["sound"]
    assert "is missing: give --storage" in told(examined(study)["findings"])
    assert "holds no study" in told(examined(study.rename(tmp_path / "other"), storage=storage)["findings"])


def test_the_digest_of_a_copied_hypernetwork_is_the_cards(study):
    cut(study / "hypernetwork" / "hypernetwork.pt")
    examined(study, repair=True)
    card = json.loads((study / "ensemble" / "card.json").read_text())
    assert file_digest(study / "hypernetwork" / "hypernetwork.pt") == card["hypernetwork"]
