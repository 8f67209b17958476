"""Compare the paper's methods and those of the field: accuracy, NLL, ECE of ensemble and members, and costs (Table 3).

python studies/methods.py                            # digits, embedded: minutes on a laptop
python studies/methods.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
from dataclasses import dataclass
from typing import ClassVar

from edgenes.errors import ConfigError
from edgenes.methods.baselines import METHODS
from edgenes.validation import check_choice
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(ExperimentConfig):
    """All methods at one retraining budget: what each finds, and what it costs."""

    NAME: ClassVar[str] = "methods"

    methods: tuple[str, ...] = tuple(METHODS)
    """The methods to compare; your own ones are added by edgenes.register_method."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))  # one named twice is run once
        if not self.methods:
            raise ConfigError(f"methods must name at least one of {', '.join(METHODS)}.")
        for name in self.methods:
            check_choice("methods", name, tuple(METHODS))


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(MethodsConfig, __doc__)

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from edgenes.methods.catalogue import run_method
from edgenes.methods.result import Member
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.space.genotype import Genotype
from edgenes.training.collapse import parameter_free
from tune_jobs.experiments import Findings, Section, experiment_main, jobs_by_seed, verdicts
from tune_jobs.report.interval_figures import dots_figure, interval_frame
from tune_jobs.report.statistics import AMOUNT, SHARE, compare, corrected, mean_text, one_test_set


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """A method's run with one seed: members, the ensemble's accuracy on V, costs."""
    outcome = run_method(job["method"], bench.of_seed(job["seed"]), bench.trainer)
    found = summary(ensemble_probabilities(outcome.predictions), bench.data.validation.labels)
    return {
        "members": [member.to_dict() for member in outcome.members],
        "pool": len(outcome.pool),
        "validation_accuracy": found["accuracy"],
        "search": vars(outcome.search),
        "retraining": vars(outcome.retraining),
        "note": f"validation accuracy {found['accuracy']:.3f}",
    }


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles on T, all of which are chosen by then."""
    config = experiment.config
    jobs = jobs_by_seed({method: {"method": method} for method in config.methods}, config.seeds)
    results = experiment.map("methods", one_run, jobs)
    ensembles = {
        job["name"]: [Member.from_dict(member) for member in result["members"]]
        for job, result in zip(jobs, results, strict=True)
    }
    return findings(methods_frame(jobs, results, experiment.evaluate(ensembles)), len(experiment.run.data.test))


def methods_frame(jobs: list[dict], results: list[dict], tested: dict[str, dict]) -> pd.DataFrame:
    """One row a method and seed: scores of the ensemble and the mean of its members' on T, V's accuracy, costs."""
    rows = []
    for job, result in zip(jobs, results, strict=True):
        test = tested[job["name"]]
        genotypes = [Genotype.from_dict(member["genotype"]) for member in result["members"]]
        row = {
            "method": METHODS[job["method"]].label,
            "seed": job["seed"],
            "members": len(genotypes),
            "pool": result["pool"],
            "parameter_free": float(np.mean([parameter_free(one) / one.space.max_edges for one in genotypes])),
            "validation_accuracy": result["validation_accuracy"],
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
    accuracy = interval_frame(frame, ["method"], "test_accuracy", SHARE)
    return Findings(
        "Methods (Table 3)",
        conclusions(frame),
        [
            Section(
                "Accuracy on test data",
                "Mean over independent searches with its 95% interval (bootstrap over searches, widened for few of "
                "them as Student's t is). Where the pool is larger than the ensemble, its members were chosen on V; "
                "DartsEns and DeepEns train what they need and choose nothing. Pools, skips: the share of the members' "
                "edges without parameters; of random genotypes 0.43. "
                + one_test_set(frame["test_accuracy"].mean(), test_images),
                dots_figure(accuracy, "method", "test accuracy of the ensemble", "Methods", METHODS["edge-nes"].label),
                table(frame),
            ),
            Section(
                "Cost",
                "Steps of optimisers; thousands of images that passed forward; floating-point operations of "
                "convolutions and linear layers, backward passes included (Halving may spend what EdgeNES would if its "
                "candidates cost as much as random genotypes); wall-clock seconds of the machine that computed "
                "it. The search holds what came before the first full retraining; what methods have in common is "
                "counted for each of them.",
                table=costs(frame),
            ),
        ],
        {"methods": frame, "accuracy": accuracy},
    )


def conclusions(frame: pd.DataFrame) -> list[str]:
    """What the paired comparisons with EdgeNES say, corrected together by Holm."""
    wide = frame.pivot(index="seed", columns="method", values="test_accuracy")
    reference = METHODS["edge-nes"].label
    if reference not in wide:
        return ["EdgeNES was not run, so that nothing is compared with it."]
    others = [name for name in frame["method"].unique() if name != reference]
    compared = corrected({name: compare(wide[reference], wide[name], paired=True) for name in others})
    return verdicts(compared, reference)


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
