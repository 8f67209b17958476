"""Loading and splitting: real files in temporary folders, and every mistake a user can make with them."""

import dataclasses
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from edgenes.data.dataset import Dataset, Part, build_dataset
from edgenes.data.images import resize
from edgenes.data.loading import load_data
from edgenes.data.split import split_indices
from edgenes.errors import DataError, EdgeNESError

PARTS = ("weights", "architecture", "validation", "test")


def small_arrays(classes=3, train=10, test=4, shape=(6, 6, 3), seed=0):
    """Random images, `train` and `test` of them a class, sorted, each with a first pixel of its own."""
    rng = np.random.default_rng(seed)
    made = {}
    for half, count, start in (("train", train, 0), ("test", test, 128)):
        made[f"x_{half}"] = rng.integers(0, 256, (classes * count, *shape), dtype=np.uint8)
        made[f"x_{half}"].reshape(classes * count, -1)[:, 0] = start + np.arange(classes * count)
        made[f"y_{half}"] = np.repeat(np.arange(classes), count)
    return made


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        path = tmp_path / "small.npz"
        held = {**small_arrays(), **changes}
        np.savez(path, **{name: array for name, array in held.items() if array is not None})
        return path

    return write


# --- the split ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    labels=arrays(np.int64, st.integers(1, 120), elements=st.integers(0, 4)),
    fractions=st.sampled_from([(0.4, 0.4, 0.2), (0.8, 0.2), (1.0,), (0.25, 0.0, 0.5, 0.25), (1 / 3,) * 3]),
    seed=st.integers(0, 2**31),
)
def test_split_is_disjoint_complete_and_stratified(labels, fractions, seed):
    parts = split_indices(labels, fractions, seed)
    assert len(parts) == len(fractions)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, fraction in zip(parts, fractions, strict=True):
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            assert abs(np.sum(labels[part] == label) - fraction * count) < 1
    again = split_indices(labels, fractions, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_split_depends_on_its_seed_alone_and_mixes_the_classes():
    labels = np.repeat(np.arange(4), 100)
    np.random.seed(1)
    first = split_indices(labels, (0.5, 0.5), 7)
    np.random.seed(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, split_indices(labels, (0.5, 0.5), 7), strict=True))
    assert not np.array_equal(first[0], split_indices(labels, (0.5, 0.5), 8)[0])
    # The labels are sorted, yet the beginning of a part is a sample of all classes.
    assert set(labels[first[0][:40]]) == {0, 1, 2, 3}


def test_ties_of_the_split_favour_no_part():
    labels = np.arange(2000) % 400  # 5 images a class, so that halves are 2 and 3
    sizes = [len(part) for part in split_indices(labels, (0.5, 0.5), 0)]
    assert abs(sizes[0] - 1000) < 60  # standard deviation 10; always favouring one part would make it 200


# --- data sets ------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_and_every_image_is_in_one_part():
    data = load_data("digits")
    assert (data.name, data.classes, data.channels, data.image_size, data.flip) == ("digits", 10, 1, 8, False)
    assert [len(getattr(data, part)) for part in PARTS[2:]] == pytest.approx([287, 359], abs=5)
    assert abs(len(data.weights) - len(data.architecture)) <= 10
    published = load_digits()

    def keys(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))

    parts = [getattr(data, name) for name in PARTS]
    levels = [np.rint(part.images[:, 0] * (16 / 255)).astype(np.uint8) for part in parts]
    ours = keys(np.concatenate(levels), np.concatenate([part.labels for part in parts]))
    assert ours == keys(published.images.astype(np.uint8), published.target)
    assert max(part.images.max() for part in parts) == 255


def test_digits_test_part_is_the_same_for_every_seed():
    first, second = load_data("digits", seed=0), load_data("digits", seed=1)
    assert np.array_equal(first.test.images, second.test.images)
    assert not np.array_equal(first.validation.images, second.validation.images)
    assert first.digest != second.digest


