"""Picture files into one array, and arrays of pictures into another size."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgenes.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
Read = TypeVar("Read")


def read_pictures(files: Sequence[str], image_size: int | None = None) -> np.ndarray:
    """All `files` as uint8 (N, H, W, C): grey if all of them are, else RGB; transparency is dropped.

    Pictures of another size than `image_size` are resized as they are read, if it is given. Raises DataError
    for a file that is no whole picture or has more than 8 bits a channel, and for sizes that differ while
    `image_size` is None.
    """
    # Two passes: the headers settle the shape of the array, and the pixels are decoded straight into it.
    headers = [_open(file, lambda picture: (picture.mode, picture.size)) for file in files]
    for file, (mode, _) in zip(files, headers, strict=True):
        if mode.startswith(("I", "F")):
            raise DataError(f"{file} has more than 8 bits a channel (mode {mode}): save it with 8.")
    sizes = {size: file for file, (_, size) in zip(files, headers, strict=True)}
    if image_size is not None:
        width = height = image_size
    elif len(sizes) == 1:
        width, height = next(iter(sizes))
    else:
        (first, here), (second, there) = list(sizes.items())[:2]
        raise DataError(
            f"pictures differ in size: {here} is {first[0]}x{first[1]} (width x height), {there} is "
            f"{second[0]}x{second[1]}. Set image_size to bring all to one size."
        )
    grey = all(mode in ("1", "L", "LA") for mode, _ in headers)
    images = np.empty((len(files), height, width, 1 if grey else 3), dtype=np.uint8)
    for row, file in zip(images, files, strict=True):
        pixels = _open(file, lambda picture: np.asarray(picture.convert("L" if grey else "RGB")))
        pixels = pixels.reshape(1, *pixels.shape[:2], -1)
        row[...] = (pixels if pixels.shape[1:3] == (height, width) else resize(pixels, height))[0]
    return images


def _open(file: str, read: "Callable[[Image], Read]") -> Read:
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return read(picture)
    # Pillow reports a broken PNG chunk as SyntaxError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as a picture ({error}). Replace it or take it out.") from error


def resize(images: np.ndarray, size: int, batch: int = 1024) -> np.ndarray:
    """Bilinear and antialiased: uint8 (N, H, W, C) -> uint8 (N, size, size, C)."""
    import torch
    from torch.nn.functional import interpolate

    out = np.empty((len(images), size, size, images.shape[3]), dtype=np.uint8)
    for start in range(0, len(images), batch):
        pixels = torch.tensor(images[start : start + batch]).permute(0, 3, 1, 2).float()
        pixels = interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
        out[start : start + batch] = pixels.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return out
