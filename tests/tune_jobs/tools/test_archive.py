"""A study in one file: it arrives whole, and a stranger's archive writes nothing outside."""

import gzip
import io
import json
import os
import shlex
import shutil
import sqlite3
import tarfile

import optuna
import pytest
from optuna_dashboard import get_note, save_note

from edgenes import Ensemble
from edgenes.checkpoint import load_checkpoint
from edgenes.errors import CheckpointError
from tests.support.tiny_study import begun_study, run_trials
from tune_jobs.cli import parsed
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.lease import study_lock
from tune_jobs.study.saved import open_saved
from tune_jobs.study.storage import storage_from
from tune_jobs.tools.commands import Doctor, Export, Import
from tune_jobs.tools.export_study import MANIFEST
from tune_jobs.tools.import_study import command_line


@pytest.fixture(scope="module")
def archive(finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "study.tar"
    Export(study=finished, archive=path).run()
    return path


def test_a_study_arrives_whole_and_its_text_shows_what_is_elsewhere(finished, archive, tmp_path):
    target = tmp_path / "elsewhere"
    command = Import(archive=archive, folder=target)
    answer = command.run()
    assert answer["paths"] == [{"option": "--dataset", "value": str(finished / "blobs.npz"), "found": True}]
    assert answer["elsewhere"] == [] and "--dataset" in command.text(answer)
    assert answer["command"] in command.text(answer)
    mine, theirs = open_saved(target), open_saved(finished)
    assert [t.params for t in mine.study.trials] == [t.params for t in theirs.study.trials]
    assert [t.values for t in mine.study.trials] == [t.values for t in theirs.study.trials]
    assert (target / "result.json").read_bytes() == (finished / "result.json").read_bytes()
    Ensemble.load(target / "ensemble")
    predictions = sorted(path.name for path in (finished / "predictions").glob("*.pt"))
    assert sorted(path.name for path in (target / "predictions").glob("*.pt")) == predictions
    with tarfile.open(archive) as tar:
        assert all(member.isfile() and not member.name.startswith(("/", ".")) for member in tar)


def test_data_that_lie_elsewhere_are_noted_on_arrival_if_they_are_the_studys(finished, archive, tmp_path):
    here = shutil.copyfile(finished / "blobs.npz", tmp_path / "other.npz")
    answer = Import(archive=archive, folder=tmp_path / "a", dataset=str(here)).run()
    assert answer["paths"][0]["value"] == open_saved(tmp_path / "a").config.data.dataset == str(here)
    assert f"--dataset {here}" in answer["command"]
    with pytest.raises(StudyError, match="is not the study's"):
        Import(archive=archive, folder=tmp_path / "b", dataset="digits").run()
    assert not (tmp_path / "b").exists()


def member(name, content=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


HOSTILE = {
    "parent": [member("../escaped")],
    "link": [member("out", b"", type=tarfile.SYMTYPE, linkname=".."), member("out/escaped")],
    "no manifest": [member("config.json", b"{}")],
    "unknown to the manifest": [member("config.json", b"{}"), member(MANIFEST, b'{"files": {}}')],
}


def altered(archive, target, name, change):
    """A copy of the archive whose file `name` has another content."""
    with tarfile.open(archive) as old, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new:
        for info in old:
            content = old.extractfile(info).read()
            if info.name == name:
                content = change(content)
                info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    return target


@pytest.mark.parametrize(
    "name, change, match",
    [
        ("study.db", lambda content: content[:-1] + bytes([content[-1] ^ 1]), r"study\.db has changed"),
        *(
            (MANIFEST, lambda content, part=part: json.dumps({**json.loads(content), **part}).encode(), MANIFEST)
            for part in ({"files": []}, {"created": 3}, {"kind": "another"})
        ),
        (MANIFEST, lambda content: content.replace(b'"format": 1', b'"format": 2'), "format 2"),
    ],
)
def test_an_altered_archive_is_refused(archive, tmp_path, name, change, match):
    path = altered(archive, tmp_path / "altered.tar", name, change)
    with pytest.raises(CheckpointError, match=match):
        Import(archive=path, folder=tmp_path / "arrived").run()
    assert os.listdir(tmp_path) == ["altered.tar"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_archive_is_refused_and_writes_nothing(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for info, content in HOSTILE[name]:
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises((CheckpointError, StudyError)):
        Import(archive=path, folder=inside / "study").run()
    assert sorted(os.listdir(tmp_path)) == ["hostile.tar", "inside"] and os.listdir(inside) == []


def test_a_damaged_archive_is_refused_and_leaves_nothing(archive, tmp_path):
    content = archive.read_bytes()
    cut = [content[:length] for length in (0, len(content) // 2, content.rindex(MANIFEST.encode()))]
    for number, damaged in enumerate((*cut, b"no tar file", gzip.compress(content))):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            Import(archive=path, folder=tmp_path / "study").run()
        assert not (tmp_path / "study").exists()


def test_a_full_folder_and_a_link_are_no_new_folder(finished, archive, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for target in (finished, tmp_path / "link"):
        with pytest.raises(StudyError, match="not an empty folder"):
            Import(archive=archive, folder=target).run()
    assert os.listdir(tmp_path / "elsewhere") == []


def test_an_existing_file_and_one_in_the_study_are_refused(finished, archive, tmp_path):
    content = archive.read_bytes()
    for path, words in (
        (archive, "not overwritten"),
        (finished / "x.tar", "lies in the study"),
        (tmp_path / "a/b", "cannot be packed"),
    ):
        with pytest.raises(StudyError, match=words):
            Export(study=finished, archive=path).run()
    assert archive.read_bytes() == content


def test_leftovers_and_locks_stay_behind(study, tmp_path):
    left = [
        *("predictions/a.lock", "trials/.0000.jsonl.pt-ab12_xyz", "config.json.damaged"),
        *("ray/sweep-1/x", "mlflow/mlflow.db", "driver.json"),
    ]
    for name in left:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_text("{}")
    (study / "notes.txt").write_text("the user's")
    (study / "inner").symlink_to("notes.txt")
    answer = Export(study=study, archive=tmp_path / "study.tar").run()
    assert answer["left_out"] == ["inner: no regular file", "mlflow/mlflow.db: MLflow's own database is not exported"]
    with tarfile.open(tmp_path / "study.tar") as tar:
        names = tar.getnames()
    assert not {*left, "inner", "driver.lock"} & {*names} and "notes.txt" in names
    assert {f"artifacts/{path.name}" for path in (study / "artifacts").iterdir()} <= {*names}


class TestBegun:
    """A study whose driver died in its first trial."""

    @pytest.fixture
    def begun(self, tmp_path):
        saved = begun_study(tmp_path / "study")
        (saved.folder / "ray" / "sweep-1" / "tuner.pkl").write_text("Ray's")
        return saved

    def test_the_checkpoints_of_an_orphan_travel_and_it_goes_on_from_them(self, begun, tmp_path):
        Export(study=begun.folder, archive=tmp_path / "a.tar").run()
        target = tmp_path / "elsewhere"
        answer = Import(archive=tmp_path / "a.tar", folder=target).run()
        assert answer["trials"]["RUNNING"] == 1
        saved = open_saved(target)
        [orphan] = saved.trials()
        assert load_checkpoint(target / orphan.user_attrs["checkpoint"] / "state.pt", "trial") == {"epoch": 1}
        assert sorted(path.name for path in (target / "ray").rglob("*") if path.is_file()) == ["state.pt"] * 2
        shutil.rmtree(target / "ray")  # which holds no real states
        run_trials(saved)
        assert [trial.state.name for trial in saved.trials()] == ["COMPLETE"] * 2

    def test_a_driver_may_be_writing(self, begun, tmp_path):
        with study_lock(begun.folder), sqlite3.connect(begun.folder / "study.db") as driver:
            driver.execute("BEGIN IMMEDIATE")
            driver.execute("UPDATE studies SET study_name = 'being written'")
            Export(study=begun.folder, archive=tmp_path / "a.tar").run()
            driver.rollback()
        Import(archive=tmp_path / "a.tar", folder=tmp_path / "elsewhere").run()
        assert not (tmp_path / "elsewhere" / "driver.json").exists()

    @pytest.mark.parametrize("kind", ["sqlite:///{}/shared.db", "journal:{}/shared.log"])
    def test_a_study_kept_elsewhere_comes_into_the_folder(self, begun, tmp_path, kind):
        storage, own = kind.format(tmp_path), f"sqlite:///{begun.folder / 'study.db'}"
        shared = storage_from(storage)
        optuna.create_study(study_name="another", storage=shared).ask()  # so that ids are others than in a file alone
        optuna.copy_study(from_study_name="anneal", from_storage=own, to_storage=shared, to_study_name="study")
        there = optuna.load_study(study_name="study", storage=shared)
        save_note(optuna.Trial(there, there.trials[0]._trial_id), "the note")
        (begun.folder / "study.db").unlink()
        Export(study=begun.folder, archive=tmp_path / "a.tar", storage=storage).run()
        Import(archive=tmp_path / "a.tar", folder=tmp_path / "elsewhere").run()
        mine, theirs = open_saved(tmp_path / "elsewhere"), open_saved(begun.folder, storage)
        assert mine.study.study_name == "anneal"
        for one, other in zip(mine.trials(), theirs.trials(), strict=True):
            assert one.state == other.state and one.params == other.params and one.user_attrs == other.user_attrs
            assert one.system_attrs == other.system_attrs and one.intermediate_values == other.intermediate_values
        assert mine.study.user_attrs == theirs.study.user_attrs
        assert get_note(optuna.Trial(mine.study, mine.trials()[0]._trial_id)) == "the note"
        for options in ({"study": tmp_path / "elsewhere"}, {"study": begun.folder, "storage": storage}):
            assert Doctor(**options).run()["sound"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"smoke_test": True, "sampler": "random", "root": "data", "download": True, "flip": False, "log": ("mlflow",)},
        {"dataset": "a folder/with 'quotes'", "objectives": ("value", "control"), "flip": True, "gpus_per_trial": 0.5},
        {"estimator": "both", "prune_infeasible": True, "baselines": False, "seed": 7, "optimal": "my genotype.json"},
    ],
)
def test_the_command_that_goes_on_has_the_studys_settings(changes, tmp_path):
    config = SweepConfig.of(**changes)
    words = shlex.split(command_line(config, tmp_path))
    read = parsed(SweepConfig, words[2:])
    assert read.folder == tmp_path
    left = {"out", "smoke_test"}
    plain = [{k: v for k, v in c.to_dict().items() if k not in left} for c in (config, read)]
    assert plain[0] == plain[1]
