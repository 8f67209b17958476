"""Files of a study beyond its folder, on a shared folder and on a server of the S3 protocol."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgenes.errors import ConfigError, WriteError
from tests.tune_jobs.files.test_candidate_store import CONFIG, DATA, GENOTYPE, assert_same
from tune_jobs.errors import StudyError
from tune_jobs.files.candidate_store import PredictionStore
from tune_jobs.files.lease import claimed
from tune_jobs.files.study_files import Remote, StudyFiles, join_remote

STUDY = "0123456789abcdef"


@pytest.fixture(params=["folder", "s3"])
def url(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "shared %20folder")
    return request.getfixturevalue("s3_url").replace("/prefix", f"/{tmp_path.name}")


@pytest.fixture
def remote(url):
    return join_remote(url, "study", STUDY)


class TestRemote:
    def test_what_is_written_is_read_listed_and_removed(self, remote):
        assert remote.read("a/b.txt") is None and remote.entries("a") == [] and remote.modified("a/b.txt") is None
        remote.write("a/b.txt", b"one")
        before = remote.modified("a/b.txt")
        remote.write("a/c/d.txt", b"")
        remote.write("a/b.txt", b"two")
        assert remote.read("a/b.txt") == b"two" and remote.read("a/c/d.txt") == b""
        assert remote.entries("a") == ["a/b.txt", "a/c"] and remote.exists("a/b.txt") and not remote.exists("a/c")
        assert abs(time.time() - before / 1e9) < 60 and remote.modified("a/b.txt") >= before
        assert remote.below("a").read("b.txt") == b"two"
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


def test_a_link_that_leads_out_of_a_shared_folder_is_not_held(tmp_path):
    (tmp_path / "outside").mkdir()
    remote = join_remote(str(tmp_path / "shared"), "study", STUDY)
    (tmp_path / "shared" / "study" / "link").symlink_to(tmp_path / "outside")
    assert not remote.holds("link")


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


@pytest.fixture
def nodes(remote, tmp_path):
    """The stores of two nodes, each with a folder of its own."""
    return [PredictionStore(StudyFiles(tmp_path / name, remote.below("predictions"))) for name in ("one", "two")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return PredictionStore(tmp_path_factory.mktemp("alone")).retrained(CONFIG, DATA, GENOTYPE, weights=True)


class TestStoreOfTwoNodes:
    def test_what_one_has_retrained_the_other_finds(self, nodes, reference):
        first = nodes[0].retrained(CONFIG, DATA, GENOTYPE)
        second = nodes[1].retrained(CONFIG, DATA, GENOTYPE)
        assert not first.cached and second.cached
        assert np.array_equal(second.log_probabilities, reference.log_probabilities) and second.weights is None

    def test_weights_that_one_has_added_the_other_finds(self, nodes, reference):
        nodes[0].retrained(CONFIG, DATA, GENOTYPE)
        nodes[1].retrained(CONFIG, DATA, GENOTYPE)  # a copy without weights
        nodes[0].retrained(CONFIG, DATA, GENOTYPE, weights=True)
        found = nodes[1].find(reference.key, weights=True)
        assert found is not None
        assert_same(found, reference)

    def test_at_once_only_one_trains(self, nodes, monkeypatch):
        trained = []
        real = PredictionStore._train
        monkeypatch.setattr(PredictionStore, "_train", lambda self, *args: trained.append(self) or real(self, *args))
        threads = [threading.Thread(target=node.retrained, args=(CONFIG, DATA, GENOTYPE)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(trained) == 1

    def test_a_damaged_one_is_set_aside_and_computed_again(self, nodes, remote, reference, caplog):
        remote.write(f"predictions/{reference.key}.pt", b"damaged")
        assert nodes[0].find(reference.key) is None and "set aside" in caplog.text
        assert nodes[1].find(reference.key) is None
        assert_same(nodes[0].retrained(CONFIG, DATA, GENOTYPE, weights=True), reference)
        assert nodes[1].retrained(CONFIG, DATA, GENOTYPE, weights=True).cached

    def test_a_training_that_lost_its_node_goes_on_at_the_other(self, nodes, remote, reference, monkeypatch):
        import tune_jobs.files.candidate_store as store

        real, steps = store.train_network, []

        def train(*args, report, **options):
            def counting(epoch, metrics, state):
                steps.append(epoch)
                report(epoch, metrics, state)
                if len(steps) == 1:
                    raise KeyboardInterrupt

            return real(*args, report=counting, **options)

        monkeypatch.setattr(store, "SAVE_EVERY", 0)
        monkeypatch.setattr(store, "train_network", train)
        with pytest.raises(KeyboardInterrupt):
            nodes[0].retrained(CONFIG, DATA, GENOTYPE, weights=True)
        assert remote.exists(f"predictions/{reference.key}.unfinished")
        assert_same(nodes[1].retrained(CONFIG, DATA, GENOTYPE, weights=True), reference)
        assert steps == list(range(CONFIG.epochs))
        assert not remote.exists(f"predictions/{reference.key}.unfinished")


class TestClaim:
    def test_a_holder_that_dies_is_succeeded_and_one_that_lives_is_waited_for(self, remote):
        remote.write("claim", b"of one that died")
        order = []

        def hold(name, seconds):
            with claimed(remote, "claim", stale=2.0):
                order.append(f"{name} in")
                time.sleep(seconds)
                order.append(f"{name} out")

        start = time.monotonic()
        first = threading.Thread(target=hold, args=("first", 4.0))  # longer than a claim lives without its holder
        first.start()
        while "first in" not in order:
            time.sleep(0.05)
        assert time.monotonic() - start > 1.5
        hold("second", 0)
        first.join()
        assert order == ["first in", "first out", "second in", "second out"]
        assert not remote.exists("claim")


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
        three.fetch_all("a")
        assert (tmp_path / "three" / "a" / "b").read_bytes() == b"2"
        two.forget("a/b")
        assert not two.fetch("a/b").exists() and (tmp_path / "one" / "a" / "b").exists()

    def test_without_a_remote_they_are_the_folders(self, tmp_path):
        files = StudyFiles(tmp_path)
        assert files.on_this_node() == files and files.fetch("a") == tmp_path / "a"
        files.publish("a")
        files.fetch_all("a")
        assert Path(files.shared.path()) == tmp_path

    def test_a_worker_has_a_folder_of_its_own_which_no_other_user_reads(self, remote, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        here = StudyFiles(tmp_path / "driver", remote).on_this_node()
        assert here.folder.is_dir() and here.folder.is_relative_to(tmp_path) and here.remote == remote
        here.folder.parent.chmod(0o755)
        with pytest.raises(StudyError, match="this user's alone"):
            StudyFiles(tmp_path / "driver", remote).on_this_node()
