"""The second-order gradient of DARTS: through one step of the weights (Liu et al. 2018, eqs. 6 to 8)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


def unrolled_gradient(
    weights: Sequence[Tensor], architecture: Sequence[Tensor], inner: Loss, outer: Loss, rate: float
) -> tuple[list[Tensor], Tensor]:
    """Gradient of outer(w - rate * grad_w inner(w)) in the architecture's tensors, and that outer loss.

    `inner` (cross-entropy on W) and `outer` (on H) are scalars of the tensors' present values; each must be the same
    function every time that it is called, random draws included. The weights really move, plainly down the inner
    gradient, and are back to the last bit at the end. The product of the mixed second derivative and the outer
    gradient is a central difference of the inner gradient, eq. (8): four passes forward and backward in all.
    """
    before = [w.detach().clone() for w in weights]
    steps = _gradients(inner(), weights)
    try:
        _move(weights, before, steps, -rate)
        value = outer()
        found = _gradients(value, [*architecture, *weights])
        of_architecture, of_weights = found[: len(architecture)], found[len(architecture) :]
        norm = math.sqrt(sum(v.double().square().sum().item() for v in of_weights))
        if norm == 0:
            return of_architecture, value.detach()
        # The rounding of a difference and its curvature are level at the cube root of the precision.
        epsilon = torch.finfo(before[0].dtype).eps ** (1 / 3) / norm
        _move(weights, before, of_weights, epsilon)
        plus = _gradients(inner(), architecture)
        _move(weights, before, of_weights, -epsilon)
        minus = _gradients(inner(), architecture)
    finally:
        _move(weights, before, before, 0)
    differences = [(p - m) / (2 * epsilon) for p, m in zip(plus, minus, strict=True)]
    return [g - rate * d for g, d in zip(of_architecture, differences, strict=True)], value.detach()


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each, 0 where the loss does not depend on one."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


@torch.no_grad()
def _move(weights: Sequence[Tensor], before: list[Tensor], direction: list[Tensor], by: float) -> None:
    """weights = before + by * direction."""
    for w, start, d in zip(weights, before, direction, strict=True):
        w.copy_(start)
        if by:
            w.add_(d, alpha=by)
