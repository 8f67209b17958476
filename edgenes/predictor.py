"""A performance predictor: a regression from genotypes to their loss after training, fitted on short retrainings.

The paper cites performance prediction (its reference 25), and its eq. (2.3) has the loss after training: shared
weights are one estimate of it, this is another.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgenes.checkpoint import read_json, write_json
from edgenes.errors import CheckpointError, ConfigError
from edgenes.parsing import reason, shown
from edgenes.space.choices import LEAST_SURVEY
from edgenes.space.encoding import (
    canonical_arrays,
    features,
    from_arrays,
    node_options,
    random_arrays,
    to_arrays,
)
from edgenes.space.genotype import Genotype, SearchSpace

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PREDICTOR_VERSION = 3
"""Raise it with every change after which a predictor says something else of the same observations."""
FOLDS = 5
RESAMPLES = 1000
CHUNK = 1024
"""Genotypes that are predicted at once: their kernel with the observations is a matrix in memory."""
STARTS, DESCENTS = 4096, 8
"""Random genotypes among which `best` looks first, and from how many of them it descends."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho between measured losses and those predicted without them; 95% interval by bootstrap."""

    value: float
    low: float
    high: float

    @property
    def above_chance(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class PerformancePredictor:
    """A Gaussian process of the logarithm of the loss over a genotype's features.

    Its kernel is linear in the standardised features, which predicts beyond what was surveyed, plus a Matern one, which
    learns what features do together, and noise. The weights of the three and the length are those of the greatest
    marginal likelihood (Rasmussen & Williams, 2006, section 5.4.1).

    Genotypes that compute the same function (`edgenes.space.encoding.canonical`) have the same prediction;
    `same_inputs` says that a cell's two inputs carry the same data, as in networks of one cell.

    Example:
        >>> import torch
        >>> from edgenes import PerformancePredictor, SearchSpace, random_genotype
        >>> space, generator = SearchSpace(), torch.Generator().manual_seed(0)
        >>> genotypes = [random_genotype(space, generator) for _ in range(60)]
        >>> losses = [0.5 + 0.1 * str(genotype).count("pool") for genotype in genotypes]
        >>> predictor = PerformancePredictor(space).fit(genotypes, losses)
        >>> mean, standard_deviation = predictor.predict(genotypes[:3])
        >>> mean.shape, predictor.rank_correlation.above_chance
        ((3,), True)
    """

    def __init__(self, space: SearchSpace, same_inputs: bool = False):
        self.space = space
        self.same_inputs = same_inputs
        self.genotypes: tuple[Genotype, ...] = ()
        self.losses = np.empty(0)

    def fit(self, genotypes: Sequence[Genotype], losses: Sequence[float] | np.ndarray) -> "PerformancePredictor":
        """Fit to the losses of these genotypes, and return the predictor.

        Raises ConfigError for fewer than LEAST_SURVEY genotypes, and for losses that are not finite and above 0.
        """
        found = np.asarray(losses, np.float64)
        if found.shape != (len(genotypes),) or len(found) < LEAST_SURVEY:
            raise ConfigError(
                f"a predictor needs a loss a genotype, and at least {LEAST_SURVEY} of them, got {len(genotypes)} "
                f"genotypes and losses of shape {found.shape}."
            )
        if not np.all(np.isfinite(found) & (found > 0)):
            raise ConfigError(f"losses must be finite and above 0, got {shown(found.tolist())}.")
        self.genotypes, self.losses = tuple(genotypes), found
        self._table = self._features(*to_arrays(self.space, genotypes))
        self._regression = _regression(self._table, np.log(found))
        self.__dict__.pop("unseen", None)
        return self

    def predict(self, genotypes: Sequence[Genotype]) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of the losses, each float64 (genotypes,).

        The loss is that of a retraining as short as those of `fit`; its deviation holds the noise of one retraining.
        """
        table = self._features(*to_arrays(self.space, genotypes))
        parts = [self._regression.predict(each, return_std=True) for each in _chunks(table)]
        mean, deviation = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.exp(mean), np.exp(mean) * deviation

    def predict_arrays(self, inputs: np.ndarray, operations: np.ndarray) -> np.ndarray:
        """The mean of `predict` for genotypes as arrays (`edgenes.space.encoding`), (genotypes,)."""
        table = self._features(inputs, operations)
        return np.exp(np.concatenate([self._regression.predict(each) for each in _chunks(table)]))

    @cached_property
    def unseen(self) -> np.ndarray:
        """Losses predicted for the fitted genotypes, each without its own observation: by cross-validation."""
        order = np.random.default_rng(0).permutation(len(self.losses))
        predicted = np.empty(len(self.losses))
        for fold in range(FOLDS):
            out = order[fold::FOLDS]
            kept = np.setdiff1d(order, out)
            regression = _regression(self._table[kept], np.log(self.losses[kept]))
            predicted[out] = np.exp(regression.predict(self._table[out]))
        return predicted

    @property
    def rank_correlation(self) -> RankCorrelation:
        """How the predictor ranks genotypes that it has not seen."""
        return rank_correlation(self.unseen, self.losses)

    def best(self, count: int, generator: torch.Generator) -> list[Genotype]:
        """Up to `count` genotypes of the least predicted loss, best first, no two of the same function.

        Descent node by node: from the best of random genotypes, each node in turn takes the edges of least loss.
        """
        space = self.space
        options = [node_options(space, node) for node in range(space.nodes)]
        inputs, operations = random_arrays(space, STARTS, generator)
        seen, losses = [(inputs, operations)], [self.predict_arrays(inputs, operations)]
        chosen = np.argsort(losses[0], kind="stable")[:DESCENTS]
        inputs, operations, least = inputs[chosen], operations[chosen], losses[0][chosen]
        improved = True
        while improved:
            before = least.sum()
            for c, node in np.ndindex(len(space.cell_types), space.nodes):
                choices = len(options[node])
                tried = [each.repeat(choices, 0) for each in (inputs, operations)]
                for k, each in enumerate(tried):
                    each[:, c, node] = np.tile(options[node][:, k], (len(inputs), 1))
                predicted = self.predict_arrays(*tried)
                seen.append((tried[0], tried[1]))
                losses.append(predicted)
                best = predicted.reshape(-1, choices).argmin(1) + np.arange(len(inputs)) * choices
                inputs, operations, least = tried[0][best], tried[1][best], predicted[best]
            improved = least.sum() < before - 1e-12
        every = [np.concatenate(part) for part in zip(*seen, strict=True)]
        order = np.argsort(np.concatenate(losses), kind="stable")
        ordered = canonical_arrays(space, every[0][order], every[1][order], self.same_inputs)
        keys = np.concatenate([each.reshape(len(order), -1) for each in ordered], 1)
        first = np.sort(np.unique(keys, axis=0, return_index=True)[1])[:count]
        return from_arrays(space, ordered[0][first], ordered[1][first])

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the observations, and the version of what is made of them."""
        return hashlib.sha256(json.dumps([PREDICTOR_VERSION, self.to_dict()]).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the space and the observations, from which the same predictor is fitted again."""
        return {
            "space": self.space.to_dict(),
            "same_inputs": self.same_inputs,
            "genotypes": [genotype.to_dict()["cells"] for genotype in self.genotypes],
            "losses": self.losses.tolist(),
        }

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> "PerformancePredictor":
        """The predictor in a file, fitted to its observations; raises CheckpointError if it is missing or damaged."""
        state = read_json(Path(path))
        try:
            predictor = cls(SearchSpace.from_dict(state["space"]), state["same_inputs"] is True)
            about = [{"space": state["space"], "cells": cells} for cells in state["genotypes"]]
            return predictor.fit([Genotype.from_dict(each) for each in about], state["losses"])
        except (ConfigError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path} does not hold a whole predictor: {reason(error)}.") from error

    def _features(self, inputs: np.ndarray, operations: np.ndarray) -> np.ndarray:
        return features(self.space, inputs, operations, self.same_inputs)


def _regression(table: np.ndarray, target: np.ndarray) -> "Pipeline":
    """The process fitted to features (genotypes, features) and targets (genotypes,)."""
    # Half a second of imports, which other uses need not pay.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = ConstantKernel(0.1) * DotProduct(sigma_0_bounds="fixed")
    kernel = linear + ConstantKernel() * Matern(3.0, nu=1.5) + WhiteKernel(0.3)
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound says that no feature matters
        return make_pipeline(StandardScaler(), process).fit(table, target)


def _chunks(table: np.ndarray) -> list[np.ndarray]:
    return np.split(table, range(CHUNK, len(table), CHUNK))


def rank_correlation(predicted: np.ndarray, measured: np.ndarray) -> RankCorrelation:
    """Spearman's rho of two arrays (genotypes,), with its interval."""
    ranks = np.stack([_ranks(predicted), _ranks(measured)])
    drawn = np.random.default_rng(0).integers(ranks.shape[1], size=(RESAMPLES, ranks.shape[1]))
    low, high = np.nanquantile(_correlation(ranks[:, drawn]), (0.025, 0.975))
    return RankCorrelation(float(_correlation(ranks)), float(low), float(high))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, those of equal values averaged."""
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[position]


def _correlation(pairs: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis of (2, ..., samples); 0 where one of the two does not vary."""
    first, second = pairs - pairs.mean(-1, keepdims=True)
    scale = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    return (first * second).sum(-1) / np.where(scale > 0, scale, np.inf)
