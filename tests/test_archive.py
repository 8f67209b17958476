"""A study in one file: it arrives whole, and a stranger's archive writes nothing outside."""

import io
import json
import os
import shutil
import tarfile

import pytest
from tiny_study import begin_study, finish_study, run_trials

from edgenes import Ensemble
from edgenes.errors import CheckpointError, StudyError
from tune_jobs.saved import open_saved
from tune_jobs.tools.archive import MANIFEST, Export, Import
from tune_jobs.tools.clean import Clean
from tune_jobs.tools.doctor import Doctor
from tune_jobs.tools.status import Status


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "study"
    saved = begin_study(folder)
    run_trials(saved)
    finish_study(saved)
    return folder


@pytest.fixture(scope="module")
def archive(finished):
    path = finished.parent / "study.tar"
    Export(study=finished, archive=path).run()
    return path


def test_a_study_arrives_whole_and_goes_on_there(finished, archive, tmp_path):
    target = tmp_path / "elsewhere"
    Import(archive=archive, folder=target).run()
    mine, theirs = open_saved(target), open_saved(finished)
    assert [t.params for t in mine.study.trials] == [t.params for t in theirs.study.trials]
    assert [t.values for t in mine.study.trials] == [t.values for t in theirs.study.trials]
    assert (target / "result.json").read_bytes() == (finished / "result.json").read_bytes()
    Ensemble.load(target / "ensemble")
    predictions = sorted(path.name for path in (finished / "predictions").glob("*.pt"))
    assert sorted(path.name for path in (target / "predictions").glob("*.pt")) == predictions
    with tarfile.open(archive) as tar:
        assert all(member.isfile() and not member.name.startswith(("/", ".")) for member in tar)
    with pytest.raises(StudyError, match="not an empty folder"):
        Import(archive=archive, folder=target).run()


def member(name, content=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


HOSTILE = {
    "parent": [member("../escaped")],
    "parent inside": [member("trials/../../escaped")],
    "absolute": [member("/tmp/escaped-absolute")],
    "link": [member("out", b"", type=tarfile.SYMTYPE, linkname=".."), member("out/escaped")],
    "hard link": [member("out", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "device": [member("zero", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "pipe": [member("pipe", b"", type=tarfile.FIFOTYPE)],
    "twice": [member("config.json"), member("config.json", b"y")],
    "huge": [member("study.db", b"x", size=8**11 - 1)],
    "no manifest": [member("config.json", b"{}")],
    "unknown to the manifest": [member("config.json", b"{}"), member(MANIFEST, b'{"files": {}}')],
    "no manifest of ours": [member(MANIFEST, b"[" * 10**5)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_archive_is_refused_and_writes_nothing(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = tmp_path / "hostile.tar"
    with open(path, "wb") as file:
        for info, content in HOSTILE[name]:
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            file.write(content + bytes(-len(content) % 512))
        file.write(bytes(1024))
    with pytest.raises((CheckpointError, StudyError)):
        Import(archive=path, folder=inside / "study").run()
    assert sorted(os.listdir(tmp_path)) == ["hostile.tar", "inside"] and os.listdir(inside) == []
    assert not os.path.exists("/tmp/escaped-absolute")


def test_a_damaged_archive_is_refused_and_leaves_nothing(archive, tmp_path):
    content = archive.read_bytes()
    with tarfile.open(archive) as tar:
        place = tar.getmember("result.json").offset_data
    flipped = bytearray(content)
    flipped[place + 20] ^= 1
    for number, damaged in enumerate((content[: len(content) // 2], bytes(flipped), b"no tar file", b"")):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            Import(archive=path, folder=tmp_path / "study").run()
        assert not (tmp_path / "study").exists()


def test_a_database_that_is_not_the_manifests_is_refused(archive, tmp_path):
    path = tmp_path / "other.tar"
    with tarfile.open(archive) as old, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as new:
        for info in old:
            content = old.extractfile(info).read()
            if info.name == "study.db":
                content = content[:-1] + bytes([content[-1] ^ 1])
            new.addfile(info, io.BytesIO(content))
    with pytest.raises(CheckpointError, match=r"study\.db has changed"):
        Import(archive=path, folder=tmp_path / "study").run()


def test_clean_shrinks_a_finished_study_to_one_that_is_sound(finished, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)
    (folder / "ray" / "sweep-1").mkdir(parents=True)
    (folder / "ray" / "sweep-1" / "big").write_bytes(bytes(10**5))
    answer = Clean(study=folder).run()
    assert not (folder / "ray").exists() and answer
    assert Doctor(study=folder).run()["sound"]
    Ensemble.load(folder / "ensemble")
    assert (folder / "report").exists() == (finished / "report").exists()
    assert json.loads((folder / "result.json").read_text()) == json.loads((finished / "result.json").read_text())


def test_clean_refuses_a_study_that_is_not_finished(tmp_path):
    saved = begin_study(tmp_path / "study")
    run_trials(saved, stop_after=2)
    with pytest.raises(StudyError):
        Clean(study=saved.folder).run()


def test_status_tells_how_far_it_is(finished, tmp_path):
    done = Status(study=finished).run()
    assert done["finished"] and done["test_reads"] == 1
    json.dumps(done, allow_nan=False)
    saved = begin_study(tmp_path / "study")
    run_trials(saved, stop_after=2)
    begun = Status(study=saved.folder).run()
    assert not begun["finished"] and "1 running" in Status(study=saved.folder).text(begun).lower()
