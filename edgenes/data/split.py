"""Disjoint, stratified parts of a set of labels."""

from collections.abc import Sequence

import numpy as np


def split_indices(labels: np.ndarray, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Indices of disjoint parts that together hold every image once, each part in random order.

    Stratified: of a class with n images, part i gets floor(fractions[i] * n), and the rest goes, one each, to
    the parts with the largest remainders, ties drawn at random. `labels` (N,) int; `fractions` sum to 1.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        exact = np.asarray(fractions) * len(indices)
        counts = np.floor(exact).astype(int)
        by_remainder = np.lexsort((rng.random(len(parts)), counts - exact))
        counts[by_remainder[: len(indices) - counts.sum()]] += 1
        for part, chosen in zip(parts, np.split(indices, np.cumsum(counts)[:-1]), strict=True):
            part.append(chosen)
    return [rng.permutation(np.concatenate(part)) for part in parts]
