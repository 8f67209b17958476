"""Fifteen corruptions at five severities in the manner of CIFAR-10-C (Hendrycks and Dietterich 2019).

Names and strengths are those of its authors, whose pictures have 32x32 pixels; lengths grow with the side of the
picture, from 16 pixels up. What is drawn is their idea and not their pixels: blurs are means of moved pictures, fog and
frost a fractal of their own. Torchvision's transforms are used where they exist for a batch and with a seed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample, interpolate

from edgenes.errors import ConfigError
from edgenes.seeds import stable_seed
from edgenes.validation import check_choice

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 8
"""Pixels a side."""
BATCH = 500
"""Images that are corrupted at a time. What is drawn for an image depends on it."""
Corruption = Callable[[Tensor, int, Generator], Tensor]
"""Takes floats (N, C, S, S) in [0, 1], the severity from 0 to 4, and where to draw from; the result may pass [0, 1]."""


def corrupt(images: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Images uint8 (N, C, S, S), grey or RGB, as a corruption of `CORRUPTIONS` leaves them, in a new array.

    Equal seeds give equal pictures, and all severities the same draws. Raises ConfigError for what is none of these.

    Example:
        >>> from edgenes import load_data
        >>> from edgenes.data.corruptions import CORRUPTIONS, corrupt
        >>> images = load_data("digits").validation.images
        >>> len(CORRUPTIONS), corrupt(images, "fog", severity=3).shape == images.shape
        (15, True)
    """
    check_choice("a corruption", name, tuple(CORRUPTIONS))
    if type(severity) is not int or severity not in SEVERITIES:
        raise ConfigError(f"a severity is a whole number from 1 to 5, got {severity!r}.")
    square = images.ndim == 4 and images.shape[2] == images.shape[3] >= SMALLEST
    if images.dtype != np.uint8 or not square or images.shape[1] not in (1, 3):
        raise ConfigError(
            f"expected images uint8 (N, C, S, S) with C of 1 or 3 and S from {SMALLEST}, got {images.dtype} "
            f"{images.shape}."
        )
    out = np.empty_like(images, order="C")
    for start in range(0, len(images), BATCH):
        generator = Generator().manual_seed(stable_seed("corruption", name, seed, start))
        batch = torch.from_numpy(images[start : start + BATCH].astype(np.float32)) / 255
        found = CORRUPTIONS[name](batch, severity - 1, generator)
        out[start : start + BATCH] = (found * 255).round().clamp(0, 255).numpy()
    return out


def _gaussian_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity] * torch.randn(x.shape, generator=generator)


def _shot_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    photons = (500, 250, 100, 75, 50)[severity]
    return torch.poisson(x * photons, generator) / photons


def _impulse_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    drawn, salt = (torch.rand(x.shape, generator=generator) for _ in range(2))
    return torch.where(drawn < (0.01, 0.02, 0.03, 0.05, 0.07)[severity], (salt < 0.5).float(), x)


def _defocus_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    radius = (0.6, 0.8, 1.0, 1.4, 2.0)[severity] * _unit(x)
    # The centre and two rings: points that stand for equal parts of a disk.
    rings = ((0.45, 6), (0.85, 12))
    angles = [(share * radius, 2 * math.pi * k / count) for share, count in rings for k in range(count)]
    return _mean(_moved(x, far * math.cos(angle), far * math.sin(angle)) for far, angle in [(0, 0), *angles])


def _glass_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    reach = (0.8, 1.1, 1.4, 1.7, 2.0)[severity] * _unit(x)
    right, down = (2 * torch.rand((2, len(x), *x.shape[2:]), generator=generator) - 1) * reach
    return _moved(x, right, down)


def _motion_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    reach, spread = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity]
    angle = (torch.rand(len(x), generator=generator) - 0.5) * (math.pi / 2)
    return _streaked(x, reach, spread, angle)


def _zoom_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    from torchvision.transforms.v2.functional import InterpolationMode, affine

    most, steps = (0.06, 0.11, 0.16, 0.21, 0.26)[severity], 6
    scales = [1 + most * k / steps for k in range(1, steps + 1)]
    zoomed = (affine(x, 0, [0, 0], scale, [0, 0], InterpolationMode.BILINEAR) for scale in scales)
    return _mean([x, *zoomed])


def _snow(x: Tensor, severity: int, generator: Generator) -> Tensor:
    mean, std, zoom, least, reach, spread, keep = (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity]
    side = x.shape[-1]
    drawn = torch.randn((len(x), 1, side, side), generator=generator)
    flakes = interpolate(drawn, scale_factor=zoom, mode="bilinear")[..., :side, :side] * std + mean
    angle = math.pi * (-0.75 + 0.5 * torch.rand(len(x), generator=generator))
    flakes = _streaked(torch.where(flakes < least, 0, flakes).clamp(0, 1), reach, spread, angle)
    grey = x.mean(1, keepdim=True)
    return keep * x + (1 - keep) * torch.maximum(x, grey * 1.5 + 0.5) + flakes + flakes.rot90(2, (2, 3))


