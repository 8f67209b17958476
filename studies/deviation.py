"""Compare the hypernetwork's genotypes with random deviations that share as many edges with the optimal one (Table 2).

python studies/deviation.py                            # digits, embedded: minutes on a laptop
python studies/deviation.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

The paper's table is on validation data, and so is this one, on V: nothing has been chosen there. Its "±" is called a
variance of seven runs; here the spread is a standard deviation of genotypes within a search, and the searches are
independent. The paper's code always gives a replaced edge another input; here input, operation or both change.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
from dataclasses import dataclass
from math import exp, lgamma, sqrt
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import deviations
from edgenes.metrics import accuracy, nll
from edgenes.space.genotype import Genotype, deviate, shared_edges
from edgenes.space.hypernetwork import Hypernetwork, draw_candidates
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.sweep import MOST
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import interval_frame, lines_figure
from tune_jobs.report.statistics import (
    AMOUNT,
    SHARE,
    Comparison,
    compare,
    corrected,
    mean_estimate,
    sentence,
    undecided,
)

DRAWS = 200
"""Genotypes drawn at each number of shared edges, of which those that share exactly so many are taken."""
SOURCES = {"hypernetwork": "Hypernetwork", "deviation": "Random deviation"}
OPTIMAL = "Optimal genotype"
POOLED = "all numbers"
QUANTITIES = {"mean": "Accuracy on V", "spread": "Spread of the accuracy within a search"}
PAPER = {
    "hypernetwork": ("46.2 ± 2.5", "45.9 ± 2.7", "46.7 ± 2.8", "46.6 ± 2.1"),
    "deviation": ("43.9 ± 7.7", "46.1 ± 5.4", "45.6 ± 4.9", "45.9 ± 2.5"),
}
"""Table 2 of the paper, CIFAR-100, at 0, 1, 2 and 3 shared edges."""


@dataclass(frozen=True, kw_only=True)
class DeviationConfig(ExperimentConfig):
    """The hypernetwork against random deviation at each number of shared edges."""

    NAME: ClassVar[str] = "deviation"

    genotypes: int = 3
    """Genotypes of either kind, for each search and number of shared edges."""

    def __post_init__(self):
        super().__post_init__()
        if self.smoke_test and self.genotypes == DeviationConfig.genotypes:
            object.__setattr__(self, "genotypes", 2)
        check_at_least(self, 2, "genotypes")  # one alone has no spread
        check_at_most(self, MOST, "genotypes")


def draw_genotypes(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """The optimal genotype of a seed, and genotypes of both kinds at each number of shared edges."""
    setting = bench.of_seed(job["seed"])
    optimal = bench.trainer.search(setting.search_config()).genotype
    trained = bench.trainer.hypernetwork(setting.hypernetwork_config(), optimal)
    found, controlled = [], []
    for shared in range(setting.space.max_edges):
        hypernetwork = trained.hypernetwork
        samples = hypernetwork.sample_genotypes(shared, DRAWS, setting.generator("deviation samples", shared))
        of_kind = {
            "hypernetwork": _of_hypernetwork(hypernetwork, samples, shared, setting),
            "deviation": _deviations(optimal, shared, setting),
        }
        for source, genotypes in of_kind.items():
            exact = dict.fromkeys(one for one in genotypes if shared_edges(one, optimal) == shared)
            kept = [one.to_dict() for one in list(exact)[: job["genotypes"]]]
            found.append({"source": source, "shared": shared, "genotypes": kept})
        controlled.append(
            {
                "shared": shared,
                "argmax": shared_edges(hypernetwork.genotype(shared), optimal) == shared,
                "samples": float(np.mean([shared_edges(one, optimal) == shared for one in samples])),
            }
        )
    return {
        "optimal": optimal.to_dict(),
        "found": found,
        "controlled": controlled,
        "note": f"control error {trained.control_error:.2f}",
    }


def _of_hypernetwork(
    hypernetwork: Hypernetwork, samples: list[Genotype], shared: int, setting: Setting
) -> list[Genotype]:
    """By argmax at that lambda, then EdgeNES's own candidates nearest to it, then samples at that lambda."""
    pool = draw_candidates(hypernetwork, setting.candidates, setting.generator("candidates"))
    return [
        hypernetwork.genotype(shared),
        *(candidate.genotype for candidate in pool if round(candidate.lam) == shared),
        *samples,
    ]


