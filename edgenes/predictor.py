"""A performance predictor: a regression from genotypes to their loss after training, fitted on short retrainings.

The paper cites performance prediction (its reference 25), and its eq. (2.3) has the loss after training: shared
weights are one estimate of it, this is another.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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

FOLDS = 5
RESAMPLES = 1000
FINE = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Scales of the fine features in the predictor's regressions; the coarse ones have 1."""
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
    """Bayesian ridge regressions of the logarithm of the loss on a genotype's features.

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
        self._regression = _Regression(*self._table, np.log(found))
        self.__dict__.pop("unseen", None)
        return self

    def predict(self, genotypes: Sequence[Genotype]) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of the losses, each float64 (genotypes,).

        The loss is that of a retraining as short as those of `fit`; its deviation holds the noise of one retraining.
        """
        mean, deviation = self._regression.distribution(*self._features(*to_arrays(self.space, genotypes)))
        return np.exp(mean), np.exp(mean) * deviation

    def predict_arrays(self, inputs: np.ndarray, operations: np.ndarray) -> np.ndarray:
        """The mean of `predict` for genotypes as arrays (`edgenes.space.encoding`), (genotypes,)."""
        return np.exp(self._regression.mean(*self._features(inputs, operations)))

    @cached_property
    def unseen(self) -> np.ndarray:
        """Losses predicted for the fitted genotypes, each without its own observation: by cross-validation."""
        order = np.random.default_rng(0).permutation(len(self.losses))
        predicted = np.empty(len(self.losses))
        coarse, fine = self._table
        for fold in range(FOLDS):
            out = order[fold::FOLDS]
            kept = np.setdiff1d(order, out)
            regression = _Regression(coarse[kept], fine[kept], np.log(self.losses[kept]))
            predicted[out] = np.exp(regression.mean(coarse[out], fine[out]))
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
        """16 hexadecimal digits that name the observations."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()[:16]

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

    def _features(self, inputs: np.ndarray, operations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return features(self.space, inputs, operations, self.same_inputs)


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


class _Regression:
    """The mean of Bayesian ridge regressions that trust the fine features more or less, by FINE.

    The coarse features rank better from few observations, the fine ones from many; the mean is near the better one.
    """

    def __init__(self, coarse: np.ndarray, fine: np.ndarray, target: np.ndarray):
        from sklearn.linear_model import BayesianRidge  # half a second, which other uses need not pay

        table = np.concatenate([coarse, fine], 1)
        deviation = table.std(0)
        self._center, self._scale = table.mean(0), np.where(deviation > 0, deviation, 1)
        trust = [np.repeat([1.0, fine_trust], [coarse.shape[1], fine.shape[1]]) for fine_trust in FINE]
        self._trust = trust
        self._models = [BayesianRidge().fit(self._scaled(table) * each, target) for each in trust]
        self._slope = np.mean([each * model.coef_ for each, model in zip(trust, self._models, strict=True)], 0)
        self._offset = np.mean([model.intercept_ for model in self._models])

    def _scaled(self, table: np.ndarray) -> np.ndarray:
        return (table - self._center) / self._scale

    def mean(self, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """The prediction, (genotypes,)."""
        return self._scaled(np.concatenate([coarse, fine], 1)) @ self._slope + self._offset

    def distribution(self, coarse: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and standard deviation, the models' own and that between them."""
        table = self._scaled(np.concatenate([coarse, fine], 1))
        each = zip(self._trust, self._models, strict=True)
        # (regressions, mean and deviation, genotypes)
        found = np.array([model.predict(table * trust, return_std=True) for trust, model in each])
        return self.mean(coarse, fine), np.sqrt((found[:, 1] ** 2).mean(0) + found[:, 0].var(0))
