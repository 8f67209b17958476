"""Files of a study beyond its folder, on a shared folder and on a server of the S3 protocol."""

from pathlib import Path

import numpy as np
import pytest

from edgenes.errors import ConfigError, WriteError
from edgenes.methods.trainer import LocalTrainer, Member
from tests.tune_jobs.files.test_artifact_store import DATA, OPTIMAL, TRAINING, stop_after
from tune_jobs.errors import StudyError
from tune_jobs.files.artifact_store import ArtifactStore
from tune_jobs.files.stored_trainer import StoredTrainer, candidate_key, has_weights
from tune_jobs.files.study_files import Remote, StudyFiles, join_remote

STUDY = "0123456789abcdef"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.e2e)])
def url(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "shared %20folder")
    return request.getfixturevalue("s3_url").replace("/prefix", f"/{tmp_path.name}")


@pytest.fixture
def remote(url):
    return join_remote(url, "study", STUDY)


class TestRemote:
    def test_what_is_written_is_read_listed_and_removed(self, remote):
        assert remote.read("a/b.txt") is None and remote.entries("a") == []
        remote.write("a/b.txt", b"one")
        remote.write("a/c/d.txt", b"")
        remote.write("a/b.txt", b"two")
        assert remote.read("a/b.txt") == b"two" and remote.read("a/c/d.txt") == b""
        assert remote.entries("a") == ["a/b.txt", "a/c"]
        assert remote.name_of(remote.path("a/c")) == "a/c"
        remote.remove("a/c")
        remote.remove("a/c")
        assert remote.entries("a") == ["a/b.txt"]
        remote.remove("a")
        assert remote.entries("a") == []

    @pytest.mark.parametrize("name", ["", "..", "a/../../other", "/etc", "a/b.txt", "nothing"])
    def test_only_a_folder_of_its_own_is_held(self, remote, name):
        remote.write("a/b.txt", b"")
        assert remote.holds("a") and not remote.holds(name)

    def test_another_studys_files_are_not_taken_for_this_ones(self, url, remote):
        assert join_remote(url, "study", STUDY) == remote
        with pytest.raises(StudyError, match="already holds another study's study: give another"):
            join_remote(url, "study", "fedcba9876543210")
        with pytest.raises(StudyError, match="which no study was given"):
            join_remote(url, "another", "../../x")  # it names a folder on each node
        join_remote(url, "other", "fedcba9876543210")


@pytest.mark.parametrize("url", ["ftp://host/x", "s3//bucket", "s3://b/p?no_such_option=1"])
def test_what_is_no_file_system_is_refused(url):
    with pytest.raises(ConfigError, match="--storage-path must be an absolute folder, or a URL"):
        join_remote(url, "study", STUDY)


def test_what_cannot_be_written_is_the_storages_fault(tmp_path, s3_url):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="Check --storage-path and the credentials"):
        join_remote(str(tmp_path / "file"), "study", STUDY)
    with pytest.raises(WriteError, match="run the same command again"):
        Remote(str(tmp_path / "file")).write("a", b"")
    gone = s3_url.replace("s3://studies", "s3://no-such-bucket")
    with pytest.raises(StudyError, match="no-such-bucket"):
        join_remote(gone, "study", STUDY)


class TestStoreOfTwoNodes:
    """Beyond the conformance suite of the store, which has a shared folder: an S3 server too, and races."""

    @pytest.fixture
    def nodes(self, remote, tmp_path):
        stores = [ArtifactStore(StudyFiles(tmp_path / name, remote)) for name in ("one", "two")]
        return [StoredTrainer(DATA, store) for store in stores]

    def test_weights_that_one_has_added_the_other_finds(self, nodes):
        for node in nodes:  # a copy without weights on each
            StoredTrainer(DATA, node.store, weights=False).candidate(TRAINING, OPTIMAL)
        nodes[0].candidate(TRAINING, OPTIMAL)
        found = nodes[1].candidate(TRAINING, OPTIMAL)
        assert found.cached and has_weights(found.value)

    def test_a_training_that_lost_its_node_continues_at_the_other(self, nodes, remote, monkeypatch):
        saved = stop_after(monkeypatch, 2)  # before the second epoch is published
        with pytest.raises(KeyboardInterrupt):
            nodes[0].candidate(TRAINING, OPTIMAL)
        unfinished = f"predictions/{candidate_key(TRAINING, DATA, OPTIMAL)}.unfinished"
        assert remote.read(unfinished) is not None
        found = nodes[1].candidate(TRAINING, OPTIMAL)
        assert saved == [0, 1, 1, None] and remote.read(unfinished) is None
        expected = LocalTrainer(DATA).retrain([Member(OPTIMAL, TRAINING)])[0].probabilities
        assert np.array_equal(found.value.probabilities, expected)


class TestStudyFiles:
    def test_a_file_is_fetched_when_it_is_not_here_or_should_be_fresh(self, remote, tmp_path):
        one, two = StudyFiles(tmp_path / "one", remote), StudyFiles(tmp_path / "two", remote)
        assert not one.fetch("a/b").exists()
        (tmp_path / "one" / "a").mkdir(parents=True)
        (tmp_path / "one" / "a" / "b").write_bytes(b"1")
        one.publish("a/b")
        assert two.fetch("a/b").read_bytes() == b"1"
        (tmp_path / "one" / "a" / "b").write_bytes(b"2")
        one.publish("a/b")
        assert two.fetch("a/b").read_bytes() == b"1" and two.fetch("a/b", fresh=True).read_bytes() == b"2"
        three = StudyFiles(tmp_path / "three", remote)
        three.fetch_all("a", "b")
        assert (tmp_path / "three" / "a" / "b").read_bytes() == b"2"
        two.forget("a/b")
        assert not two.fetch("a/b").exists() and (tmp_path / "one" / "a" / "b").exists()

    def test_without_a_remote_they_are_the_folders(self, tmp_path):
        files = StudyFiles(tmp_path)
        assert files.on_this_node() == files and files.fetch("a") == tmp_path / "a"
        files.publish("a")
        files.fetch_all("a", ".pt")
        assert Path(files.shared.path()) == tmp_path

    def test_a_worker_has_a_folder_of_its_own_which_no_other_user_reads(self, remote, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        here = StudyFiles(tmp_path / "driver", remote).on_this_node()
        assert here.folder.is_dir() and here.folder.is_relative_to(tmp_path) and here.remote == remote
        here.folder.parent.chmod(0o755)
        with pytest.raises(StudyError, match="this user's alone"):
            StudyFiles(tmp_path / "driver", remote).on_this_node()
