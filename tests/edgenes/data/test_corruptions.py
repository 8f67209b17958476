"""The corruptions: what they keep, what grows with severity, and numbers that are known of some."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from edgenes.data.corruptions import BATCH, CORRUPTIONS, corrupt
from edgenes.errors import ConfigError


def pictures(count=4, channels=3, size=32):
    """Smooth colours with an edge, as photographs have them."""
    noise = torch.rand((count, channels, 4, 4), generator=torch.Generator().manual_seed(0))
    x = interpolate(noise, (size, size), mode="bilinear").numpy()
    x[..., : size // 2] *= 0.5
    return (200 * x).astype(np.uint8)


def distance(a, b):
    return np.sqrt(np.square(a.astype(float) - b).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 28), (3, 33)])
def test_a_corruption_keeps_shape_and_type_and_grows_with_severity(name, channels, size):
    images = pictures(channels=channels, size=size)
    before = images.copy()
    mild, severe = (corrupt(images, name, severity) for severity in (1, 5))
    for found in (mild, severe):
        assert found.shape == images.shape and found.dtype == np.uint8 and found.flags.c_contiguous
    assert distance(severe, images) > distance(mild, images) > 0
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_equal_seeds_give_equal_pictures(name):
    images = pictures()
    torch.manual_seed(1)  # torch's own state has no part in it
    first, again, other = (corrupt(images, name, 3, seed) for seed in (0, 0, 1))
    drawn = name not in {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert np.array_equal(first, again) and np.array_equal(first, other) != drawn


def test_images_of_one_batch_are_corrupted_differently_and_batches_too():
    images = np.full((BATCH + 1, 1, 8, 8), 128, np.uint8)
    found = corrupt(images, "gaussian_noise", 1)
    assert len(np.unique(found, axis=0)) == len(images)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if "blur" in name or name in ("contrast", "pixelate")])
def test_a_blur_leaves_a_plain_picture_plain(name):
    plain = np.full((2, 3, 16, 16), 100, np.uint8)
    inner = corrupt(plain, name, 5)[:, :, 3:-3, 3:-3]
    assert np.abs(inner.astype(int) - 100).max() <= 1


def test_noise_has_its_deviation_and_impulses_their_share():
    plain = np.full((20, 3, 32, 32), 128, np.uint8)
    assert corrupt(plain, "gaussian_noise", 5).std() == pytest.approx(25.5, rel=0.02)
    assert corrupt(plain, "shot_noise", 5).std() == pytest.approx(255 * np.sqrt(128 / 255 / 50), rel=0.02)
    hit = corrupt(plain, "impulse_noise", 5)
    assert (hit != 128).mean() == pytest.approx(0.07, rel=0.05) and set(np.unique(hit)) == {0, 128, 255}


def test_brightness_adds_to_the_value_and_keeps_the_hue():
    red, black = np.zeros((2, 1, 3, 8, 8), np.uint8)
    red[:, 0], red[:, 1] = 100, 50
    brighter = corrupt(red, "brightness", 3)
    assert (brighter[0, :, 0, 0] == [138, 69, 0]).all()
    assert (corrupt(black, "brightness", 3) == 38).all()


@pytest.mark.parametrize(
    ("images", "name", "severity"),
    [
        (pictures(), "fogg", 1),
        (pictures(), "fog", 6),
        (pictures(), "fog", True),
        (pictures(size=7), "fog", 1),
        (pictures(channels=2), "fog", 1),
        (pictures()[0], "fog", 1),
        (pictures() / 255, "fog", 1),
    ],
)
def test_what_does_not_fit_is_refused(images, name, severity):
    with pytest.raises(ConfigError):
        corrupt(images, name, severity)
