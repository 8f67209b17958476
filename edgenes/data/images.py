"""Picture files as arrays, and arrays of pictures in another size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgenes.errors import DataError
from edgenes.parsing import reason

if TYPE_CHECKING:
    from PIL.Image import Image
ORIENTATION = 0x0112
"""Number of the EXIF tag that says how a picture is to be turned."""
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises and does not decode by itself; for EPS it would start Ghostscript."""


@dataclass(frozen=True)
class Pictures:
    """`images` (N, H, W, C) of those files at the indices `read`, and what is to be said about them."""

    images: np.ndarray
    read: list[int]
    notes: list[str]


class _Header(NamedTuple):
    mode: str
    size: tuple[int, int]
    animated: bool


@cache
def picture_endings() -> frozenset[str]:
    """Endings of the files that Pillow reads, in lower case: .png, .jpg, .gif and some sixty more."""
    from PIL import Image

    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in _formats())


def read_pictures(files: Sequence[str], image_size: int | None = None, skip_broken: bool = False) -> Pictures:
    """All `files` as (N, H, W, C): the first frame, upright by its EXIF orientation; grey if all are, else RGB.

    Images are uint8; those that all have more than 8 bits a channel keep their type. Transparent ones are put on a
    ground by `on_ground`. Pictures of another size than `image_size` are resized as they are read, if it is given.
    Files that are no whole picture are left out and noted with `skip_broken`. Raises DataError for such a file
    otherwise, for pictures of which some have more than 8 bits a channel, and for sizes that differ while `image_size`
    is None.
    """
    # Two passes: the headers settle the shape of the array, and the pixels are decoded straight into it.
    broken: list[str] = []
    headers: dict[int, _Header] = {}
    transparent = 0
    for index, file in enumerate(files):
        with _left_out(broken, skip_broken), opened(file) as picture:
            headers[index] = _Header(
                picture.mode,
                _upright_size(picture) if image_size is None else picture.size,
                getattr(picture, "is_animated", False),
            )
    if not headers:
        raise _nothing(files, broken)
    width, height = _common_size(files, headers) if image_size is None else (image_size, image_size)
    dtype = _common_type(files, headers)
    grey = all(_deep(header.mode) or header.mode in ("1", "L", "LA", "La") for header in headers.values())
    images = np.empty((len(headers), height, width, 1 if grey else 3), dtype)
    read: list[int] = []
    for index in headers:
        with _left_out(broken, skip_broken), opened(files[index]) as picture:
            pixels, composed = decoded(picture, grey)
            fits = pixels.shape[:2] == (height, width)
            images[len(read)] = pixels if fits else resize(pixels[None], height)[0]
            read.append(index)
            transparent += composed
    if not read:
        raise _nothing(files, broken)
    frames = [files[index] for index in read if headers[index].animated]
    notes = []
    if frames:
        notes.append(f"{len(frames)} of {len(files)} pictures have several frames ({frames[0]}): the first is read.")
    if transparent:
        notes.append(
            f"{transparent} of {len(files)} pictures are transparent: dark ones are put on white, bright ones on black."
        )
    if broken:
        notes.append(
            f"{len(broken)} of {len(files)} pictures are left out:" + "".join(f"\n  {each}" for each in broken)
        )
    return Pictures(images[: len(read)], read, notes)


def decoded(picture: "Image", grey: bool) -> tuple[np.ndarray, bool]:
    """The pixels (H, W, C) of an opened picture, upright, and whether it had transparent ones.

    They are uint8; grey with more than 8 bits a channel keeps its type.
    """
    picture.load()
    picture = _upright(picture)
    if _deep(picture.mode):
        return np.asarray(picture)[..., None], False
    if not picture.has_transparency_data:
        pixels = np.asarray(picture.convert("L" if grey else "RGB"))
        return pixels.reshape(*pixels.shape[:2], -1), False
    pixels = np.asarray(picture.convert("LA" if grey else "RGBA"))
    return on_ground(pixels), bool(pixels[..., -1].min() < 255)


