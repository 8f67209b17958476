"""The piecewise-linear hypernetwork of eq. (2.2), its control of the shared edges, and the candidates drawn from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgenes.checkpoint import check_weights, load_checkpoint, save_checkpoint
from edgenes.errors import CheckpointError, ConfigError
from edgenes.parsing import reason, shown
from edgenes.space.choices import INTERPOLATIONS
from edgenes.space.encoding import canonical
from edgenes.space.genotype import Genotype, SearchSpace, shared_edges
from edgenes.space.logits import ArchitectureLogits, argmax_genotype, sample_genotypes
from edgenes.validation import check_choice

_WIDTH_FLOOR = 0.02  # of the whole range: pivots never meet, so the interpolation never divides by zero


class Hypernetwork(nn.Module):
    """K pivots r_0 = 0 < ... < r_K-1 = Lambda with logits a_k, joined linearly; lambda is clamped to [0, Lambda].

    `trainable_pivots` moves the inner pivots (cumulative softmax widths, so they stay ordered).
    interpolation="as_printed" swaps the two weights as eq. (2.2) does: it jumps at every inner pivot, and is there
    for replications only. Logits start as N(0, 1) draws from `generator`.

    Example:
        >>> import torch
        >>> from edgenes import Hypernetwork, SearchSpace
        >>> hypernetwork = Hypernetwork(SearchSpace(nodes=4), generator=torch.Generator().manual_seed(0))
        >>> hypernetwork(torch.tensor([0.0, 1.5, 4.0])).alpha.shape  # (lambdas, types, edges, operations)
        torch.Size([3, 1, 14, 7])
        >>> len(hypernetwork.genotype(1.5).edge_set)
        4
    """

    def __init__(
        self,
        space: SearchSpace,
        pivots: int = 5,
        trainable_pivots: bool = False,
        interpolation: str = "corrected",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if type(pivots) is not int or not 2 <= pivots <= 1 / _WIDTH_FLOOR:
            raise ConfigError(f"pivots must be between 2 and {1 / _WIDTH_FLOOR:.0f}, got {shown(pivots)}.")
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.space = space
        self.interpolation = interpolation
        types, edges, operations = len(space.cell_types), len(space.edges), len(space.operations)
        self.alpha = nn.Parameter(torch.randn(pivots, types, edges, operations, generator=generator))
        self.beta = nn.Parameter(torch.randn(pivots, types, edges, generator=generator))
        self.widths = nn.Parameter(torch.zeros(pivots - 1), requires_grad=trainable_pivots)

    @property
    def pivots(self) -> Tensor:
        """r_0 .. r_K-1, (pivots,), ordered, from 0 to Lambda exactly."""
        intervals = len(self.widths)
        share = _WIDTH_FLOOR + (1 - intervals * _WIDTH_FLOOR) * self.widths.softmax(0)
        inner = share.cumsum(0)[:-1]
        ends = inner.new_zeros(1), inner.new_ones(1)
        return torch.cat([ends[0], inner, ends[1]]) * self.space.max_edges

    def forward(self, lam: float | Tensor) -> ArchitectureLogits:
        """Logits at lambda: without a batch axis for a number, with a leading one for (batch,)."""
        lam = torch.as_tensor(lam, dtype=self.beta.dtype, device=self.beta.device)
        batched = lam.dim() == 1
        position = lam.reshape(-1).clamp(0, self.space.max_edges)
        pivots = self.pivots
        k = torch.searchsorted(pivots.detach(), position, right=True).clamp(1, len(pivots) - 1) - 1
        u = (position - pivots[k]) / (pivots[k + 1] - pivots[k])
        if self.interpolation == "as_printed":
            u = 1 - u
        alpha = torch.lerp(self.alpha[k], self.alpha[k + 1], u.view(-1, 1, 1, 1))
        beta = torch.lerp(self.beta[k], self.beta[k + 1], u.view(-1, 1, 1))
        return ArchitectureLogits(alpha, beta) if batched else ArchitectureLogits(alpha[0], beta[0])

    def genotype(self, lam: float) -> Genotype:
        """The genotype of the largest logits at lambda."""
        return argmax_genotype(self(lam), self.space)

    def sample_genotypes(self, lam: float, n: int, generator: torch.Generator) -> list[Genotype]:
        """n genotypes drawn from the softmax of the logits at lambda; they may repeat."""
        return sample_genotypes(self(lam), self.space, n, generator)

    def save(self, path: str | Path) -> None:
        """Write to a file that `load` reads."""
        save_checkpoint(Path(path), "hypernetwork", self.to_state())

    @classmethod
    def load(cls, path: str | Path) -> "Hypernetwork":
        """Read what `save` wrote, or the `hypernetwork.pt` in a folder.

        Raises CheckpointError if it is missing or damaged.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "hypernetwork.pt"
        state = load_checkpoint(path, "hypernetwork")
        try:
            return cls.from_state(state)
        except (AttributeError, LookupError, TypeError, RuntimeError, ConfigError) as error:
            raise CheckpointError(f"{path} does not hold a whole hypernetwork: {reason(error)}.") from error

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors from which `from_state` rebuilds the hypernetwork."""
        return {
            "space": self.space.to_dict(),
            "pivots": len(self.alpha),
            "trainable_pivots": self.widths.requires_grad,
            "interpolation": self.interpolation,
            "weights": {name: value.detach().cpu() for name, value in self.state_dict().items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Hypernetwork":
        """The inverse of `to_state`; raises one of several errors on what is none."""
        hypernetwork = cls(
            SearchSpace.from_dict(state["space"]),
            state["pivots"],
            state["trainable_pivots"],
            state["interpolation"],
            torch.Generator(),  # the draws are overwritten; torch's global ones stay the caller's
        )
        check_weights(hypernetwork, state["weights"])
        hypernetwork.load_state_dict(state["weights"])
        return hypernetwork


def control_curve(
    hypernetwork: Hypernetwork, optimal: Genotype, points_per_edge: int = 1, either_input: bool = False
) -> list[dict[str, float]]:
    """[{"lambda", "shared"}] on a grid over [0, Lambda]: edges that the argmax genotype shares with the optimal one.

    `either_input` as in `shared_edges`.

    Example:
        >>> import torch
        >>> from edgenes import Hypernetwork, SearchSpace, control_curve, random_genotype
        >>> generator = torch.Generator().manual_seed(0)
        >>> hypernetwork = Hypernetwork(SearchSpace(), generator=generator)
        >>> curve = control_curve(hypernetwork, random_genotype(SearchSpace(), generator))
        >>> [point["lambda"] for point in curve]
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    steps = hypernetwork.space.max_edges * points_per_edge
    grid = [i / points_per_edge for i in range(steps + 1)]
    return [{"lambda": lam, "shared": shared_edges(hypernetwork.genotype(lam), optimal, either_input)} for lam in grid]


