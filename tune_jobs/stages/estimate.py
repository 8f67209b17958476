"""What a study will take, from a few measured steps: trials, hours, memory, disk."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from edgenes.data.dataset import Dataset
from edgenes.methods.catalogue import equal_count
from edgenes.training.retraining import at_once, train_networks
from tune_jobs.config.genotype_file import read_genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.footprint import dry_step, trial_footprint
from tune_jobs.execution.resources import trials_on
from tune_jobs.progress.text import size_text

MEASURED = 4
"""The most networks whose epoch is measured."""
REPEATS = 3
GUIDED_SECONDS = 2.0
"""What a hypernetwork takes whose guide is a predictor, whatever the images."""


def full_retrainings(config: SweepConfig) -> int:
    """The full retrainings of a study at most: its finalists' candidates, the optimal genotype's, the random ones."""
    candidates, seeds = config.budget.candidates * config.seeds_per_candidate, config.budget.ensemble_size
    random = equal_count(config.setting("cpu"), config.guided, candidates + seeds) if config.baselines else 0
    return config.finalists * candidates + seeds + random


def surveyed_retrainings(config: SweepConfig) -> int:
    """The short retrainings of the survey, on W alone; 0 without a predictor."""
    return min(config.budget.survey, config.space.genotypes) * config.guided


def prediction_bytes(config: SweepConfig, data: Dataset) -> tuple[int, int, str]:
    """Bytes of the study's predictions on disk at most, and in memory while an ensemble is chosen; both in words.

    On disk they are float32 and read as a map; an ensemble is chosen among one pool in float64, without copies of it.
    """
    short = 0 if config.value == "one-shot" else config.trials * config.budget.candidates
    networks = short + full_retrainings(config)
    pool = config.budget.candidates * config.seeds_per_candidate + config.budget.ensemble_size
    table = len(data.validation) * data.classes * 4
    surveyed = surveyed_retrainings(config)
    disk, memory = networks * table + surveyed * len(data.architecture) * data.classes * 4, 2 * pool * table
    survey = f" and of {surveyed} networks of the survey, {len(data.architecture)} images" if surveyed else ""
    text = (
        f"predictions of at most {networks} candidates, {len(data.validation)} images{survey}, x {data.classes} "
        f"classes x 4 bytes: {size_text(disk)} on disk, {size_text(memory)} in memory while an ensemble is chosen "
        f"among {pool}"
    )
    return disk, memory, text


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
    """Measure an epoch of retraining, and a step of the search if there is one, and say what the study takes.

    Nothing is written. Raises ConfigError and DataError as the study itself would.
    """
    budget, execution = config.budget, config.execution
    device = "cuda" if execution.device != "cpu" and torch.cuda.is_available() else "cpu"
    setting = config.setting(device)
    if config.genotype_file:
        read_genotype(config.genotype_file, config.space)
    data = config.load()
    footprint = trial_footprint(setting, data, execution.cpus_per_trial, config.trains_supernet)
    search_epoch, measured = 0.0, ""
    if config.trains_supernet or config.optimal_by == "halving":  # which takes as long as a search
        loop, step = dry_step(setting, data)
        seconds = _seconds(step)
        search_epoch, measured = seconds * loop.steps, f"one step of the supernet {seconds * 1e3:.0f} ms, "
    one_epoch = replace(setting.training, epochs=1)
    genotypes = setting.random_genotypes(
        min(MEASURED, at_once(one_epoch, data, execution.cpus_per_trial), setting.space.genotypes)
    )
    start = time.perf_counter()
    network, *_ = train_networks([one_epoch] * len(genotypes), data, genotypes)
    epoch = (time.perf_counter() - start) / len(genotypes)

    full = full_retrainings(config)
    on_weights = epoch * len(data.weights) / len(data.training)
    searched = budget.search_epochs * search_epoch if config.optimal_by in ("darts", "halving") else 0.0
    surveyed = surveyed_retrainings(config)
    survey = surveyed * budget.survey_epochs * on_weights
    hypernetwork = GUIDED_SECONDS if config.guided else budget.hypernetwork_epochs * search_epoch
    trial = hypernetwork + budget.candidates * budget.short_epochs * epoch
    share = footprint.share if execution.gpus_per_trial == "auto" else execution.gpus_per_trial or 1
    here = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
    workers = max(1, trials_on(here, {"CPU": execution.cpus_per_trial, "GPU": share if device == "cuda" else 0}))
    workers = min(workers, execution.max_concurrent or workers)
    parallel = survey + config.trials * trial + full * budget.final_epochs * epoch
    minutes = (searched + parallel / workers) / 60
    whole = f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} hours"
    peak = footprint.host / 2**30
    megabytes = sum(p.numel() for p in network.parameters()) * 4 / 2**20
    predictions, _, said = prediction_bytes(config, data)
    disk = full * megabytes + predictions / 2**20 + config.trials
    on_card = f", {footprint.device / 2**30:.1f} GiB of a GPU for each" if footprint.card else ""
    return (
        f"{config.trials} trials on {data.name}, {workers} at once on this machine's {device}\n"
        f"  {measured}one epoch of retraining {epoch:.1f} s\n"
        f"  the optimal genotype about {(searched + survey / workers) / 60:.1f} min, with {surveyed} short retrainings "
        "of the survey\n"
        f"  a trial about {trial / 60:.1f} min without cached candidates; {full} full retrainings at most\n"
        f"  whole study about {whole}, and some 20 seconds for each stage\n"
        f"  memory about {peak * workers:.1f} GiB for the workers ({peak:.1f} GiB each){on_card}, "
        f"disk about {disk:.0f} MiB\n"
        f"  {said}"
    )