def _frost(x: Tensor, severity: int, generator: Generator) -> Tensor:
    keep, ice = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity]
    ridges = 1 - (2 * _fractal(x, 1.5, generator) - 1).abs()  # thin bright veins, as of crystals
    return keep * x + ice * ridges**2


def _fog(x: Tensor, severity: int, generator: Generator) -> Tensor:
    thick, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thick * _fractal(x, decay, generator)) * brightest / (brightest + thick)


def _brightness(x: Tensor, severity: int, generator: Generator) -> Tensor:
    value = x.amax(1, keepdim=True)  # of HSV: hue and saturation stay
    brighter = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity]).clamp_max(1)
    return torch.where(value > 0, x * brighter / value.clamp_min(1e-6), brighter)


def _contrast(x: Tensor, severity: int, generator: Generator) -> Tensor:
    from torchvision.transforms.v2.functional import adjust_contrast

    return adjust_contrast(x, (0.75, 0.5, 0.4, 0.3, 0.15)[severity])


def _elastic_transform(x: Tensor, severity: int, generator: Generator) -> Tensor:
    rough = (0.0, 0.02, 0.035, 0.05, 0.065)[severity]
    side = x.shape[-1]
    fields, corners = (
        interpolate(torch.randn((len(x), 2, n, n), generator=generator), (side, side), mode="bilinear")
        for n in (max(3, side // 4), 2)
    )
    right, down = (side * (rough * fields + 0.035 * corners)).unbind(1)
    return _moved(x, right, down)


def _pixelate(x: Tensor, severity: int, generator: Generator) -> Tensor:
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    side = x.shape[-1]
    few = int(side * (0.95, 0.9, 0.85, 0.75, 0.65)[severity])
    return resize(resize(x, [few, few]), [side, side], InterpolationMode.NEAREST)


def _jpeg_compression(x: Tensor, severity: int, generator: Generator) -> Tensor:
    from PIL import Image  # torchvision says of its own `jpeg` that it will go

    out = torch.empty_like(x)
    for k, pixels in enumerate((x * 255).round().byte().numpy()):
        file = io.BytesIO()
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture.save(file, "jpeg", quality=(80, 65, 58, 50, 40)[severity])
        out[k] = torch.from_numpy(np.array(Image.open(file))).view(*x.shape[2:], -1).permute(2, 0, 1) / 255
    return out


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""By the names of the published arrays, in the order of the paper."""
STRANGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda images: 255 - images,
    "noise": lambda images: np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8),
}
"""Strange images that need no data but these, uint8 of any shape."""


def _unit(x: Tensor) -> float:
    """Pixels for one of a picture of 32."""
    return max(16, x.shape[-1]) / 32


def _mean(pictures: Iterable[Tensor]) -> Tensor:
    pictures = list(pictures)
    return torch.stack(pictures).mean(0)


def _moved(x: Tensor, right: Tensor | float, down: Tensor | float) -> Tensor:
    """Each pixel from so many pixels away, numbers or (N, S, S), bilinearly; outside, the border is repeated."""
    side = x.shape[-1]
    across = torch.arange(side, dtype=torch.float32)
    columns, rows = (each.expand(len(x), side, side) for each in (across + right, across[:, None] + down))
    grid = (2 * torch.stack([columns, rows], -1) + 1) / side - 1
    return grid_sample(x, grid, padding_mode="border", align_corners=False)


def _streaked(x: Tensor, reach: float, spread: float, angle: Tensor) -> Tensor:
    """The mean along a line on one side of each pixel, weighed by a normal density: (N,) angles, lengths in 32nds."""
    weights = torch.exp(-torch.arange(reach + 1).square() / (2 * spread**2))
    cosine, sine = (each.view(-1, 1, 1) * _unit(x) for each in (angle.cos(), angle.sin()))
    lines = (weight * _moved(x, k * cosine, k * sine) for k, weight in enumerate(weights / weights.sum()))
    return torch.stack(list(lines)).sum(0)


def _fractal(x: Tensor, decay: float, generator: Generator) -> Tensor:
    """Clouds (N, 1, S, S) in [0, 1]: noise on grids of 2, 3, 5, .. points, each finer one fainter by `decay`."""
    side, clouds, points, strength = x.shape[-1], torch.zeros(len(x), 1, *x.shape[2:]), 2, 1.0
    while points <= side:
        noise = torch.rand((len(x), 1, points, points), generator=generator)
        clouds += strength * interpolate(noise, (side, side), mode="bilinear", align_corners=True)
        points, strength = 2 * points - 1, strength / decay
    least, most = clouds.amin((2, 3), keepdim=True), clouds.amax((2, 3), keepdim=True)
    return (clouds - least) / (most - least).clamp_min(1e-6)