def test_npz_is_split_as_promised(npz):
    held = small_arrays()
    data = load_data(npz(class_names=np.array(["a", "b", "c"])))
    assert (data.name, data.class_names, data.image_size, data.channels) == ("small", ("a", "b", "c"), 6, 3)
    for part, each in (("weights", 4), ("architecture", 4), ("validation", 2), ("test", 4)):
        assert np.bincount(getattr(data, part).labels).tolist() == [each] * 3
    # The first pixel numbers the images, so each can be found again in the file.
    seen = []
    for part in (data.weights, data.architecture, data.validation):
        for image, label in zip(part.images, part.labels, strict=True):
            number = image[0, 0, 0]
            assert np.array_equal(image.transpose(1, 2, 0), held["x_train"][number])
            assert label == held["y_train"][number]
            seen.append(number)
    assert sorted(seen) == list(range(30))
    assert np.array_equal(data.test.images.transpose(0, 2, 3, 1), held["x_test"])
    assert np.array_equal(data.test.labels, held["y_test"])


def test_npz_compressed_grey_without_names(tmp_path):
    np.savez_compressed(tmp_path / "grey.npz", **small_arrays(shape=(5, 5)))
    data = load_data(str(tmp_path / "grey.npz"))
    assert (data.channels, data.class_names) == (1, ("0", "1", "2"))


def test_mean_and_std_are_those_of_the_training_images_and_a_constant_channel_can_be_divided_by(npz):
    held = small_arrays()
    held["x_train"][..., 1] = 7
    data = load_data(npz(**held))
    pixels = data.training.images / 255
    assert len(data.training) == len(data.weights) + len(data.architecture) == 24
    assert np.allclose(data.mean, pixels.mean(axis=(0, 2, 3)))
    assert np.allclose(data.std, [pixels[:, 0].std(), 1 / 255, pixels[:, 2].std()])


def test_digest_identifies_pixels_labels_split_and_flip(npz):
    held = small_arrays()
    path = npz()
    digest = load_data(path).digest
    assert digest == load_data(path).digest == load_data(path, seed=0, flip=False).digest
    assert len(digest) == 16
    others = [load_data(path, seed=1).digest, load_data(path, flip=True).digest]
    for name, index, value in (("x_train", (3, 2, 2, 1), 9), ("x_test", (0, 5, 5, 0), 9), ("y_test", 0, 1)):
        changed = held[name].copy()
        changed[index] = value
        others.append(load_data(npz(**{name: changed})).digest)
    assert len({digest, *others}) == 6
    without = load_data(npz()).without_test()
    assert without.test is None and without.digest == digest


def test_w_and_h_share_the_memory_of_the_training_part(npz):
    data = load_data(npz())
    for part, start in ((data.weights, 0), (data.architecture, data.split)):
        for name in ("images", "labels"):
            whole, own = getattr(data.training, name), getattr(part, name)
            assert own.ctypes.data == whole[start:].ctypes.data and own.flags.c_contiguous
    with pytest.raises(DataError, match="an image each"):
        dataclasses.replace(data, split=0)


def test_pickle_is_out_of_band_and_leaves_the_cached_views_out(npz):
    data = load_data(npz())
    assert data.weights is data.weights
    buffers = []
    head = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(head) < 2000
    assert sum(buffer.raw().nbytes for buffer in buffers) == sum(
        getattr(data, part).images.nbytes + getattr(data, part).labels.nbytes for part in PARTS
    )
    back = pickle.loads(head, buffers=buffers)
    assert back.digest == data.digest
    assert np.shares_memory(back.validation.images, data.validation.images)
    assert np.shares_memory(back.architecture.images, data.training.images)


def test_resize_averages_neighbours_and_keeps_constants():
    flat = np.full((3, 8, 8, 3), 77, np.uint8)
    assert np.array_equal(resize(flat, 4), np.full((3, 4, 4, 3), 77, np.uint8))
    stripes = np.zeros((1, 8, 8, 1), np.uint8)
    stripes[:, :, ::2] = 200
    # Without antialiasing a stripe pattern comes out as 0 or 200, or aliases.
    assert np.abs(resize(stripes, 2).astype(int) - 100).max() <= 15
    noise = np.random.default_rng(0).integers(0, 256, (5, 9, 6, 3), dtype=np.uint8)
    pillow = [np.asarray(Image.fromarray(image).resize((4, 4), Image.Resampling.BILINEAR)) for image in noise]
    assert np.abs(resize(noise, 4, batch=2).astype(int) - np.stack(pillow)).max() <= 1


