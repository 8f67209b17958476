"""PyTorch's compiler stays out of a process that compiles nothing."""

import inspect

import torch
from torch.optim import Optimizer


def leave_out_compiler() -> None:
    """Take from the optimisers what they say to torch.compile; for a process that never calls it.

    Their first step imports the compiler otherwise, with triton and sympy: 1.3 s and 140 MiB a worker.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(Optimizer, name, inspect.unwrap(getattr(Optimizer, name)))
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        optimizer.step = torch.no_grad()(inspect.unwrap(optimizer.step))
