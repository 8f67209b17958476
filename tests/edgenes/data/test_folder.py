"""Folders of pictures as they lie on real disks."""

import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from edgenes.data.folder import read_folder
from edgenes.data.images import ORIENTATION, on_ground, picture_endings, read_pictures
from edgenes.data.loading import load_data
from edgenes.errors import DataError

RNG = np.random.default_rng(0)
SPLITS = (("train", 6), ("test", 2))
TRANSFORMS = {  # what a camera does to an upright picture, for a viewer to undo
    **{1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"},
    **{5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"},
}


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pets(tmp_path):
    """A folder of distinct pictures: 6 train, 2 test of each of cat and dog."""
    for half, count in SPLITS:
        for name in ("cat", "dog"):
            (tmp_path / "pets" / half / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise(6, 6, 3)).save(tmp_path / "pets" / half / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture
def load(caplog):
    """Loads, and returns the data with the lines that were logged."""

    def run(*arguments, **options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="edgenes"):
            data = load_data(*arguments, **options)
        return data, caplog.messages

    return run


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 3), ("P", 3), ("L", 1), ("LA", 1), ("1", 1)])
def test_pictures_are_grey_if_all_are_else_rgb(pets, mode, channels):
    for file in pets.rglob("*.png"):
        Image.open(file).convert(mode).save(file)
    data = load_data(pets)
    assert (data.name, data.class_names, data.channels) == ("pets", ("cat", "dog"), channels)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert len(data.training) + len(data.validation) == 12
    pixels = np.asarray(Image.open(pets / "test/dog/0.png").convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(data.test.images[2].transpose(1, 2, 0), pixels.reshape(6, 6, channels))


def test_differing_sizes_need_image_size(pets):
    wide = pets / "train/cat/1.png"
    Image.open(wide).resize((7, 6)).save(wide)
    with pytest.raises(DataError, match=r"differ in size.*6x6.*7x6.*image_size"):
        load_data(pets)
    data = load_data(pets, image_size=6)
    assert data.image_size == 6
    right = np.asarray(Image.open(pets / "test/cat/0.png"))
    assert np.array_equal(data.test.images[0].transpose(1, 2, 0), right)  # left alone


def test_folders_that_hold_no_data_set(pets):
    with pytest.raises(DataError, match="train/CLASS/"):
        load_data(pets / "train" / "cat")
    for file in (pets / "train" / "dog").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"least 5 training images; .*'dog' \(label 1\): 0"):
        load_data(pets)
    for file in pets.rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match="no pictures"):
        load_data(pets)
    (pets / "test" / "dog").rename(pets / "test" / "cow")
    with pytest.raises(DataError, match="cow, dog"):
        load_data(pets)