def test_image_size_makes_squares_of_both_halves(npz):
    held = small_arrays(shape=(6, 9, 3))
    held["x_test"] = np.zeros((12, 5, 5, 3), np.uint8)
    data = load_data(npz(**held), image_size=4)
    assert data.image_size == 4
    assert data.test.images.shape == (12, 3, 4, 4)


def write_fashionmnist(root, classes=10):
    """Fashion-MNIST's four files as they lie on disk, with random pixels."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    held = small_arrays(classes=classes, train=6, test=2, shape=(28, 28))
    for half, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = held[f"x_{half}"], held[f"y_{half}"].astype(np.uint8)
        header = struct.pack(">4i", 0x803, *images.shape)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2i", 0x801, len(labels))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return raw, held


def test_fashionmnist_is_read_from_torchvisions_layout(tmp_path):
    _, held = write_fashionmnist(tmp_path)
    data = load_data("fashionmnist", root=tmp_path)
    assert (data.classes, data.channels, data.image_size, data.flip) == (10, 1, 28, True)
    assert data.class_names[0] == "T-shirt/top"
    assert np.array_equal(data.test.images[:, 0], held["x_test"])
    assert not load_data("fashionmnist", root=tmp_path, flip=False).flip
    assert load_data("fashionmnist", root=tmp_path, image_size=14).image_size == 14


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashionmnist", "damaged"])
def test_absent_and_damaged_files_say_how_to_get_them(tmp_path, name):
    root = tmp_path / "nothing"
    if name == "damaged":
        name, root = "fashionmnist", tmp_path
        file = write_fashionmnist(tmp_path)[0] / "train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="download") as caught:
        load_data(name, root=root)
    assert str(root) in str(caught.value)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["cifar10", "fashionmnist"])
def test_failed_download_says_how_to_fetch_by_hand(tmp_path, monkeypatch, name):
    # Nothing listens on this port: what a machine without a network sees, at once.
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match=r"could not be downloaded.*refused.*by hand http://127.0.0.1:9/"):
        load_data(name, root=tmp_path, download=True)


# --- mistakes -------------------------------------------------------------------------------------


def test_unknown_name_names_the_nearest_and_the_known():
    with pytest.raises(DataError, match=r"'CIFAR-10', did you mean 'cifar10'\?.*digits.*\.npz.*train/CLASS"):
        load_data("CIFAR-10")
    with pytest.raises(DataError, match=r"unknown data set 'xyzzy'\. Known: digits"):
        load_data("xyzzy")


@pytest.mark.parametrize("name", ["nothing.npz", "some/folder"])
def test_absent_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{name} does not exist"):
        load_data(name)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_file_that_is_no_whole_npz(npz, keep):
    path = npz()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(DataError, match=path.name):
        load_data(path)


def test_objects_are_refused_and_not_unpickled(npz, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    labels = np.array([Trap() for _ in range(30)], dtype=object)
    with pytest.raises(DataError, match=r"y_train .* holds Python objects"):
        load_data(npz(y_train=labels))
    assert not (tmp_path / "sprung").exists()


def pixels(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


WRONG = {
    "an array absent": ({"y_train": None}, "y_train"),
    "floats": ({"x_train": small_arrays()["x_train"] - np.float32(128)}, r"x_train.*float32"),
    "flat images": ({"x_train": pixels(30, 36)}, r"x_train.*\(30, 36\)"),
    "no pixels": ({"x_train": pixels(30, 0, 0)}, r"x_train.*\(30, 0, 0\)"),
    "channels first": ({"x_train": pixels(30, 3, 6, 6)}, r"x_train.*transpose\(0, 2, 3, 1\)"),
    "other channels": ({"x_test": pixels(12, 6, 6)}, "channels and x_test 1"),
    "other size": ({"x_test": pixels(12, 7, 7, 3)}, "x_test 7x7.*image_size"),
    "not square": (small_arrays(shape=(6, 9, 3)), "square.*6x9.*image_size"),
    "more labels": ({"y_test": np.zeros(13, int)}, "y_test has 13"),
    "test label unknown": ({"y_test": np.repeat([0, 1, 3], 4)}, r"'3' \(label 3\): 0"),
    "labels from one in a half": ({"y_train": np.repeat([1, 2, 3], 10)}, r"'0' \(label 0\): 0"),
    "gap in a half": ({"y_train": np.repeat([0, 1, 3], 10)}, r"'2' \(label 2\): 0"),
    "label beyond names": (
        {"y_train": np.repeat([0, 1, 3], 10), "class_names": np.array(["a", "b", "c"])},
        "y_train holds the label 3",
    ),
    "too few": ({"y_train": np.repeat([0, 1, 2], [13, 13, 4])}, r"least 5 training.*\(label 2\): 4"),
    "absent from test": ({"y_test": np.repeat([0, 2], 6)}, r"least 1 test.*\(label 1\): 0"),
    "one class": ({"y_train": np.zeros(30, int), "y_test": np.zeros(12, int)}, "two classes"),
    "too few names": ({"class_names": np.array(["a", "b"])}, "label 2.*2 classes"),
    "too many names": ({"class_names": np.array(list("abcd"))}, r"'d' \(label 3\): 0"),
    "names no strings": ({"class_names": np.arange(3)}, "class_names.*int64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_arrays(npz, case):
    changes, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        load_data(npz(**changes))


def test_fewer_images_are_drawn_class_by_class_and_too_few_refused():
    data = load_data("digits", images=200)
    counts = np.bincount(np.concatenate([data.training.labels, data.validation.labels]))
    assert 190 <= counts.sum() <= 210 and counts.min() >= 19
    assert len(data.test) == len(load_data("digits").test)
    for images, left in ((1, 0), (11, 10)):
        with pytest.raises(DataError, match=f"{left} training images"):
            load_data("digits", images=images)


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"seed": -1}])
def test_image_size_and_seed_have_a_least_value(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(DataError, match=f"{name}.*got {value}"):
        load_data("digits", **wrong)


def test_parts_and_data_sets_refuse_what_does_not_fit():
    images, labels = np.zeros((4, 1, 6, 6), np.uint8), np.array([0, 1, 0, 1])
    part = Part(images, labels)
    for wrong in (images.astype(float), images[0], images.transpose(0, 1, 3, 2), images[:0]):
        with pytest.raises(DataError, match="images of a part"):
            Part(wrong, labels)
    for wrong in (labels.astype(np.int32), labels[:3], labels[:, None]):
        with pytest.raises(DataError, match="labels of a part"):
            Part(images, wrong)
    data = build_dataset("toy", ("a", "b"), part, part, part)
    assert isinstance(data, Dataset)
    assert data.test is None
    other = Part(np.zeros((4, 1, 5, 5), np.uint8), labels)
    with pytest.raises(DataError, match="one shape"):
        build_dataset("toy", ("a", "b"), part, part, other)
    with pytest.raises(DataError, match=r"labels should be 0\.\.0, got 0\.\.1"):
        build_dataset("toy", ("a",), part, part, part)
    assert issubclass(DataError, EdgeNESError)


def test_loading_leaves_the_global_generators_alone(npz):
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    load_data(npz(), image_size=4)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_in_memory_as_a_sent_copy_does(npz, channels):
    for data in (load_data(npz(**small_arrays(shape=(8, 8, channels)))), load_data("digits")):
        for part in (getattr(data, name) for name in PARTS):
            assert part.images.strides == pickle.loads(pickle.dumps(part.images, protocol=5)).strides
            assert torch.from_numpy(part.images).is_contiguous()
