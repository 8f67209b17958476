"""What a trial takes of memory, measured by dry steps where it will run, and the share of a GPU that follows."""

import dataclasses
import functools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from edgenes.data.dataset import Dataset, Part
from edgenes.errors import ConfigError, EdgeNESError, OutOfMemoryError
from edgenes.methods.budget import Setting
from edgenes.space.genotype import Edge, Genotype, SearchSpace
from edgenes.space.logits import ArchitectureLogits
from edgenes.training.bilevel import Bilevel
from edgenes.training.memory import is_out_of_memory
from edgenes.training.retraining import PREDICTION_BATCH, at_once, predict, train_networks
from tune_jobs.execution.process import leave_out_compiler
from tune_jobs.execution.resources import UNIT, trials_on
from tune_jobs.messages import Report

if TYPE_CHECKING:
    import ray

CONTEXT = 2**29
"""Bytes of a card that a process takes by being there: CUDA's context and its libraries."""
HEADROOM = 1.2
"""Memory reserved for a trial over what was measured: for other genotypes, and for fragmentation."""
MOST = 100
"""Trials on one card; of more, Ray's ten-thousandths no longer tell one number from the next."""
MEASURING_SECONDS = 600.0
"""Limit of a measurement, its wait for a free GPU included."""
WAITING_SECONDS = 300.0
"""How long a trial waits for its GPU's memory."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a trial: on its GPU (0 without one) out of those of the card, and in its node's memory."""

    device: int
    card: int
    host: int

    @property
    def share(self) -> float:
        """The share of the card that a trial should be given: 1 / k, or 0 without a GPU."""
        return share_of_card(self.device, self.card) if self.card else 0.0

    @property
    def memory(self) -> int:
        """Bytes of the node's memory that a trial should be given."""
        return int(self.host * HEADROOM)


def share_of_card(needed: int, card: int) -> float:
    """1 / k for the most trials of `needed` bytes that a card of `card` bytes holds; the whole card, if none.

    Each trial is counted with its CONTEXT and HEADROOM, and k is at most MOST. Rounded down to what Ray can tell
    apart: six sixths, each rounded up, would be more than a card.
    """
    trials = int(card / ((needed + CONTEXT) * HEADROOM))
    return UNIT // max(1, min(trials, MOST)) / UNIT


def largest(footprints: list[Footprint]) -> Footprint:
    """What to count with on all nodes: the largest trial, the smallest card."""
    return Footprint(
        device=max(footprint.device for footprint in footprints),
        card=min(footprint.card for footprint in footprints),
        host=max(footprint.host for footprint in footprints),
    )


def dry_step(setting: Setting, data: Dataset) -> tuple[Bilevel, Callable[[], None]]:
    """The search of the setting as it begins, and a function that takes one step of it."""
    loop, space, device = Bilevel(setting.search, data), setting.space, setting.search.device
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    alpha, beta = (torch.zeros(size, device=device, requires_grad=True) for size in (shape, shape[:2]))
    logits = ArchitectureLogits(alpha, beta)
    images, labels = loop.weights.draw(setting.search.batch_size, loop.generator)

    def step() -> None:
        loop.architecture_loss(logits, 1.0)[0].backward()
        loop.weight_step(images, labels, logits.detach(), 1.0)

    return loop, step


def peak_bytes(device: str) -> int:
    """The most memory that this process has held: of the GPU, or on the CPU of the machine."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux


def trial_bytes(setting: Setting, data: Dataset, supernet: bool = True, peak: Callable[[str], int] = peak_bytes) -> int:
    """The most memory of its device that a trial holds: `peak(device)` after dry steps of all that a trial does.

    A `supernet` takes steps until each operation has had its turn, and stays in memory, as in a trial, while every
    kind of network takes a step of its retraining and predicts. Raises what a trial would, out of memory included.
    """
    space, device = setting.space, setting.search.device
    if supernet:
        _, step = dry_step(setting, data)
        for _ in range((space.nodes + 1) * len(space.operations)):
            step()
    few = dataclasses.replace(data, training=_first(data.training, setting.training.batch_size), split=1)
    some = _first(data.validation, PREDICTION_BATCH)
    short = dataclasses.replace(setting.training, epochs=1)
    count = at_once(short, data, 1) if device == "cuda" else 1
    for operation in space.operations:
        networks = train_networks([short] * count, few, [uniform_genotype(space, operation)] * count)
        predict(networks[0], some, data, device)
    return peak(device)


def _first(part: Part, count: int) -> Part:
    return Part(part.images[:count], part.labels[:count])


def uniform_genotype(space: SearchSpace, operation: str) -> Genotype:
    """The genotype with one operation everywhere, on the first inputs of each node."""
    node = tuple(Edge(k, operation) for k in range(space.inputs_per_node))
    return Genotype(space, ((node,) * space.nodes,) * len(space.cell_types))


def trial_footprint(setting: Setting, data: Dataset, cpus: int, supernet: bool) -> Footprint:
    """What a trial takes, measured in this process; one that runs out of the card's memory takes the whole card."""
    leave_out_compiler()  # as in a trial
    torch.set_num_threads(cpus)
    card = torch.cuda.get_device_properties(0).total_memory if setting.search.device == "cuda" else 0
    try:
        measured = trial_bytes(setting, data, supernet)
    except Exception as error:
        if not card or not is_out_of_memory(error):
            raise
        measured = card  # a trial then does with half the batch at a time
    return Footprint(measured if card else 0, card, peak_bytes("cpu"))