@pytest.mark.parametrize("orientation", TRANSFORMS)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_pictures_are_upright_by_their_exif_orientation(tmp_path, ending, orientation):
    shown = np.kron(noise(3, 5, 3), np.ones((4, 4, 1), np.uint8))
    turn, picture, exif = TRANSFORMS[orientation], Image.fromarray(shown), Image.Exif()
    exif[ORIENTATION] = orientation
    saved = picture if turn is None else picture.transpose(Image.Transpose[turn])
    quality = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
    saved.save(tmp_path / f"p.{ending}", exif=exif, **quality)
    [image] = read_pictures([str(tmp_path / f"p.{ending}")]).images
    assert image.shape == shown.shape and np.abs(image.astype(int) - shown).max() <= 4 * (ending == "jpg")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_turn_nothing(tmp_path):
    shown = noise(6, 8, 3)
    Image.fromarray(shown).save(tmp_path / "p.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert np.array_equal(read_pictures([str(tmp_path / "p.png")]).images[0], shown)


HIDDEN = [
    *("train/cat/.ipynb_checkpoints/0-checkpoint.png", "train/cat/.trash/1.png", "train/cat/._0.png"),
    *("train/@eaDir/cat/0.png", "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "test/.ipynb_checkpoints/0.png"),
    *("train/__MACOSX/cat/._0.png", "train/#recycle/0.png", ".git/0.png", "__MACOSX/0.png", "train/.DS_Store"),
]


def test_hidden_and_system_names_are_skipped_and_counted(pets, load):
    plain, lines = load(pets)
    assert lines == []
    for place in HIDDEN:
        (pets / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pets / "test/dog/1.png", pets / place)
    for place in ("train/dog/Thumbs.db", "test/cat/notes.TXT", "train/dog/README", "train/0.txt"):
        (pets / place).write_text("no picture")
    data, lines = load(pets)
    assert data.digest == plain.digest and data.class_names == ("cat", "dog")
    [line] = lines
    for kind in ("8 .png (hidden)", "2 .txt", "1 .db (hidden)", "1 without ending,", "1 without ending (hidden)"):
        assert kind in line


def test_other_folders_beside_the_halves_are_named(pets, load):
    shutil.copytree(pets / "test", pets / "val")
    assert any("val/" in line for line in load(pets)[1])


def test_of_classes_alone_a_fixed_fifth_of_each_is_the_test_half(pets, load):
    for file in (pets / "test").rglob("*.png"):
        file.rename(pets / "train" / file.parent.name / f"test-{file.name}")
    (pets / "test/cat").rmdir()
    with pytest.raises(DataError, match="test/"):  # the name of a half is no class
        load(pets / "train" / "..")
    data, [line] = load(pets / "train")
    assert np.bincount(data.test.labels).tolist() == [2, 2] and "no train/, no test/" in line and " 4 pictures" in line
    again = load(pets / "train", seed=1)[0]
    assert np.array_equal(again.test.images, data.test.images) and again.digest != data.digest
    images = np.concatenate([part.images for part in (data.training, data.validation, data.test)])
    assert len(np.unique(images, axis=0)) == len(images) == 16
    source = read_folder(pets / "train")
    shown = [np.asarray(Image.open(pets / "train" / file)) for file in source.test_files]
    assert np.array_equal(shown, source.test_images)


def test_pictures_of_every_format_and_depth_of_folder_are_read(pets, load):
    assert {".jfif", ".gif", ".tif", ".webp", ".bmp", ".avif", ".jp2", ".ppm"} < picture_endings()
    assert not {".pdf", ".h5", ".mpg", ".eps", ".txt"} & picture_endings()
    (pets / "train/cat/more/deep").mkdir(parents=True)
    Image.fromarray(noise(6, 6, 3)).save(pets / "train/cat/more/deep/a.JFIF", "JPEG")
    first, *frames = (Image.fromarray(noise(6, 6, 3)) for _ in range(3))
    first.save(pets / "train/cat/b.gif", save_all=True, append_images=frames)
    data, lines = load(pets)
    assert len(data.training) + len(data.validation) == 14
    [line] = lines
    assert "1 of 18" in line and "b.gif" in line and "first" in line


def test_the_first_frame_is_the_one_read(tmp_path):
    frames = [Image.fromarray(np.full((6, 6, 3), level, np.uint8)) for level in (200, 100)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_pictures([str(tmp_path / "a.gif")]).images.tolist() == [[[[200] * 3] * 6] * 6]


def test_equal_pictures_in_both_halves_are_named(pets, load):
    shutil.copy(pets / "test/dog/1.png", pets / "train/cat/copy.png")
    [line] = load(pets)[1]
    assert "1 of 4 test images" in line and os.path.join("test", "dog", "1.png") in line


def test_training_pictures_that_are_nearly_all_alike_are_noted(pets, load, tmp_path):
    faint = 100 + noise(40, 8, 8) % 2
    labels = np.arange(40) % 2
    np.savez(tmp_path / "faint.npz", x_train=faint, y_train=labels, x_test=noise(4, 8, 8), y_test=labels[:4])
    assert ["nearly all alike" in line for line in load(tmp_path / "faint.npz")[1]] == [True]
    for place in (pets / "train").rglob("*.png"):
        shutil.copy(pets / "train" / "cat" / "0.png" if place.stem < "4" else place, tmp_path / "x.png")
        shutil.copy(tmp_path / "x.png", place)
    assert ["only 5 of 12" in line for line in load(pets)[1]] == [True]


# --- transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ink", [0, 60, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_ink_in_the_alpha_channel_stays_visible(tmp_path, mode, ink):
    alpha = np.kron(np.eye(4, dtype=np.uint8), np.full((2, 2), 255, np.uint8))
    picture = Image.fromarray(np.stack([np.full_like(alpha, ink)] * 3 + [alpha], -1))
    if mode == "P":
        picture = Image.fromarray(alpha // 255, "P")
        picture.putpalette([9, 99, 9, ink, ink, ink])
        picture.info["transparency"] = 0
    elif mode == "LA":
        picture = picture.convert("LA")
    picture.save(tmp_path / "p.png")
    pictures = read_pictures([str(tmp_path / "p.png")])
    ground = 255 if ink < 128 else 0
    assert np.array_equal(pictures.images[0, ..., 0], np.where(alpha > 0, ink, ground))
    assert "1 of 1 pictures are transparent" in pictures.notes[0]


def test_each_picture_chooses_its_ground_and_half_transparent_pixels_are_mixed():
    pixels = np.array([[[[0, 255], [0, 51]]], [[[200, 255], [200, 51]]]], np.uint8)
    assert on_ground(pixels)[..., 0].tolist() == [[[0, 204]], [[200, 40]]]


def test_a_picture_without_a_transparent_pixel_is_its_colours(tmp_path):
    pixels = noise(6, 6, 4) | np.array([0, 0, 0, 255], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    pictures = read_pictures([str(tmp_path / "p.png")])
    assert np.array_equal(pictures.images[0], pixels[..., :3]) and pictures.notes == []


# --- pictures that are damaged, or deep -----------------------------------------------------------

DAMAGED = [".avif", ".dds", ".bmp", ".gif", ".jpg", ".jp2", ".pcx", ".png", ".ppm", ".qoi", ".tga", ".tif", ".webp"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", DAMAGED)
def test_a_damaged_picture_of_any_format_is_refused_with_its_name_or_read(tmp_path, ending):
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        pytest.skip(f"needs a Pillow that writes {ending}")
    path = tmp_path / f"p{ending}"
    Image.fromarray(noise(16, 16, 3)).save(path)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for length in (0, 3, 20, len(whole) // 2, len(whole)):
        content = bytearray(whole[:length])
        for at in rng.integers(0, max(1, length), 20 * (length == len(whole))):
            content[at] ^= 0xFF
        path.write_bytes(content)
        try:
            read_pictures([str(path)])
        except DataError as error:
            refused += path.name in str(error) and "cannot be read as a picture" in str(error)
    assert refused >= 2  # the empty one at least, and one that is cut


def test_broken_pictures_are_left_out_and_listed_where_the_user_says_so(pets, load):
    header, cut, lost = (pets / "train/cat" / name for name in ("header.png", "cut.png", "lost.png"))
    header.write_text("no picture")
    cut.write_bytes((pets / "train/cat/0.png").read_bytes()[:60])
    lost.symlink_to("nowhere")
    with pytest.raises(DataError, match="skip_broken"):
        load(pets)
    data, [line] = load(pets, skip_broken=True)
    assert len(data.training) + len(data.validation) == 12
    assert "3 of 19 pictures are left out" in line and len(line.splitlines()) == 4
    assert all(str(path) in line for path in (header, cut, lost)) and line.count(str(header)) == 1
    for content in (cut.read_bytes(), b""):
        for path in pets.rglob("*.png"):
            path.unlink()
            path.write_bytes(content)
        with pytest.raises(DataError, match="none of 19"):
            load(pets, skip_broken=True)


def test_a_sixteen_bit_picture_among_others_is_refused_not_clipped(pets):
    Image.fromarray(np.full((6, 6), 40000, np.uint16)).save(pets / "train" / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png .*8 bits"):
        load_data(pets)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_pictures_that_all_have_more_than_8_bits_are_read_by_their_values(tmp_path, load, kind):
    scale = 1 / 255 if kind is np.float32 else 257
    for half, count in SPLITS:
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.r_[0, 255, noise(34)].reshape(6, 6).astype(np.float64)
                Image.fromarray((pixels * scale).astype(kind)).save(tmp_path / half / name / f"{number}.tif")
    data, [line] = load(tmp_path)
    assert data.channels == 1 and np.dtype(kind).name in line
    assert data.test.images[:, 0, 0, :2].tolist() == [[0, 255]] * 4
    assert load(tmp_path, image_size=3)[0].image_size == 3
