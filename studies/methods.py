"""Compare the paper's methods and those of the field: accuracy, NLL, ECE of ensemble and members, and costs (Table 3).

python studies/methods.py                            # digits, embedded: minutes on a laptop
python studies/methods.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from edgenes.errors import ConfigError
from edgenes.methods.catalogue import METHODS, run_method
from edgenes.methods.result import Member
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.space.genotype import Genotype
from edgenes.training.collapse import parameter_free
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame
from tune_jobs.report.statistics import AMOUNT, SHARE, against, mean_estimate, one_test_set, sentence, undecided


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(ExperimentConfig):
    """All methods at one retraining budget: what each finds, and what it costs."""

    NAME: ClassVar[str] = "methods"

    methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """The methods to compare."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))  # one named twice is run once
        if not self.methods:
            raise ConfigError(f"methods must name at least one of {', '.join(METHODS)}.")


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """A method's run with one seed: members, their scores on V, costs."""
    outcome = run_method(job["method"], bench.of_seed(job["seed"]), bench.trainer)
    labels = bench.data.validation.labels
    found = summary(ensemble_probabilities(outcome.predictions), labels)
    return {
        "members": [member.to_dict() for member in outcome.members],
        "pool": [member.genotype.digest for member in outcome.pool],
        "validation": {"ensemble": found, "members": [summary(each, labels) for each in outcome.predictions]},
        "search": vars(outcome.search),
        "retraining": vars(outcome.retraining),
        "note": f"validation accuracy {found['accuracy']:.3f}",
    }


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles on T, all of which are chosen by then."""
    config = experiment.config
    jobs = [
        {"name": f"{method} seed {seed}", "method": method, "seed": seed}
        for seed in range(config.seeds)
        for method in config.methods
    ]
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
        row = {"method": METHODS[job["method"]].label, "seed": job["seed"], "members": len(result["members"])}
        for score in ("accuracy", "nll", "ece"):
            row[f"test_{score}"] = test["ensemble"][score]
            row[f"member_{score}"] = float(np.mean([member[score] for member in test["members"]]))
        row["pool"] = len(result["pool"])
        genotypes = [Genotype.from_dict(member["genotype"]) for member in result["members"]]
        row["parameter_free"] = float(np.mean([parameter_free(one) / one.space.max_edges for one in genotypes]))
        row["validation_accuracy"] = result["validation"]["ensemble"]["accuracy"]
        row |= {f"search_{name}": value for name, value in result["search"].items()}
        row |= {f"retraining_{name}": value for name, value in result["retraining"].items()}
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
                "Mean over independent searches with its 95% interval (bootstrap over searches, "
                "widened for few of them as Student's t is). Where the pool is "
                "larger than the ensemble, its members were chosen on V; DartsEns and DeepEns train what they need "
                "and choose nothing. Pools, skips: the share of the members' edges without parameters; of random "
                "genotypes 0.43. " + one_test_set(frame["test_accuracy"].mean(), test_images),
                dots_figure(accuracy, "method", "test accuracy of the ensemble", "Methods", METHODS["edge-nes"].label),
                table(frame),
            ),
            Section(
                "Cost",
                "Steps of optimisers; thousands of images that passed forward; floating-point operations of "
                "convolutions and linear layers, backward passes included (Halving may spend what EdgeNES would if its "
                "candidates cost as much as random genotypes); "
                "seconds of whoever computed it, perhaps on a busy machine. The search holds what came before the "
                "first full retraining; what methods have in common is counted for each of them.",
                table=costs(frame),
            ),
        ],
        {"methods": frame, "accuracy": accuracy},
    )


def conclusions(frame: pd.DataFrame, score: str = "test_accuracy") -> list[str]:
    """What the paired comparisons with EdgeNES say, corrected together by Holm."""
    wide = frame.pivot(index="seed", columns="method", values=score)
    reference = METHODS["edge-nes"].label
    if reference not in wide:
        return ["EdgeNES was not run, so that nothing is compared with it."]
    others = {name: wide[name] for name in dict.fromkeys(frame["method"]) if name != reference}
    compared = against(wide[reference], others, paired=True)
    told = [sentence(one, reference, name, points=True) for name, one in compared.items() if one.distinguishable]
    return told + undecided(compared, "Not distinguishable from EdgeNES at this budget", points=True)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals of the scores, a row a method."""
    columns = {
        "test_accuracy": "ensemble",
        "member_accuracy": "mean member",
        "test_nll": "NLL",
        "member_nll": "members' NLL",
        "test_ece": "ECE",
        "member_ece": "members' ECE",
    }
    rows = []
    for name, group in frame.groupby("method", sort=False):
        sizes = {"members of pool": f"{group['members'].max()} of {group['pool'].max()}"}
        sizes["pools, skips"] = f"{group['parameter_free'].mean():.2f}"
        told = {title: mean_estimate(group[column], within=_range(column)).told() for column, title in columns.items()}
        rows.append({"method": name, **told, **sizes})
    return pd.DataFrame(rows)


def _range(score: str) -> tuple[float, float]:
    return AMOUNT if score.endswith("nll") else SHARE


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean cost of each method in steps, thousands of images, and seconds, search and retraining apart."""
    means = frame.groupby("method", sort=False)[[name for name in frame if name.startswith(("search_", "retraining_"))]]
    shown = means.mean().reset_index()
    for part in ("search", "retraining"):
        shown[f"{part}_operations"] = (shown[f"{part}_operations"] / 1e9).round(1)
        shown[f"{part}_images"] = (shown[f"{part}_images"] / 1000).round(1)
        shown[f"{part}_steps"] = shown[f"{part}_steps"].round().astype(int)
        shown[f"{part}_seconds"] = shown[f"{part}_seconds"].round(1)
    units = {"steps": "steps", "images": "images, k", "operations": "GFLOP", "seconds": "s"}
    columns = [(part, units[unit]) for part, unit in (name.split("_") for name in shown.columns[1:])]
    shown.columns = pd.MultiIndex.from_tuples([("", "method"), *columns])
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(MethodsConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
