"""What makes a process that trains begin fast and keep its memory; nothing here needs Ray."""

import ctypes
import inspect
from contextlib import suppress

import torch
from torch.optim import Optimizer

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
LARGEST_BLOCK = 1 << 25
"""Bytes: the largest block that glibc can keep."""
LARGEST_REST = 1 << 30
"""Bytes that a process may keep unused at its heap's end."""


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks; with another C library, do nothing.

    It returns large blocks to the system otherwise, which then hands out the next step's tensors zeroed, page by
    page: with batches of 64 images of 32x32 pixels about 9,000 page faults a step, a fifth of its time.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK)
        mallopt(_TRIM_THRESHOLD, LARGEST_REST)


def leave_out_compiler() -> None:
    """Take from the optimisers what they say to torch.compile; for a process that never calls it.

    Their first step imports the compiler otherwise, with triton and sympy: 1.3 s and 140 MiB a worker.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(Optimizer, name, inspect.unwrap(getattr(Optimizer, name)))
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        optimizer.step = torch.no_grad()(inspect.unwrap(optimizer.step))  # type: ignore[method-assign]
