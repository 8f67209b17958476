"""Methods run with every seed at one retraining budget, and compared with one of them."""

from typing import Any

import pandas as pd

from edgenes.methods.baselines import METHODS
from edgenes.methods.catalogue import POOLED, run_method, with_cost
from edgenes.metrics import ensemble_probabilities, summary
from tune_jobs.experiments.jobs import Job, jobs_by_seed
from tune_jobs.report.statistics import Comparison, compare, corrected

COSTS_OF = "edge-nes"
"""The method whose cost the others are given."""
EQUAL_COST = ", equal cost"


def run_methods(experiment: Any) -> list[tuple[Job, Job]]:
    """Each method of the configuration with each seed: jobs and results.

    Methods that choose from a pool run twice: with EdgeNES's pool, as in the paper, and at EdgeNES's whole cost.
    """
    config = experiment.config
    jobs = jobs_by_seed({method: {"method": method} for method in config.methods}, config.seeds)
    runs = list(zip(jobs, experiment.map("methods", one_run, jobs), strict=True))
    spent = {job["seed"]: _operations(result) for job, result in runs if job["method"] == COSTS_OF}
    again = [
        {**job, "name": f"{job['method']}{EQUAL_COST} seed {job['seed']}", "operations": spent[job["seed"]]}
        for job in jobs
        if job["method"] in POOLED and spent
    ]
    if again:
        runs += zip(again, experiment.map("equal cost", one_run, again), strict=True)
    return runs


def one_run(job: Job, bench: Any) -> Job:
    """A method's run with one seed, at `operations` where the job has them: members, scores on V, costs."""
    setting = bench.of_seed(job["seed"])
    if "operations" in job:
        setting = with_cost(setting, job["method"], bench.data, job["operations"])
    outcome = run_method(job["method"], setting, bench.trainer)
    found = summary(ensemble_probabilities(outcome.predictions), bench.data.validation.labels)
    return {
        "members": [member.to_dict() for member in outcome.members],
        "pool": len(outcome.pool),
        "networks": [member.to_dict() for member in outcome.pool],
        "validation_accuracy": found["accuracy"],
        "validation_nll": found["nll"],
        "search": vars(outcome.search),
        "retraining": vars(outcome.retraining),
        "note": f"validation accuracy {found['accuracy']:.3f}, NLL {found['nll']:.3f}",
    }


def label(job: Job) -> str:
    """The method's name in tables."""
    return METHODS[job["method"]].label + (EQUAL_COST if "operations" in job else "")


def method_comparisons(frame: pd.DataFrame, score: str, reference: str) -> dict[str, Comparison]:
    """Each method's paired comparison with the reference, corrected together by Holm; {} where that was not run.

    Searches in which one of the two has no score are left out.
    """
    wide = frame.pivot(index="seed", columns="method", values=score)
    if reference not in wide:
        return {}
    pairs = {name: wide[[reference, name]].dropna() for name in frame["method"].unique() if name != reference}
    return corrected(
        {name: compare(both[reference], both[name], paired=True) for name, both in pairs.items() if len(both)}
    )


def _operations(result: Job) -> int:
    return result["search"]["operations"] + result["retraining"]["operations"]