def on_ground(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., H, W, C + 1) with alpha last on white where what is visible is dark, else on black: (..., H, W, C).

    Each picture decides by itself, so that `predict` shows a network the same as its training did.
    """
    colours, alpha = pixels[..., :-1].astype(np.float32), pixels[..., -1:].astype(np.float32) / 255
    visible = np.maximum(alpha.sum((-3, -2, -1), keepdims=True) * colours.shape[-1], 1e-6)
    light = (colours * alpha).sum((-3, -2, -1), keepdims=True) / visible
    ground = np.where(light < 127.5, np.float32(255), np.float32(0))
    return np.rint(colours * alpha + ground * (1 - alpha)).astype(np.uint8)


def resize(images: np.ndarray, size: int, batch: int = 1024) -> np.ndarray:
    """Bilinear and antialiased: (N, H, W, C) -> (N, size, size, C) of the same type."""
    import torch
    from torch.nn.functional import interpolate

    out = np.empty((len(images), size, size, images.shape[3]), images.dtype)
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images[start : start + batch].astype(np.float32)).permute(0, 3, 1, 2)
        pixels = interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
        if images.dtype.kind != "f":
            pixels = pixels.round_().clamp_(0, np.iinfo(images.dtype).max)
        out[start : start + batch] = pixels.permute(0, 2, 3, 1).numpy()
    return out


@contextmanager
def opened(file: "str | Path | Image", name: str = "") -> "Iterator[Image]":
    """A picture from its file, or as it was given; whatever Pillow raises is a DataError that names it."""
    from PIL import Image, UnidentifiedImageError

    name = name or str(file)
    try:
        if isinstance(file, Image.Image):
            yield file
        else:
            with Image.open(file, formats=_formats()) as picture:
                yield picture
    # Each of Pillow's plugins raises its own for a damaged file: OSError, SyntaxError, RuntimeError, struct.error, ...
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its message names the file a second time
        why = "it is empty, or of no format that Pillow reads" if unknown else reason(error)
        raise DataError(f"{name} cannot be read as a picture ({why}). Replace it or take it out.") from error


@contextmanager
def _left_out(broken: list[str], skip: bool) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        if not skip:
            raise DataError(f"{error} Or leave such files out, listed, by skip_broken (--skip-broken).") from error
        broken.append(str(error).removesuffix(" Replace it or take it out."))


def _nothing(files: Sequence[str], broken: list[str]) -> DataError:
    return DataError(f"none of {len(files)} pictures can be read{f'; {broken[0]}' if broken else '.'}")


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(kind for kind in Image.ID if kind not in _UNREAD)


def _deep(mode: str) -> bool:
    return mode.startswith(("I", "F"))


def _orientation(picture: "Image") -> int:
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # as any viewer shows a picture whose EXIF data are damaged
        return 1


def _upright(picture: "Image") -> "Image":
    from PIL import Image

    # Not `ImageOps.exif_transpose`, which writes all EXIF data again and fails on those that are damaged.
    turn = _orientation(picture)
    return picture.transpose(Image.Transpose[_TURNS[int(turn) - 2]]) if turn in range(2, 9) else picture


def _upright_size(picture: "Image") -> tuple[int, int]:
    """Width and height as a viewer shows it; only where they differ, since a PNG is decoded for its orientation."""
    width, height = picture.size
    # Pillow turns TIFF by itself.
    turned = width != height and picture.format != "TIFF" and _orientation(picture) in range(5, 9)
    return (height, width) if turned else (width, height)


def _common_size(files: Sequence[str], headers: dict[int, _Header]) -> tuple[int, int]:
    sizes = {header.size: files[index] for index, header in headers.items()}
    if len(sizes) == 1:
        return next(iter(sizes))
    (first, here), (second, there) = list(sizes.items())[:2]
    raise DataError(
        f"pictures differ in size: {here} is {first[0]}x{first[1]} (width x height), {there} is "
        f"{second[0]}x{second[1]}. Set image_size to bring all to one size."
    )


def _common_type(files: Sequence[str], headers: dict[int, _Header]) -> type[np.generic]:
    deep = {header.mode: files[index] for index, header in headers.items() if _deep(header.mode)}
    flat = [files[index] for index, header in headers.items() if not _deep(header.mode)]
    if deep and flat:
        mode, file = next(iter(deep.items()))
        raise DataError(
            f"{file} has more than 8 bits a channel (mode {mode}), {flat[0]} has 8: save all pictures with 8 bits."
        )
    return np.float32 if "F" in deep else np.int32 if "I" in deep else np.uint16 if deep else np.uint8
