"""What a person hands to `predict`, as the images that a network was trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from edgenes.data.images import decoded, on_ground, opened, resize
from edgenes.data.pixels import as_bytes
from edgenes.errors import ConfigError


def as_images(given: Any, image_size: int, channels: int, resized: bool = False) -> Tensor:
    """uint8 (samples, image_size, image_size, channels) of arrays, tensors, PIL pictures or paths of pictures.

    One picture is a sample. Arrays may have their channels first, and an alpha channel in addition, which is put on a
    ground as `load_data` does; their values are uint8, integers in 0..255, or floats in 0..1 or 0..255. Pictures and
    files are turned upright, converted to the right channels, and resized; arrays are resized where `resized` says so.
    Raises ConfigError for what does not fit, DataError for values and files that cannot be read.
    """
    pictures = given if isinstance(given, list | tuple) else [given]
    if pictures and all(map(_is_picture, pictures)):
        array = _read(pictures, image_size, channels)
    else:
        right = (image_size, image_size, channels)
        if isinstance(given, Tensor) and given.dtype == torch.uint8 and given.shape[1:] == right:
            return given  # on whatever device it is
        array = _array(given)
        array = _laid_out(array, _size(array, channels) if resized else (image_size, image_size), channels)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # one image does not tell how many of the bits are in use
        raise ConfigError(
            "expected uint8 images, got uint16: use (x // 257).astype('uint8') for 16 bits, x.astype('uint8') for "
            "values of 0..255, as for the training images."
        )
    [pixels], _ = as_bytes({"images": array})
    if pixels.shape[-1] > channels:
        pixels = on_ground(pixels)
    if pixels.shape[1:3] != (image_size, image_size):
        pixels = resize(pixels, image_size)
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))  # torch takes no negative strides


def _is_picture(given: Any) -> bool:
    return isinstance(given, str | Path | Image)


def _read(pictures: Any, image_size: int, channels: int) -> np.ndarray:
    if channels not in (1, 3):
        raise ConfigError(f"a picture has 1 or 3 channels, and these networks take {channels}: give arrays.")
    read = []
    for index, given in enumerate(pictures):
        with opened(given, f"picture {index}" if isinstance(given, Image) else "") as picture:
            mode, (pixels, _) = picture.mode, decoded(picture, grey=channels == 1)
        if pixels.dtype != np.uint8:
            raise ConfigError(f"picture {index} has more than 8 bits a channel (mode {mode}): convert it to 8.")
        read.append(pixels if pixels.shape[:2] == (image_size, image_size) else resize(pixels[None], image_size)[0])
    return np.stack(read)


def _array(given: Any) -> np.ndarray:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    if isinstance(given, list | tuple) and any(isinstance(each, Tensor) for each in given):
        given = [_array(each) for each in given]
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ConfigError("expected images of one shape, got a list of several: bring them to one size.") from error
    if array.dtype.kind not in "biuf":
        raise ConfigError(
            f"expected images as an array of numbers, PIL pictures or paths, got {type(given).__name__}"
            f"{'' if array.ndim == 0 else f' of {array.dtype}'}."
        )
    return array


def _held(channels: int) -> tuple[int, ...]:
    """How many channels an image may have: alpha is one in addition."""
    return (channels, channels + 1) if channels in (1, 3) else (channels,)


def _size(array: np.ndarray, channels: int) -> tuple[int, ...]:
    """Height and width of images with their channels last, else first, else without such an axis."""
    last = array.ndim > 2 and array.shape[-1] in _held(channels)
    return array.shape[-3:-1] if last else array.shape[-2:]


def _laid_out(array: np.ndarray, size: tuple[int, ...], channels: int) -> np.ndarray:
    """(samples, *size, channels) or with alpha in addition, whatever axes are absent or in another order."""
    shape, held = array.shape, _held(channels)
    if channels == 1 and shape[-2:] == size and array.ndim in (2, 3):
        return array.reshape(-1, *size, 1)
    batch = array[None] if array.ndim == 3 else array
    if batch.ndim == 4 and batch.shape[1:3] == size and batch.shape[3] in held:
        return batch
    if batch.ndim == 4 and batch.shape[2:] == size and batch.shape[1] in held:
        return batch.transpose(0, 2, 3, 1)
    if size not in (batch.shape[1:3], batch.shape[2:], shape[-2:]):
        cure = f"resize them to {'x'.join(map(str, size))}, as predict(resize=True) does"
    elif channels == 1:
        cure = "make them grey: PIL pictures are converted, numpy.dot(x, [.299, .587, .114]) does it for RGB"
    else:
        cure = f"give them {channels} channels; grey ones by numpy.stack([x] * {channels}, -1)"
    expected = ", ".join(map(str, (*size, channels)))
    raise ConfigError(f"expected images (samples, {expected}), got {array.dtype} {shape}: {cure}.")
