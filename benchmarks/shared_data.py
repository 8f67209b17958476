"""What a data set costs a node: each worker's own memory, with a small and a large data set, and the object store's.

`python -m benchmarks shared_data` prints a table. Synthetic images go through an .npz file and `load_data`, as a
person's do, and reach the workers as in a sweep: real Tune trials, all at once, each of which takes steps of the search
and of a retraining on them and predicts. A worker's own memory is what it shares with no other process (Private_Clean
and Private_Dirty of /proc/self/smaps_rollup). The last row is the same with a copy made on purpose.
"""

import gc
import io
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from ray import tune
from rich.console import Console

from benchmarks.printing import machine, spread, table
from edgenes.data.batches import DeviceData
from edgenes.data.dataset import Dataset
from edgenes.data.loading import load_data
from edgenes.training.bilevel import Bilevel
from edgenes.training.retraining import predict
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.resources import live_nodes
from tune_jobs.execution.run import Run
from tune_jobs.execution.worker import send
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.messages import Report, Status
from tune_jobs.progress.display import Progress
from tune_jobs.watch.callbacks import Watch

MIB = 2**20
SHAPE = (32, 32, 3)
CONFIG = {"nodes": 2, "search_channels": 2, "channels": 2, "cells": 1}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the memory of workers that share a data set."""

    workers: tuple[int, ...] = (2, 4)
    """Workers at once."""
    megabytes: tuple[int, ...] = (8, 400)
    """MiB of the training images."""


def write_images(path: Path, megabytes: int) -> None:
    """An .npz of random images."""
    rng = np.random.default_rng(0)
    count = megabytes * MIB // int(np.prod(SHAPE))
    arrays: dict[str, Any] = {}
    for half, size in (("train", count), ("test", max(100, count // 10))):
        arrays[f"x_{half}"] = rng.integers(0, 256, (size, *SHAPE), dtype=np.uint8)
        arrays[f"y_{half}"] = np.arange(size) % 10
    np.savez(path, **arrays)


def own_memory() -> float:
    """MiB that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def use(config: dict[str, Any], data: Dataset, together: Path, workers: int, copy: bool) -> None:
    """Use the data as a trial does; report this worker's own memory while all the others do too."""
    torch.set_num_threads(1)
    copies = [np.array(part.images) for part in (data.training, data.validation)] if copy else []
    loop = Bilevel(SweepConfig.of(**CONFIG).setting("cpu").search, data)
    generator = torch.Generator().manual_seed(0)
    training = DeviceData(data.training, data, "cpu")
    for (images, labels), _ in zip(loop.batches(), range(5), strict=False):
        network = loop.supernet.as_network(loop.fair.next(), images)
        torch.nn.functional.cross_entropy(network(next(training.epoch(64, generator))[0]), labels).backward()
    predict(network, data.validation, data)
    pages = sum(int(part.images.sum(dtype=int)) for part in (data.training, data.validation))  # all are read
    gc.collect()
    (together / f"{os.getpid()}").touch()
    while len(list(together.iterdir())) < workers:
        time.sleep(0.05)
    found = {"own": own_memory(), "pages": pages, "copies": len(copies)}
    send(Report(status=Status.COMPLETE, attributes=found))


def measured(data: Dataset, workers: int, copy: bool, folder: Path) -> tuple[list[float], float]:
    """(own MiB of each worker, MiB in the node's object store)."""
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        config = SweepConfig.of(out=folder, **CONFIG)
        progress = Progress(console=Console(file=io.StringIO()))
        files = StudyFiles(config.folder)
        run = Run(config.execution, data, progress, lambda: None, live_nodes(), files, Watch(folder))
        together = Path(tempfile.mkdtemp(dir=folder))
        total = ray.cluster_resources()["object_store_memory"]
        parameters = {"data": run.data_ref, "together": together, "workers": workers, "copy": copy}
        space = {"worker": tune.grid_search(list(range(workers)))}
        with progress.stage("Memory", workers):
            outcomes = run.tune("memory", use, space, lambda trial: trial.trial_id, parameters)
        held = (total - ray.available_resources()["object_store_memory"]) / MIB
        return [outcome.attributes["own"] for outcome in outcomes], held
    finally:
        ray.shutdown()


def main(options: Options) -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        kinds = [(megabytes, False) for megabytes in options.megabytes] + [(options.megabytes[-1], True)]
        for megabytes, copy in kinds:
            path = Path(place) / "images.npz"
            write_images(path, megabytes)
            data = load_data(path)
            held = sum(part.images.nbytes for part in (data.training, data.validation)) / MIB
            for workers in options.workers:
                own, stored = measured(data, workers, copy, Path(place))
                name = f"{held:.0f}" + (", copied on purpose" if copy else "")
                rows.append((name, f"{workers}", f"{len(own)}", spread(own, 0), f"{stored:.0f}"))
    print(f"Median [smallest, largest] over the workers; {machine('ray')}\n")
    print(table(["data, MiB", "workers", "n", "own memory of a worker, MiB", "object store of the node, MiB"], rows))
