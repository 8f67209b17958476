"""Out of memory: recognised, and met once with half the batch and accumulated gradients."""

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from edgenes.config import NetworkConfig
from edgenes.errors import OutOfMemoryError
from edgenes.parsing import reason

log = logging.getLogger(__name__)
Result = TypeVar("Result")
State = dict[str, Any]
_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator, cuDNN and cuBLAS raise plain RuntimeErrors.
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def micro_batches(images: Tensor, labels: Tensor, parts: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """(images, labels, share of the batch) of up to `parts` equal pieces, each of two images at least.

    The gradients of share x mean loss, accumulated, are the batch's, batch norm's statistics aside, which are
    the pieces' own.
    """
    count = len(labels)
    parts = max(1, min(parts, count // 2))
    for piece in torch.arange(count).tensor_split(parts):
        first, last = int(piece[0]), int(piece[-1]) + 1
        yield images[first:last], labels[first:last], (last - first) / count


def with_less_memory(
    run: Callable[[State | None, int], Result], resume: State | None
) -> tuple[Result, dict[str, Any] | None]:
    """`run(resume, 1)`, or, where that runs out of memory, `run(None, 2)`: a state, and the pieces of a batch.

    Returns the result, and {"reason", "accumulate"} if a batch passed in pieces, else None. The second try
    starts from the beginning, so that its numbers depend on nothing but the number of pieces. Raises
    OutOfMemoryError if it runs out of memory too.
    """
    try:
        result = run(resume, 1)
        pieces = resume.get("accumulate", 1) if resume else 1
        return result, {"reason": "in an earlier attempt", "accumulate": pieces} if pieces > 1 else None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        why = reason(error)
    # Outside of the handler: the exception's frames held what is to be freed.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    log.warning("Out of memory (%s): once more from the start, with half the batch at a time.", why)
    try:
        return run(None, 2), {"reason": why, "accumulate": 2}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory, with half the batch too: {reason(error)}. Lower batch_size or "
            "channels, of the search too, or give a trial more of the device."
        ) from error


def autocast(config: NetworkConfig) -> torch.autocast:
    """A context for the forward passes and losses of a training; without `mixed_precision` it changes nothing.

    bfloat16 has float32's range, so losses need no scaling.
    """
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.mixed_precision)
