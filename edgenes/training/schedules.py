"""Annealing by epoch."""

import math


def linear(start: float, end: float, epoch: int, epochs: int) -> float:
    """Value at `epoch` (from 0) on the line from `start` to `end`, both of which are reached (section 4)."""
    return start if epochs <= 1 else start + (end - start) * epoch / (epochs - 1)


def cosine(start: float, step: int, steps: int) -> float:
    """Value at `step` (from 0) of a half cosine from `start` towards 0."""
    return start * 0.5 * (1 + math.cos(math.pi * step / steps))
