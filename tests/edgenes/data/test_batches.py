"""Batches on a device, against one image at a time."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes.data.batches import DeviceData, cut_out, shift_and_flip
from edgenes.data.dataset import Part, build_dataset
from edgenes.errors import ConfigError
from tests.support.toys import seeded

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def toy(count=23, channels=3, size=8, flip=True, seed=0):
    """A data set of random images; labels number the images of W, so that each can be told apart."""
    rng = np.random.default_rng(seed)

    def part():
        return Part(rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8), np.arange(count))

    return build_dataset("toy", [str(i) for i in range(count)], part(), part(), part(), flip=flip)


def normalised(part, data):
    mean, std = (np.array(values)[:, None, None] for values in (data.mean, data.std))
    return torch.from_numpy((part.images / 255 - mean) / std).float()


def one_by_one(images, shifts, flips):
    """The reference: each image padded with zeros, flipped, and cut out again at an offset."""
    out = []
    for image, (down, right), flip in zip(images, shifts.tolist(), flips.tolist(), strict=True):
        _, height, width = image.shape
        image = image.flip(2) if flip else image
        margin = max(abs(down), abs(right))
        padded = torch.nn.functional.pad(image, (margin,) * 4)
        top, left = margin - down, margin - right
        out.append(padded[:, top : top + height, left : left + width])
    return torch.stack(out)


@settings(max_examples=40)
@given(
    batch=st.integers(1, 6),
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 10**6),
)
def test_shift_and_flip_equals_one_image_at_a_time(batch, channels, height, width, seed):
    generator = seeded(seed)
    images = torch.randn(batch, channels, height, width, generator=generator)
    before = images.clone()
    shifts = torch.randint(-4, 5, (batch, 2), generator=generator)
    flips = torch.rand(batch, generator=generator) < 0.5
    assert torch.equal(shift_and_flip(images, shifts, flips), one_by_one(images, shifts, flips))
    assert torch.equal(images, before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("flip", [True, False])
def test_augmented_batches_are_shifts_of_their_images_and_flips_only_where_allowed(device, flip):
    data = toy(count=3, size=16, flip=flip)
    part = DeviceData(data.weights, data, device)
    originals = normalised(data.weights, data)
    reach = range(-2, 3)
    moves = [(down, right, mirrored) for down in reach for right in reach for mirrored in (0, 1)]
    shifts, mirrors = torch.tensor(moves)[:, :2], torch.tensor(moves)[:, 2]
    possible = torch.stack([one_by_one(image.expand(50, -1, -1, -1), shifts, mirrors) for image in originals])
    images, labels = part.batch(torch.arange(3).repeat(200), seeded(), augment=True)
    distance = (possible[labels.cpu()] - images.cpu()[:, None]).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max() < 1e-5
    # 600 draws of 25 or 50 possibilities: all occur, and images of one batch move independently.
    seen = {moves[index] for index in distance.argmin(dim=1).tolist()}
    assert seen == {move for move in moves if flip or not move[2]}


@settings(max_examples=20)
@given(count=st.integers(2, 40), batch_size=st.integers(2, 50), augment=st.booleans(), seed=st.integers(0, 99))
def test_epoch_is_one_shuffled_pass_of_whole_batches(count, batch_size, augment, seed):
    data = toy(count=count, channels=1, size=2)
    part = DeviceData(data.weights, data, "cpu")
    batches = list(part.epoch(batch_size, seeded(seed), augment=augment))
    assert len(batches) == max(1, count // batch_size)
    assert {len(labels) for _, labels in batches} == {min(batch_size, count)}
    seen = torch.cat([labels for _, labels in batches]).tolist()
    assert len(set(seen)) == len(seen)
    if not augment:
        images = torch.cat([images for images, _ in batches])
        assert torch.allclose(images, normalised(data.weights, data)[seen], atol=1e-5)


def test_epochs_repeat_with_the_seed_and_differ_without():
    data = toy(count=40)
    part = DeviceData(data.weights, data, "cpu")

    def run(seed):
        generator = seeded(seed)
        return [torch.cat([x.flatten() for x, _ in part.epoch(8, generator)]) for _ in range(2)]

    first, second, other = run(1), run(1), run(2)
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])
    # without augmentation, nothing is drawn but the order
    used, reference = seeded(5), seeded(5)
    list(part.epoch(8, used, augment=False))
    torch.randperm(40, generator=reference)
    assert torch.equal(used.get_state(), reference.get_state())


@pytest.mark.parametrize(("batch_size", "expected"), [(8, 8), (40, 40), (100, 40)])
def test_draw_takes_distinct_images_and_augments_unless_told_otherwise(batch_size, expected):
    data = toy(count=40)
    part = DeviceData(data.weights, data, "cpu")
    pixels, generator = normalised(data.weights, data), seeded()
    images, labels = part.draw(batch_size, generator, augment=False)
    assert len(set(labels.tolist())) == len(images) == expected
    assert torch.allclose(images, pixels[labels], atol=1e-5)
    images, others = part.draw(batch_size, generator)
    assert labels.tolist() != others.tolist()
    assert not torch.allclose(images, pixels[others], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_ordered_gives_every_image_once_in_order(batch_size):
    data = toy()
    batches = list(DeviceData(data.validation, data, "cpu").ordered(batch_size))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(23))
    images = torch.cat([images for images, _ in batches])
    assert torch.allclose(images, normalised(data.validation, data), atol=1e-5)


def test_batches_that_cannot_be_made_are_refused():
    data = toy()
    part = DeviceData(data.weights, data, "cpu")
    one = Part(data.weights.images[:1], data.weights.labels[:1])
    with pytest.raises(ConfigError, match="of 1 images"):
        DeviceData(one, data, "cpu").epoch(8, seeded())
    with pytest.raises(ConfigError, match="generator"):
        part.batch(torch.arange(2), augment=True)


def test_read_only_arrays_are_shared_without_a_copy_or_a_warning():
    data = toy()
    for array in (data.weights.images, data.weights.labels):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = DeviceData(data.weights, data, "cpu")
    assert part.images.data_ptr() == data.weights.images.ctypes.data
    assert part.labels.data_ptr() == data.weights.labels.ctypes.data
    before = data.weights.images.copy()
    list(part.epoch(5, seeded()))
    assert np.array_equal(data.weights.images, before)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_cutout_sets_a_square_around_each_centre_to_zero(size, side, seed):
    images = torch.rand(5, 2, size, size, generator=seeded(seed)) + 1
    centres = torch.randint(size, (5, 2), generator=seeded(seed))
    expected = images.clone()
    for image, (row, column) in zip(expected, centres.tolist(), strict=True):
        top, left = row - side // 2, column - side // 2
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
    assert torch.equal(cut_out(images, centres, side), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_cutout_follows_what_else_is_drawn(device):
    data = toy(count=200)
    on_device = DeviceData(data.weights, data, device)
    whole, labels = on_device.batch(torch.arange(200), seeded(1), augment=True)
    cut, _ = on_device.batch(torch.arange(200), seeded(1), augment=True, cutout=0.5)
    same = (cut == whole).all(1)
    assert torch.equal(cut[~same.unsqueeze(1).expand_as(cut)].unique().cpu(), torch.zeros(1))
    lost = (~same).sum((1, 2))
    assert lost.max() == 16 and len(lost.unique()) > 3  # 4x4 pixels of 8x8, less at the edges
    unaugmented, _ = on_device.batch(torch.arange(200), cutout=0.5)
    assert torch.allclose(unaugmented.cpu(), normalised(data.weights, data), atol=1e-6)
    assert torch.equal(labels.cpu(), torch.arange(200))
