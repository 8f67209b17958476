"""Files that are no `.npz`, and arrays under other names."""

import gzip
import pickle

import numpy as np
import pytest

from edgenes.data.loading import load_data
from edgenes.errors import DataError


def arrays():
    rng, labels = np.random.default_rng(0), np.arange(40)[:, None] % 2
    return {
        "train_images": rng.integers(0, 256, (40, 8, 8), dtype=np.uint8),
        "val_images": rng.integers(0, 256, (10, 8, 8), dtype=np.uint8),
        "test_images": rng.integers(0, 256, (20, 8, 8), dtype=np.uint8),
        **{"train_labels": labels, "val_labels": labels[:10], "test_labels": labels[:20]},
    }


def test_medmnists_names_are_known(tmp_path, caplog):
    held = arrays()
    np.savez(tmp_path / "some.npz", **held)
    data = load_data(tmp_path / "some.npz")
    assert len(data.training) + len(data.validation) == 50
    assert np.array_equal(data.test.images[:, 0], held["test_images"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    np.savez(tmp_path / "some.npz", **held | {"val_images": np.zeros((10, 9, 9), np.uint8)})
    with pytest.raises(DataError, match="val_images"):
        load_data(tmp_path / "some.npz")


FILES = {
    "digits.csv": (b"label,pixel0,pixel1\n5,0,0\n" * 500, "CSV"),
    "digits.npz": (b"5;0;0\n5;0;0\n", "CSV"),
    "digits.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "digits.pkl": (pickle.dumps({"x": [1]}), "pickle"),
    "data_batch_1": (pickle.dumps({"x": [1]}, protocol=2), "pickle"),
    "old.pickle": (pickle.dumps({"x": [1]}, protocol=0), "pickle"),
    "digits.npy": (b"\x93NUMPY\x01\0" + bytes(100), "numpy.save"),
    "digits.csv.gz": (gzip.compress(b"1,2"), "gzip"),
    "digits.json": (b'{"x": [1, 2]}', "JSON"),
    "digits.parquet": (b"PAR1" + bytes(20), "Parquet"),
    "digit.png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "single picture"),
    "lfs.npz": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "empty.npz": (b"", "empty"),
    "words.npz": ("schöne Wörter\n".encode() * 1000, "text file"),
    "noise.npz": (bytes(range(1, 255)), r"cannot be read as an \.npz"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named_as_what_it_is(tmp_path, name):
    content, kind = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{kind}"):
        load_data(tmp_path / name)
