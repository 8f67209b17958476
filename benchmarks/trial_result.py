"""What a trial of a sweep reports last, with the content of a real one."""

import numpy as np
import torch

from edgenes import random_genotype
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.messages import Report, Status
from tune_jobs.study.space import search_space

CONFIG = SweepConfig()
SPACE = search_space(CONFIG.search.estimator)
REPORTS = CONFIG.budget.hypernetwork_epochs + CONFIG.budget.candidates


def result_of(number: int, rng: np.random.Generator) -> Report:
    """The last report of a trial, with attributes as large as a real trial's."""
    generator = torch.Generator().manual_seed(number)
    genotypes = [random_genotype(CONFIG.space, generator) for _ in range(CONFIG.budget.candidates)]
    shared = {"lambda": 0.5, "source": "sample", "shared": 3, "accuracy": 0.8}
    curve = [{"lambda": k / 10, "shared": int(rng.integers(5))} for k in range(10 * CONFIG.space.max_edges + 1)]
    attributes = {
        "candidates": [{"digest": each.digest, "genotype": each.to_dict(), **shared} for each in genotypes],
        "control_curve": curve,
        "hypernetwork": f"trials/{number:04d}-hypernetwork.pt",
        **dict.fromkeys(("control_error", "standard_error", "mean_accuracy", "nll", "seconds"), 0.5),
        **{"pool_size": len(genotypes), "cache_hits": 1},
    }
    value = 0.7 + 0.2 * np.sin(number) + 0.02 * rng.random()
    return Report(
        status=Status.COMPLETE,
        stage="candidates",
        step=REPORTS,
        steps=REPORTS,
        note=f"candidates, mean accuracy {value:.3f}, control error 0.10",
        value=value,
        control_error=0.1,
        intermediate=value,
        intermediate_step=CONFIG.budget.candidates,
        metrics={"candidate_accuracy": value},
        attributes=attributes,
    )
