"""What a search and a retraining cost, told by their configurations: the same on every machine and for cached work."""

from dataclasses import dataclass, fields

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data import Dataset


@dataclass(frozen=True)
class Work:
    """Optimisation steps (of weights and of architecture), images that passed forward, and seconds.

    An image that passes along `score`'s M paths counts M times; a mixture's pass, which is many times as dear, once.
    Seconds are the wall clock's of whoever computed it, perhaps on a busy machine.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __radd__(self, other: int) -> "Work":
        return self  # sum() begins with 0


def search_work(config: SearchConfig, data: Dataset, seconds: float = 0.0, epochs: int | None = None) -> Work:
    """A DARTS search, or a hypernetwork's training; `epochs` are those of one that ended early."""
    epochs = config.epochs if epochs is None else epochs
    batches = max(1, len(data.weights) // config.batch_size)
    first = next((e for e in range(epochs) if e >= config.warmup * config.epochs), epochs)
    learning = (epochs - first) * batches
    scored = config.forward == "sampled" and config.gradient == "score"
    looks = config.paths * config.path_batch if scored else config.batch_size
    if config.second_order:
        looks += 3 * config.batch_size  # the unrolled step's passes: one on W, two of the finite difference
    # Without a look at the images the penalty alone moves the hypernetwork, so that its warm-up has those steps too.
    moves = epochs * batches if isinstance(config, HypernetworkConfig) else learning
    return Work(epochs * batches + moves, epochs * batches * config.batch_size + learning * looks, seconds)


def retraining_work(config: TrainingConfig, data: Dataset, seconds: float = 0.0) -> Work:
    """A network trained from scratch."""
    steps = config.epochs * max(1, len(data.training) // config.batch_size)
    return Work(steps, steps * config.batch_size, seconds)
