"""What people hand to `predict`."""

import numpy as np
import pytest
import torch
from PIL import Image

from edgenes.data.images import ORIENTATION
from edgenes.data.inputs import as_images
from edgenes.data.loading import load_data
from edgenes.errors import ConfigError, EdgeNESError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
IMAGES[:, 0, 0], IMAGES[:, 0, 1] = 0, 255  # each shows its range
GREY = IMAGES[..., :1]
OPAQUE = np.full_like(GREY, 255)


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


COLOUR = {
    "array": IMAGES,
    "tensor": torch.from_numpy(IMAGES),
    "turned channels": IMAGES[..., ::-1].copy()[..., ::-1],
    "turned rows": np.ascontiguousarray(IMAGES[:, ::-1])[:, ::-1],
    "read-only": frozen(IMAGES),
    "every second": np.repeat(IMAGES, 2, 0)[::2],
    "Fortran's order": np.asfortranarray(IMAGES),
    "channels first": IMAGES.transpose(0, 3, 1, 2),
    "tensor, channels first": torch.from_numpy(IMAGES).permute(0, 3, 1, 2),
    "with alpha": np.concatenate([IMAGES, OPAQUE], -1),
    "with alpha, channels first": np.concatenate([IMAGES, OPAQUE], -1).transpose(0, 3, 1, 2),
    "float 0..1": IMAGES.astype(np.float32) / 255,
    "float 0..255": IMAGES.astype(np.float64),
    "tensor 0..1, channels first": torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255,
    "bfloat16": torch.from_numpy(IMAGES).bfloat16(),
    "needs a gradient": torch.from_numpy(IMAGES).float().requires_grad_(),
    "int64": IMAGES.astype(np.int64),
    "list of arrays": list(IMAGES),
    "list of tensors": [torch.from_numpy(image).float() for image in IMAGES],
    "nested lists": IMAGES.tolist(),
    "PIL pictures": [Image.fromarray(image) for image in IMAGES],
    "PIL pictures with alpha": [Image.fromarray(image).convert("RGBA") for image in IMAGES],
}


@pytest.mark.parametrize("case", COLOUR)
def test_images_of_one_meaning_are_taken(case):
    made = as_images(COLOUR[case], 6, 3)
    assert made.dtype == torch.uint8 and np.array_equal(made.numpy(), IMAGES)


@pytest.mark.parametrize("given", [GREY, GREY[..., 0], GREY.transpose(0, 3, 1, 2), np.concatenate([GREY, OPAQUE], -1)])
def test_grey_images_are_taken_with_and_without_their_axis(given):
    assert np.array_equal(as_images(given, 6, 1).numpy(), GREY)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IMAGES[0], IMAGES[:1]),
        (IMAGES[0].transpose(2, 0, 1), IMAGES[:1]),
        (Image.fromarray(IMAGES[0]), IMAGES[:1]),
        (GREY[0, ..., 0], GREY[:1]),
        (GREY[0], GREY[:1]),
        (GREY[0].transpose(2, 0, 1), GREY[:1]),
        (Image.fromarray(GREY[0, ..., 0]), GREY[:1]),
    ],
)
def test_one_picture_is_one_sample(given, expected):
    assert np.array_equal(as_images(given, 6, expected.shape[-1]).numpy(), expected)


def test_files_are_turned_converted_and_resized_as_those_of_a_data_set(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(IMAGES[0]).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.full((12, 9), 70, np.uint8)).save(tmp_path / "b.png")
    made = as_images([tmp_path / "a.png", str(tmp_path / "b.png")], 6, 3).numpy()
    assert np.array_equal(made[0], IMAGES[0]) and (made[1] == 70).all()
    assert np.array_equal(as_images(Image.open(tmp_path / "a.png"), 6, 3).numpy(), IMAGES[:1])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_files_of_a_test_part_are_that_test_part(tmp_path, mode):
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[ORIENTATION] = 8
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            for number in range(5):
                shape = (7 + number, 12, 4) if number != 3 else (6, 6, 4)
                picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
                picture = picture.convert(f"{mode}A" if number % 2 else mode)
                picture.save(tmp_path / half / name / f"{number}.png", exif=exif)
    data = load_data(tmp_path, image_size=6)
    files = sorted((tmp_path / "test").rglob("*.png"))
    expected = data.test.images.transpose(0, 2, 3, 1)
    assert np.array_equal(as_images(files, 6, data.channels).numpy(), expected)
    assert np.array_equal(as_images([Image.open(file) for file in files], 6, data.channels).numpy(), expected)


