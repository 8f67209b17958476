"""Mixed precision: forward passes in bfloat16 where torch deems it safe, weights and gradients in float32."""

import torch

from edgenes.config import NetworkConfig


def autocast(config: NetworkConfig) -> torch.autocast:
    """A context for the forward passes and losses of a training; without `mixed_precision` it changes nothing.

    bfloat16 has float32's range, so losses need no scaling.
    """
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.mixed_precision)
