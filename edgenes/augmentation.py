"""Random shifts and horizontal flips of a whole batch at once, as index arithmetic."""

import torch
from torch import Tensor


def largest_shift(image_size: int) -> int:
    """Pixels by which an image of `image_size` rows may be shifted: an eighth of it (4 of 32, 1 of 8)."""
    return max(1, image_size // 8)


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
