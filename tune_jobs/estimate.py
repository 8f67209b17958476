"""What a study will take, from a few measured steps: trials, hours, memory, disk."""

import os
import resource
import time
from collections.abc import Callable

import torch

from edgenes.genotype import random_genotype
from edgenes.relaxation import ArchitectureLogits
from edgenes.search import Bilevel
from edgenes.training import train_network
from tune_jobs.config import SweepConfig
from tune_jobs.saved import load_study_data

REPEATS = 3


def _seconds(work: Callable[[], object]) -> float:
    """Median seconds of `work`, after one run that is not counted."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[REPEATS // 2]


def estimate(config: SweepConfig) -> str:
    """Measure a search step and a retraining epoch here, on one worker, and say what the whole study takes.

    Nothing is written. Raises ConfigError and DataError as the study itself would.
    """
    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(config.cpus_per_trial)
    data = load_study_data(config)
    loop = Bilevel(config.search_config(device), data)
    space = config.space
    shape = (len(space.cell_types), len(space.edges), len(space.operations))
    logits = ArchitectureLogits(
        torch.zeros(shape, device=device, requires_grad=True), torch.zeros(shape[:2], device=device, requires_grad=True)
    )
    images, labels = loop.weights.draw(config.batch_size, loop.generator)

    def step() -> None:
        loop.architecture_loss(logits, 1.0)[0].backward()
        loop.weight_step(images, labels, logits.detach(), 1.0)

    search_step = _seconds(step)
    genotype = random_genotype(space, torch.Generator().manual_seed(0))
    one_epoch = config.training_config(1, 0, device)
    start = time.perf_counter()
    network = train_network(one_epoch, data, genotype)
    epoch = time.perf_counter() - start

    pool = config.candidates * config.seeds_per_candidate
    full = config.finalists * pool + (config.ensemble_size + pool) * config.baselines
    search = config.search_epochs * loop.steps * search_step
    trial = config.hypernetwork_epochs * loop.steps * search_step + config.candidates * config.short_epochs * epoch
    workers = max(1, (os.cpu_count() or 1) // config.cpus_per_trial)
    workers = min(workers, config.max_concurrent or workers)
    if device == "cuda":
        workers = max(1, int(torch.cuda.device_count() / (config.gpus_per_trial or 1)))
    hours = (search + (config.trials * trial + full * config.final_epochs * epoch) / workers) / 3600
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    megabytes = sum(p.numel() for p in network.parameters()) * 4 / 2**20
    predictions = config.trials * config.candidates * len(data.validation) * data.classes * 4 / 2**20
    disk = full * megabytes + predictions + config.trials
    return (
        f"{config.trials} trials on {data.name}, {workers} at once on this machine's {device}\n"
        f"  one step of the search {search_step * 1e3:.0f} ms, one epoch of retraining {epoch:.1f} s\n"
        f"  a trial about {trial / 60:.1f} min without cached candidates; {full} full retrainings at most\n"
        f"  whole study about {hours:.2f} hours\n"
        f"  memory about {peak * workers:.1f} GiB for the workers ({peak:.1f} GiB each), disk about {disk:.0f} MiB"
    )