def test_transparent_images_are_put_on_a_ground():
    sprite = np.zeros((1, 6, 6, 4), np.uint8)
    sprite[:, 2:4, ..., 3] = 255
    expected = np.full((1, 6, 6, 3), 255, np.uint8)
    expected[:, 2:4] = 0
    assert np.array_equal(as_images(sprite, 6, 3).numpy(), expected)
    assert np.array_equal(as_images(Image.fromarray(sprite[0]), 6, 3).numpy(), expected)


@pytest.mark.parametrize("images", [IMAGES, GREY], ids=["colour", "grey"])
def test_arrays_are_resized_on_request_as_pictures_are(images):
    channels = images.shape[-1]
    large = images.repeat(3, 1).repeat(2, 2)  # 18 x 12
    pictures = [Image.fromarray(each if channels == 3 else each[..., 0]) for each in large]
    expected = as_images(pictures, 6, channels).numpy()
    forms = [large, large.transpose(0, 3, 1, 2), large / 255] + [large[..., 0]] * (channels == 1)
    for form in forms:
        assert np.array_equal(as_images(form, 6, channels, resized=True).numpy(), expected)
    assert np.array_equal(as_images(large[0], 6, channels, resized=True).numpy(), expected[:1])
    assert np.array_equal(as_images(images, 6, channels, resized=True).numpy(), images)
    with pytest.raises(ConfigError, match="grey" if channels == 1 else "3 channels"):
        as_images(np.zeros((2, 9, 8, 5), np.uint8), 6, channels, resized=True)


REFUSED = {
    "other size": (np.zeros((2, 9, 9, 3), np.uint8), 3, "resize them to 6x6"),
    "one of other size": (np.zeros((9, 9), np.uint8), 1, "resize them to 6x6"),
    "colour for grey": (IMAGES, 1, "grey"),
    "grey for colour": (GREY, 3, r"numpy.stack\(\[x\] \* 3"),
    "grey for colour, no axis": (GREY[..., 0], 3, r"numpy.stack\(\[x\] \* 3"),
    "16 bits": (IMAGES.astype(np.uint16), 3, "// 257"),
    "normalised": ((IMAGES / 255 - 0.5) / 0.25, 3, "replace"),
    "no numbers": (np.full((1, 6, 6, 3), np.nan), 3, "finite"),
    "lists of several shapes": ([IMAGES[0], IMAGES[0, :5]], 3, "one shape"),
    "none": (None, 3, "NoneType"),
    "nothing": ([], 3, r"got float64 \(0,\)"),
    "no file": ("nowhere.png", 3, "nowhere.png cannot be read"),
    "deep picture": (Image.fromarray(np.zeros((6, 6), np.uint16)), 1, "8 bits"),
    "pictures for other channels": (Image.fromarray(IMAGES[0]), 2, "2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_images_of_no_meaning_are_refused_with_the_thing_to_change(case):
    given, channels, message = REFUSED[case]
    with pytest.raises(EdgeNESError, match=message):
        as_images(given, 6, channels)


def test_images_of_the_right_form_are_not_copied():
    assert as_images(IMAGES, 6, 3).data_ptr() == IMAGES.ctypes.data
    tensor = torch.from_numpy(IMAGES)
    assert as_images(tensor, 6, 3) is tensor
    assert len(as_images(IMAGES[:0], 6, 3)) == 0


def test_four_channels_of_a_network_are_no_alpha():
    images = np.concatenate([IMAGES, GREY], -1)
    assert np.array_equal(as_images(images, 6, 4).numpy(), images)
    with pytest.raises(ConfigError):
        as_images(np.concatenate([images, GREY], -1), 6, 4)