def control_error(hypernetwork: Hypernetwork, optimal: Genotype, either_input: bool = False) -> float:
    """Mean |lambda - shared edges| over lambda = 0, 1, ..., Lambda: 0 is perfect control of the diversity.

    `either_input` as in `shared_edges`.

    Example:
        >>> import torch
        >>> from edgenes import Hypernetwork, SearchSpace, control_error
        >>> hypernetwork = Hypernetwork(SearchSpace(), generator=torch.Generator().manual_seed(0))  # not trained
        >>> control_error(hypernetwork, hypernetwork.genotype(4)) > 0.5
        True
    """
    curve = control_curve(hypernetwork, optimal, either_input=either_input)
    return sum(abs(point["lambda"] - point["shared"]) for point in curve) / len(curve)


CONTROL_LIMIT = 0.25
"""Largest mean |lambda - shared edges| of a hypernetwork that counts as controlled, and may win."""


@dataclass(frozen=True)
class Candidate:
    """A genotype with the lambda it was drawn at, by argmax or as a sample."""

    genotype: Genotype
    lam: float
    source: str


def draw_candidates(
    hypernetwork: Hypernetwork,
    count: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float | None = None,
    max_draws: int = 200,
    functions: bool = False,
    same_inputs: bool = False,
) -> list[Candidate]:
    """Up to `count` distinct genotypes at lambda stratified over [low, high] (default: [0, Lambda]), in drawing order.

    With `functions` no two of them compute the same function (`edgenes.space.encoding.canonical`); `same_inputs` says
    that a cell's two inputs carry the same data, as in networks of one cell.

    The argmax genotypes on an even grid come first, both ends included; then genotypes are sampled, stratum after
    stratum, until there are enough or `max_draws` draws were made: a hypernetwork that collapsed gives fewer.

    Example:
        >>> import torch
        >>> from edgenes import Hypernetwork, SearchSpace, draw_candidates
        >>> generator = torch.Generator().manual_seed(0)
        >>> hypernetwork = Hypernetwork(SearchSpace(), generator=generator)
        >>> candidates = draw_candidates(hypernetwork, 8, generator)
        >>> len({candidate.genotype for candidate in candidates})
        8
    """
    high = hypernetwork.space.max_edges if high is None else high
    found: dict[Genotype, Candidate] = {}
    for draw in range(max(max_draws, count)):
        if len(found) == count:
            break
        if draw < count:
            lam = low + (high - low) * (draw / (count - 1) if count > 1 else 0.5)
            genotype, source = hypernetwork.genotype(lam), "argmax"
        else:
            within = torch.rand((), generator=generator).item()
            lam = low + (high - low) * (draw % count + within) / count
            genotype, source = hypernetwork.sample_genotypes(lam, 1, generator)[0], "sample"
        found.setdefault(canonical(genotype, same_inputs) if functions else genotype, Candidate(genotype, lam, source))
    return list(found.values())
