"""Compare the paper's methods and those of the field: accuracy, NLL, ECE of ensemble and members, and costs (Table 3).

python studies/methods.py                            # digits, embedded: minutes on a laptop
python studies/methods.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ComparisonConfig


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(ComparisonConfig):
    """All methods at one retraining budget: what each finds, and what it costs."""

    NAME: ClassVar[str] = "methods"


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(MethodsConfig, __doc__)

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from edgenes.methods.baselines import METHODS
from edgenes.methods.trainer import Member
from edgenes.space.genotype import Genotype
from edgenes.training.collapse import parameter_free
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.methods import label, method_comparisons, run_methods
from tune_jobs.experiments.tables import comparison_table, verdicts
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame
from tune_jobs.report.statistics import AMOUNT, SHARE, mean_text, one_test_set

REFERENCE = METHODS["edge-nes"].label


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles on T, all of which are chosen by then."""
    runs = run_methods(experiment)
    ensembles = {job["name"]: [Member.from_dict(member) for member in result["members"]] for job, result in runs}
    return findings(methods_frame(runs, experiment.evaluate(ensembles)), len(experiment.run.data.test))


def methods_frame(runs: list[tuple[dict, dict]], tested: dict[str, dict]) -> pd.DataFrame:
    """One row a method and seed: scores of the ensemble and the mean of its members' on T, V's scores, costs."""
    rows = []
    for job, result in runs:
        test = tested[job["name"]]
        genotypes = [Genotype.from_dict(member["genotype"]) for member in result["members"]]
        row = {
            "method": label(job),
            "seed": job["seed"],
            "members": len(genotypes),
            "pool": result["pool"],
            "parameter_free": float(np.mean([parameter_free(one) / one.space.max_edges for one in genotypes])),
            "validation_accuracy": result["validation_accuracy"],
            "validation_nll": result["validation_nll"],
        }
        for score in ("accuracy", "nll", "ece"):
            row[f"test_{score}"] = test["ensemble"][score]
            row[f"member_{score}"] = float(np.mean([member[score] for member in test["members"]]))
        for part in ("search", "retraining"):
            row |= {f"{part}_{unit}": value for unit, value in result[part].items()}
        rows.append(row)
    return pd.DataFrame(rows)


def findings(frame: pd.DataFrame, test_images: int) -> Findings:
    """Conclusions, table and pictures of a `methods_frame`, whose T has so many images."""
    loss = interval_frame(frame, ["method"], "test_nll", AMOUNT)
    accuracy = interval_frame(frame, ["method"], "test_accuracy", SHARE)
    compared = method_comparisons(frame, "test_nll", REFERENCE)
    return Findings(
        "Methods (Table 3)",
        conclusions(frame),
        [
            Section(
                "Loss on test data",
                "Negative log-likelihood of the ensemble, less is better. Mean over independent searches with its 95% "
                "interval (bootstrap over searches, widened for few of them as Student's t is). Where the pool is "
                "larger than the ensemble, its members were chosen on V; DartsEns and DeepEns train what they need "
                "and choose nothing. Equal cost: the method has a pool so large that its floating-point operations, "
                "of searches, short and full retrainings, are EdgeNES's. Pools, skips: the share of the members' edges "
                "without parameters; of random genotypes 0.43.",
                dots_figure(loss, "method", "test NLL of the ensemble", "Methods, loss", REFERENCE),
                table(frame),
            ),
            Section(
                "Differences to EdgeNES",
                "Of test NLL, method less EdgeNES, search by search: above 0, EdgeNES is better.",
                table=comparison_table(compared, "method", places=4),
            ),
            Section(
                "Accuracy on test data",
                one_test_set(frame["test_accuracy"].mean(), test_images),
                dots_figure(accuracy, "method", "test accuracy of the ensemble", "Methods, accuracy", REFERENCE),
            ),
            Section(
                "Cost",
                "Steps of optimisers; thousands of images that passed forward; floating-point operations of "
                "convolutions and linear layers, backward passes included; wall-clock seconds of the machine that "
                "computed it. The search holds what came before the first full retraining; what methods have in common "
                "is counted for each of them.",
                table=costs(frame),
            ),
        ],
        {"methods": frame, "nll": loss, "accuracy": accuracy},
    )


def conclusions(frame: pd.DataFrame) -> list[str]:
    """What the comparisons with EdgeNES say: test NLL first, then accuracy."""
    losses, shares = (method_comparisons(frame, score, REFERENCE) for score in ("test_nll", "test_accuracy"))
    if not losses:
        return ["EdgeNES was not run, or nothing beside it, so that nothing is compared with it."]
    said = verdicts(losses, REFERENCE, "Test NLL: ", points=False)
    return said + verdicts(shares, REFERENCE, "Test accuracy: ")


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals of the scores, a row a method."""
    share, amount = partial(mean_text, within=SHARE), partial(mean_text, within=AMOUNT)
    columns = {
        "ensemble": ("test_accuracy", share),
        "mean member": ("member_accuracy", share),
        "NLL": ("test_nll", amount),
        "members' NLL": ("member_nll", amount),
        "ECE": ("test_ece", share),
        "members' ECE": ("member_ece", share),
        "members of pool": ("members", "max"),
        "pool": ("pool", "max"),
        "pools, skips": ("parameter_free", lambda shares: f"{shares.mean():.2f}"),
    }
    shown = frame.groupby("method", sort=False, as_index=False).agg(**columns)
    shown["members of pool"] = shown["members of pool"].astype(str) + " of " + shown.pop("pool").astype(str)
    return shown


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean cost of each method, search and retraining apart."""
    units = {
        "steps": ("steps", 1, 0),
        "images": ("images, k", 1e3, 1),
        "operations": ("GFLOP", 1e9, 1),
        "seconds": ("s", 1, 1),
    }
    means = frame.groupby("method", sort=False).mean(numeric_only=True)
    shown = {("", "method"): means.index}
    for part in ("search", "retraining"):
        for unit, (title, scale, places) in units.items():
            shown[part, title] = (means[f"{part}_{unit}"] / scale).round(places).to_numpy()
    return pd.DataFrame(shown).astype({("search", "steps"): int, ("retraining", "steps"): int})


if __name__ == "__main__":
    sys.exit(experiment_main(MethodsConfig, __doc__, study))