def _deviations(optimal: Genotype, shared: int, setting: Setting) -> list[Genotype]:
    """RandomD-NES's own candidates, then further deviations by the right number of edges."""
    generator = setting.generator("further deviations", shared)
    replaced = setting.space.max_edges - shared
    further = [deviate(optimal, replaced, generator) for _ in range(DRAWS)]
    return [*deviations(optimal, setting, setting.candidates), *further]


def retrain_genotypes(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Scores on V of each genotype, fully retrained."""
    setting, labels = bench.of_seed(job["seed"]), bench.data.validation.labels
    scores = []
    for genotype in map(Genotype.from_dict, job["genotypes"]):
        probabilities = bench.trainer.retrain(setting.training_config(genotype), genotype).probabilities
        score = {"accuracy": accuracy(probabilities, labels), "nll": nll(probabilities, labels)}
        scores.append({"genotype": genotype.digest, **score})
    return {"scores": scores, "note": f"accuracy {np.mean([one['accuracy'] for one in scores]):.3f}"}


def study(experiment: Any) -> Findings:
    """Draw the genotypes of every seed, then retrain them."""
    config = experiment.config
    seeds = [{"name": f"seed {k}", "seed": k, "genotypes": config.genotypes} for k in range(config.seeds)]
    drawn = experiment.map("genotypes", draw_genotypes, seeds)
    jobs = retraining_jobs(drawn, config.space.max_edges)
    results = experiment.map("retraining", retrain_genotypes, jobs)
    return findings(accuracy_frame(jobs, results), control_frame(drawn), config.genotypes)


def retraining_jobs(drawn: list[dict], most: int) -> list[dict[str, Any]]:
    """One job a seed, kind and number of shared edges at which there are genotypes; the optimal one shares `most`."""
    jobs = []
    for seed, result in enumerate(drawn):
        optimal = {"source": "optimal", "shared": most, "genotypes": [result["optimal"]]}
        for cell in (*result["found"], optimal):
            name = f"seed {seed} {cell['source']} {cell['shared']} shared"
            if cell["genotypes"]:
                jobs.append({"name": name, "seed": seed, **cell})
    return jobs


def accuracy_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a retrained genotype: seed, source, shared edges, genotype, accuracy and NLL on V."""
    names = {**SOURCES, "optimal": OPTIMAL}
    rows = [
        {"seed": job["seed"], "source": names[job["source"]], "shared": job["shared"], **score}
        for job, result in zip(jobs, results, strict=True)
        for score in result["scores"]
    ]
    return pd.DataFrame(rows)


def control_frame(drawn: list[dict]) -> pd.DataFrame:
    """One row a seed and number: whether the argmax at that lambda shares just so many, and what part of samples."""
    return pd.DataFrame([{"seed": seed, **row} for seed, result in enumerate(drawn) for row in result["controlled"]])


def findings(frame: pd.DataFrame, control: pd.DataFrame, asked: int) -> Findings:
    """Conclusions, tables and pictures of an `accuracy_frame` and a `control_frame`; `asked` genotypes a cell."""
    cells = cell_frame(frame)
    means = interval_frame(cells, ["source", "shared"], "mean", SHARE)
    spreads = interval_frame(cells[cells["source"] != OPTIMAL], ["source", "shared"], "spread", AMOUNT)
    compared = {quantity: differences(cells, quantity) for quantity in QUANTITIES}
    slopes = {(name, q): trend(cells, name, q) for q in QUANTITIES for name in SOURCES.values()}
    trends = corrected({name: one for name, one in slopes.items() if one is not None})
    per_search = f"Each search gives up to {asked} genotypes of either kind at each number of shared edges."
    return Findings(
        "Deviation from the optimal genotype (Table 2)",
        [
            *(text for quantity in QUANTITIES for text in conclusions(compared[quantity], quantity)),
            *(trend_told(trends.get(name), *name) for name in slopes),
            found_told(cells, control, asked),
        ],
        [
            Section(
                "Accuracy and its spread against shared edges",
                f"{per_search} Their mean, and their standard deviation (unbiased for their number), are taken within "
                "a search; shown is the mean over independent searches with its 95% interval (bootstrap over "
                "searches). Accuracy is on V, of networks retrained in full, each from a seed of its own; nothing was "
                "chosen on V.",
                figure(means, spreads),
                table(cells),
            ),
            Section(
                "Hypernetwork less random deviation",
                "Paired by search, in points. Intervals are of each difference by itself; p is corrected by Holm for "
                "all differences of the same quantity. The last column is what these searches could have detected.",
                table=difference_table(compared),
            ),
            Section(
                "How well the hypernetwork hits the number",
                f"Only genotypes that share exactly so many edges are compared. Of {DRAWS} samples at that lambda, "
                "and by argmax there:",
                table=control_table(cells, control),
            ),
        ],
        {"deviation": frame, "cells": cells, "control": control},
    )


def figure(means: pd.DataFrame, spreads: pd.DataFrame) -> go.Figure:
    """Both quantities against the number of shared edges."""
    drawn = lines_figure(
        {"accuracy on V": means, "standard deviation": spreads},
        "shared",
        "source",
        {"shared": "edges shared with the optimal genotype"},
        "Hypernetwork and random deviation",
    )
    return drawn.update_xaxes(dtick=1)


def cell_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a seed, source and number: mean, spread (NaN for one genotype alone) and count of the accuracies."""
    groups = frame.groupby(["seed", "source", "shared"], sort=False)["accuracy"]
    cells = groups.agg(mean="mean", spread="std", genotypes="size").reset_index()
    cells["spread"] /= cells["genotypes"].map(_bias)
    return cells


def _bias(n: int) -> float:
    """What a normal sample's standard deviation is on average, in units of the true one; smaller for fewer values."""
    return sqrt(2 / (n - 1)) * exp(lgamma(n / 2) - lgamma((n - 1) / 2)) if n > 1 else float("nan")


def differences(cells: pd.DataFrame, quantity: str) -> dict[str, Comparison]:
    """The hypernetwork less random deviation, by number of shared edges and pooled within a search, corrected by Holm.

    A search counts where it has both; pooled are its numbers that have both.
    """
    both = cells.pivot_table(index=["seed", "shared"], columns="source", values=quantity)
    both = both.reindex(columns=list(SOURCES.values())).dropna()
    if both.empty:
        return {}
    groups: dict[str, pd.DataFrame] = {str(shared): group for shared, group in both.groupby(level="shared")}
    groups[POOLED] = both.groupby(level="seed").mean()
    ours, random = SOURCES.values()
    return corrected({name: compare(group[random], group[ours], paired=True) for name, group in groups.items()})


def trend(cells: pd.DataFrame, source: str, quantity: str) -> Comparison | None:
    """By how much the quantity changes with each edge replaced: slopes, one a search, against none.

    A search has a slope if it has the quantity at two numbers of edges; None where no search has one.
    """
    slopes = []
    for _, group in cells[cells["source"] == source].dropna(subset=[quantity]).groupby("seed"):
        if group["shared"].nunique() > 1:
            slopes.append(-np.polyfit(group["shared"], group[quantity], 1)[0])
    return compare(np.zeros(len(slopes)), slopes, paired=True) if slopes else None


def conclusions(compared: dict[str, Comparison], quantity: str) -> list[str]:
    """What the differences of one quantity say, pooled first."""
    what = QUANTITIES[quantity]
    if not compared:
        return [f"{what}: no search has both kinds at any number of shared edges, so that nothing is compared."]
    ours, random = "the hypernetwork", "random deviation"
    numbers = {name: one for name, one in compared.items() if name != POOLED}
    told = [f"{what}, all numbers of shared edges: {sentence(compared[POOLED], random, ours, points=True)}"]
    told += [
        f"{what}, {name} shared: {sentence(one, random, ours, points=True)}"
        for name, one in numbers.items()
        if one.distinguishable
    ]
    opening = f"{what}, hypernetwork less random deviation, not distinguishable at this budget"
    return told + undecided({f"{name} shared": one for name, one in numbers.items()}, opening, points=True)


def trend_told(slope: Comparison | None, source: str, quantity: str) -> str:
    """What the searches say of a quantity's change with each edge replaced."""
    what = f"{QUANTITIES[quantity]}, {source.lower()}"
    if slope is None:
        return f"{what}: no search has it at two numbers of shared edges, so that there is no trend to tell."
    size = f"{100 * slope.difference:+.2f} points with each edge replaced"
    if slope.p is None:
        return f"{what}: {size} (n = {slope.n[0]}), too little to tell a trend."
    within = f"{size} [{100 * slope.low:.2f}, {100 * slope.high:.2f}], p {slope.p_holm:.2g} after Holm"
    if not slope.distinguishable:
        could = f"n = {slope.n[0]} searches could have detected {100 * slope.detectable:.2f}"
        return f"{what}: no trend is distinguishable at this budget, {within}; {could}."
    return f"{what} {'grows' if slope.difference > 0 else 'falls'}: {within}."


def found_told(cells: pd.DataFrame, control: pd.DataFrame, asked: int) -> str:
    """How many of the genotypes asked for were found."""
    total = asked * len(control)
    found = cells.groupby("source")["genotypes"].sum()
    ours, random = (int(found.get(name, 0)) for name in SOURCES.values())
    return (
        f"Of {total} genotypes of each kind that were asked for, the hypernetwork gave {ours} that share exactly so "
        f"many edges and random deviation {random}; by argmax the hypernetwork hit the number in "
        f"{int(control['argmax'].sum())} of "
        f"{len(control)} cases."
    )


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """Table 2 in percent: mean and spread with their intervals, and what the paper has, where it has it."""
    numbers = sorted(cells.loc[cells["source"] != OPTIMAL, "shared"].unique())

    def row(name: str, quantity: str, what: str) -> dict[str, str]:
        own = cells[cells["source"] == name].dropna(subset=[quantity])
        told = {shared: own.loc[own["shared"] == shared, quantity] for shared in numbers}
        told = {str(k): mean_estimate(v, within=SHARE).told(points=True) if len(v) else "none" for k, v in told.items()}
        return {"": f"{name}, {what}", **told}

    rows = []
    for name in SOURCES.values():
        rows += [row(name, "mean", "accuracy"), row(name, "spread", "spread within a search")]
    if numbers == [0, 1, 2, 3]:
        rows += [
            {"": f"{SOURCES[key]}, paper (CIFAR-100)", **{str(k): value for k, value in enumerate(values)}}
            for key, values in PAPER.items()
        ]
    return pd.DataFrame(rows)


def difference_table(compared: dict[str, dict[str, Comparison]]) -> pd.DataFrame:
    """The comparisons in points, a row each."""
    rows = []
    for quantity, family in compared.items():
        for name, one in family.items():
            known = one.p is not None
            rows.append(
                {
                    "quantity": QUANTITIES[quantity],
                    "shared edges": name,
                    "searches": one.n[0],
                    "difference": f"{100 * one.difference:+.2f}",
                    "95% interval": f"[{100 * one.low:.2f}, {100 * one.high:.2f}]" if known else "",
                    "p (Holm)": f"{one.p_holm:.3f}" if known else "",
                    "detectable": f"{100 * one.detectable:.2f}" if known else "",
                }
            )
    return pd.DataFrame(rows)


def control_table(cells: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    """How often lambda gives just so many shared edges, a row a number."""
    found = cells[cells["source"] == SOURCES["hypernetwork"]].groupby("shared")["genotypes"].sum()
    rows = []
    for shared, group in control.groupby("shared"):
        rows.append(
            {
                "lambda": shared,
                "by argmax": f"{int(group['argmax'].sum())} of {len(group)} searches",
                "samples": mean_estimate(group["samples"], within=SHARE).told(points=True) + " %",
                "genotypes compared": int(found.get(shared, 0)),
            }
        )
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(DeviationConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