def measure(setting: Setting, data: "ray.ObjectRef", cpus: int, supernet: bool = True) -> Footprint:
    """What to count with for a trial: measured on each node with a GPU, or on any node where the device is the CPU.

    Raises ConfigError if that takes longer than MEASURING_SECONDS, or what a trial would.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # With max_calls its process, and what that holds of a card, ends with the task.
    task = ray.remote(num_cpus=cpus, max_calls=1, max_retries=0)(trial_footprint)
    tasks = [task]
    if setting.search.device == "cuda":
        asked = {"CPU": cpus, "GPU": 1}
        there = [node["NodeID"] for node in ray.nodes() if node["Alive"] and trials_on(node["Resources"], asked)]
        places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in there]
        tasks = [task.options(num_gpus=1, scheduling_strategy=place) for place in places]
    measuring = [task.remote(setting, data, cpus, supernet) for task in tasks]
    try:
        return largest(ray.get(measuring, timeout=MEASURING_SECONDS))
    except ray.exceptions.GetTimeoutError:
        for one in measuring:
            ray.cancel(one)
        raise ConfigError(
            f"a trial's memory was not measured within {MEASURING_SECONDS:.0f} seconds; are all GPUs taken? "
            "Give --gpus-per-trial a number."
        ) from None
    except ray.exceptions.RayError as error:  # that of a task, or of the worker that was to run it
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, EdgeNESError):
            raise cause from None
        reason = str(cause).strip().splitlines()[-1:] or [""]
        raise ConfigError(
            f"a trial's memory could not be measured ({type(cause).__name__}: {reason[0]}). "
            "Give --gpus-per-trial a number, or lower --batch-size or the channels."
        ) from None


def wait_for_memory(needed: int, free: Callable[[], int], seconds: float = WAITING_SECONDS, pause: float = 1.0) -> None:
    """Return as soon as `free()` is at least `needed` bytes; raises OutOfMemoryError if that takes too long."""
    deadline = time.monotonic() + seconds
    while (there := free()) < needed:
        if time.monotonic() >= deadline:
            raise OutOfMemoryError(
                f"the GPU had {there / 2**30:.2f} GiB of memory free and a trial needs {needed / 2**30:.2f} GiB, for "
                f"{seconds:.0f} seconds. Another program uses the card (see nvidia-smi): end it, or lower --batch-size."
            )
        time.sleep(pause)


def when_memory_is_free(
    trainable: Callable,
    share: float,
    needed: int,
    probe: Callable[[], tuple[int, int]] = torch.cuda.mem_get_info,
    seconds: float = WAITING_SECONDS,
) -> Callable:
    """The trainable, which first waits for the memory of the GPU that it was given a `share` of.

    `probe()` says the card's free bytes and all of them. `needed` are the bytes that were measured; where that is 0,
    half of the share has to be free. A trial for which that takes longer than `seconds` fails with the reason.
    """
    from tune_jobs.execution.worker import outcome_of, send

    def wait() -> Report:
        wait_for_memory(needed or int(min(share, 1) * probe()[1] / 2), lambda: probe()[0], seconds)
        return Report()

    @functools.wraps(trainable)
    def waiting(config: dict[str, Any], **parameters: Any) -> None:
        waited = outcome_of(wait)
        if waited.status is not None:
            send(waited)
        else:
            trainable(config, **parameters)

    return waiting
