"""How fast a training runs, for those who watch it; no number of a study depends on it."""

import time
from typing import Any

import torch


class Speed:
    """The pace of a training: `measured()` belongs into the report of an epoch, `restart()` after it.

    Args:
        images: training images an epoch.
        device: where the training runs.
    """

    def __init__(self, images: int, device: str):
        self._images = images
        self._device = torch.device(device)
        self.restart()

    def restart(self) -> None:
        """Begin an epoch: what came since the last one was no training."""
        self._start = time.monotonic()

    def measured(self) -> dict[str, Any]:
        """{"images_per_second"} of the epoch, and on a GPU the most "gpu_memory_bytes" that torch has reserved."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        found: dict[str, Any] = {"images_per_second": round(self._images / seconds, 1)}
        if self._device.type == "cuda":
            found["gpu_memory_bytes"] = torch.cuda.max_memory_reserved(self._device)
        return found
