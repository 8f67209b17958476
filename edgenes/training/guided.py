"""The outer problem of eq. (2.3) where a guide predicts the loss after training: no images, no weights."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from edgenes.config import HypernetworkConfig
from edgenes.space.encoding import from_choice
from edgenes.space.logits import ArchitectureLogits, choice_log_probability, sample_choice

PATHS = 256
"""Genotypes drawn in a step, over all its lambdas."""
STEPS = 5
"""Steps of an epoch."""


class Guide(Protocol):
    """What says how good genotypes are: a `PerformancePredictor`, or the like."""

    def predict_arrays(self, inputs: np.ndarray, operations: np.ndarray) -> np.ndarray:
        """The loss after training, (genotypes,), of genotypes as arrays (`edgenes.space.encoding`)."""


class Guided:
    """In the place of `Bilevel`: a step draws genotypes at each of its lambdas, and asks the guide for their loss."""

    def __init__(self, config: HypernetworkConfig, guide: Guide):
        self.config = config
        self.guide = guide
        self.generator = torch.Generator().manual_seed(config.seed)
        self.steps = STEPS

    def batches(self) -> Iterator[Any]:
        """The steps of an epoch, each without images."""
        return iter([None] * self.steps)

    def architecture_loss(self, logits: ArchitectureLogits, temperature: float) -> tuple[Tensor, Tensor]:
        """(surrogate, mean predicted loss) at logits with a leading axis of lambdas.

        The surrogate's gradient is the score-function estimate with a leave-one-out baseline at each lambda, unbiased.
        """
        space = self.config.space
        lambdas = len(logits.beta)
        paths = max(2, PATHS // lambdas)
        drawn_from = ArchitectureLogits(*(each.repeat_interleave(paths, 0) for each in (logits.alpha, logits.beta)))
        choice = sample_choice(drawn_from, space, self.generator, temperature)
        predicted = torch.from_numpy(self.guide.predict_arrays(*from_choice(space, choice)))
        losses = predicted.to(logits.beta).view(lambdas, paths)
        advantages = (losses - losses.mean(1, keepdim=True)) * paths / (paths - 1)
        log_probabilities = choice_log_probability(drawn_from, space, choice, temperature).view_as(advantages)
        return (advantages * log_probabilities).mean(), losses.mean()

    def state(self) -> dict[str, Any]:
        """All that `load` needs to resume."""
        return {"generator": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Resume from the state of an earlier run."""
        self.generator.set_state(state["generator"].cpu())
