"""Batches of a data set on a device, with random shifts and flips of a whole batch at once."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from edgenes.data.dataset import Dataset, Part
from edgenes.errors import ConfigError


def shift_and_flip(images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Mirror some images of a batch and move each by whole pixels; what moves in from outside is zero.

    With s_b = (dy, dx) and x' = the mirrored x where `flips` says so, else x:
    out[b, c, i, j] = x'[b, c, i - dy, j - dx] inside the image, 0 outside. On normalised images zero is the
    mean colour.

    `images` (B, C, H, W) float, `shifts` (B, 2) int64, `flips` (B,) bool, all on one device. Returns
    (B, C, H, W), a new tensor.
    """
    batch, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) - shifts[:, :1]
    columns = torch.arange(width, device=images.device) - shifts[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    index = source.view(batch, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images).mul_(inside[:, None])


def cut_out(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Set a square of each image to zero, the mean colour; what of it lies outside is lost (DeVries & Taylor 2017).

    `images` (B, C, H, W) float, `centres` (B, 2) int64 (row, column); the square has `side` pixels a side, from
    `side // 2` before its centre. Changes and returns `images`.
    """
    height, width = images.shape[2:]
    first = centres - side // 2
    rows = torch.arange(height, device=images.device) - first[:, :1]
    columns = torch.arange(width, device=images.device) - first[:, 1:]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images.masked_fill_(inside[:, None], 0)


class DeviceData:
    """One part as uint8 tensors on a device, and its normalised batches: (x / 255 - mean) / std.

    On the CPU the tensors share the part's memory, which may be read-only: never write to them. Random
    numbers are drawn on the CPU from the generator passed in, so that they do not depend on the device.
    """

    def __init__(self, part: Part, dataset: Dataset, device: torch.device | str) -> None:
        self.device = torch.device(device)
        with warnings.catch_warnings():
            # Arrays in shared memory are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            self.images = torch.from_numpy(part.images).to(self.device)
            self.labels = torch.from_numpy(part.labels).to(self.device)
        shape = (1, dataset.channels, 1, 1)
        std = torch.tensor(dataset.std, dtype=torch.float64).view(shape)
        mean = torch.tensor(dataset.mean, dtype=torch.float64).view(shape)
        self._scale = (1 / (255 * std)).float().to(self.device)
        self._offset = (mean / std).float().to(self.device)
        self._flip = dataset.flip
        self._shift = max(1, dataset.image_size // 8)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self,
        indices: Tensor,
        generator: torch.Generator | None = None,
        augment: bool = False,
        cutout: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) float32 and labels (B,) int64 at `indices` (B,), a CPU tensor.

        `augment` shifts each image by up to an eighth of its side, filling with the mean colour, and flips half
        of them where the data set allows it; it needs a CPU `generator`, else ConfigError. `cutout` then cuts
        out a square of that share of an image's side.
        """
        at = indices.to(self.device, non_blocking=True)
        images = self._normalise(self.images[at])
        if augment:
            if generator is None:
                raise ConfigError("augmentation draws random numbers: pass a generator, or augment=False.")
            size = len(indices)
            shifts = torch.randint(-self._shift, self._shift + 1, (size, 2), generator=generator)
            flips = torch.rand(size, generator=generator) < 0.5 if self._flip else torch.zeros(size, dtype=torch.bool)
            images = shift_and_flip(
                images,
                shifts.to(self.device, non_blocking=True),
                flips.to(self.device, non_blocking=True),
            )
            if cutout > 0:
                side = images.shape[-1]
                centres = torch.randint(side, (size, 2), generator=generator).to(self.device, non_blocking=True)
                images = cut_out(images, centres, max(1, round(cutout * side)))
        return images, self.labels[at]

    def epoch(
        self, batch_size: int, generator: torch.Generator, augment: bool = True, cutout: float = 0.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One shuffled pass, in max(1, N // batch_size) batches.

        A last batch smaller than `batch_size` is left out, unless it is the only one: batch norm needs more
        than one image, and so does this (ConfigError).
        """
        size = self._training_size(batch_size)
        order = torch.randperm(len(self), generator=generator)
        chunks = order[: len(self) // size * size].split(size)
        return (self.batch(chunk, generator, augment, cutout) for chunk in chunks)

    def draw(self, batch_size: int, generator: torch.Generator, augment: bool = True) -> tuple[Tensor, Tensor]:
        """One random batch of distinct images; all of them, shuffled, if there are no more."""
        size = self._training_size(batch_size)
        return self.batch(torch.randperm(len(self), generator=generator)[:size], generator, augment)

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, none augmented or left out: what predictions are made from."""
        return (
            (self._normalise(images), labels)
            for images, labels in zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)
        )

    def _normalise(self, images: Tensor) -> Tensor:
        return images.float().mul_(self._scale).sub_(self._offset)

    def _training_size(self, batch_size: int) -> int:
        if len(self) < 2:
            raise ConfigError(f"batch norm needs at least 2 images a batch, got a part of {len(self)} images.")
        return min(batch_size, len(self))
