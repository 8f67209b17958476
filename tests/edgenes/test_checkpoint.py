"""Files are whole or refused: every damage that was tried, and disks that are full."""

import resource
import zipfile

import pytest
import torch

from edgenes.checkpoint import load_checkpoint, read_json, save_checkpoint, write_atomically, write_json
from edgenes.errors import CheckpointError, FormatError, WriteError
from tests.support.toys import assert_same

STATE = {"epoch": 3, "weights": {"a": torch.arange(12.0).view(3, 4), "b": torch.ones(5, dtype=torch.long)}, "rate": 0.1}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "state.pt"
    save_checkpoint(path, "trial", STATE)
    return path


def test_what_is_saved_is_loaded(path):
    assert_same(load_checkpoint(path, "trial"), STATE)
    save_checkpoint(path, "trial", {"epoch": 4})
    assert load_checkpoint(path, "trial") == {"epoch": 4}
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_flipped_byte_is_refused_unless_it_carries_nothing(path):
    """Padding, dates and the like may change; then the content has to be the same."""
    content = path.read_bytes()
    data = torch.arange(12.0).numpy().tobytes()
    tensor = range(content.index(data), content.index(data) + len(data))
    refused = []
    for position in sorted({*range(0, len(content), 19), *tensor}):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            loaded = load_checkpoint(path, "trial")
        except CheckpointError as error:
            assert path.name in str(error)
            refused.append(position)
        else:
            assert_same(loaded, STATE)
    assert set(tensor) < set(refused)


def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"'trial'.*'hypernetwork'"):
        load_checkpoint(path, "hypernetwork")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="'list'"):
        load_checkpoint(path, "trial")
    torch.save({"kind": "trial", "format": 2}, path)
    with pytest.raises(FormatError, match="format 2"):
        load_checkpoint(path, "trial")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(CheckpointError, match=path.name):
        load_checkpoint(path, "trial")
    for missing in (tmp_path / "nowhere.pt", tmp_path):
        with pytest.raises(CheckpointError, match="missing"):
            load_checkpoint(missing, "trial")


def test_a_folder_that_cannot_be_written_leaves_the_old_file(path):
    """A file stands where the folder should be: refused for root too, whom permissions do not stop."""
    with pytest.raises(CheckpointError, match=r"cannot write .*inside\.pt"):
        save_checkpoint(path / "inside.pt", "trial", STATE)
    assert_same(load_checkpoint(path, "trial"), STATE)


@pytest.fixture
def small_files():
    """A write beyond 20,000 bytes of a file is an OSError, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_files_whole_and_no_rubbish(path, small_files):
    write_json(path.with_suffix(".json"), {"epoch": 3})
    for write in (
        lambda: save_checkpoint(path, "trial", {"weights": torch.ones(5_000)}),
        lambda: save_checkpoint(path, "trial", {"weights": torch.ones(200_000)}),
        lambda: write_json(path.with_suffix(".json"), list(range(5_000))),
    ):
        with pytest.raises(WriteError, match=r"cannot write .*state\..*File too large.*was there before is untouched"):
            write()
    assert_same(load_checkpoint(path, "trial"), STATE)
    assert read_json(path.with_suffix(".json")) == {"epoch": 3}
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.json", "state.pt"]


def test_an_interrupted_write_leaves_the_old_file_whole_and_no_rubbish(path):
    def write(file):
        file.write(b"half of")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert_same(load_checkpoint(path, "trial"), STATE)
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


def test_text_and_json_are_read_back_or_named(tmp_path):
    path = tmp_path / "made" / "on" / "demand" / "result.json"
    write_json(path, {"é": [1, 2.5, None]})
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == {"é": [1, 2.5, None]}
    for content, word in ((b'{"epoch": ', "JSON"), (b"\xff\xfe\x00", "text")):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"result\.json .*{word}"):
            read_json(path)
    with pytest.raises(CheckpointError, match="missing"):
        read_json(tmp_path / "nowhere.json")
