"""Compare the hypernetwork's genotypes with random deviations that share as many edges with the optimal one (Table 2).

python studies/deviation.py                            # digits, embedded: minutes on a laptop
python studies/deviation.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

The paper's table is on validation data, and so is this one, on V: nothing has been chosen there. Its "±" is called a
variance of seven runs; here the spread is a standard deviation of genotypes within a search, and the searches are
independent. The paper's code always gives a replaced edge another input; here input, operation or both change.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class DeviationConfig(ExperimentConfig):
    """The hypernetwork against random deviation at each number of shared edges."""

    NAME: ClassVar[str] = "deviation"
    SMOKE: ClassVar[dict[str, Any]] = {**ExperimentConfig.SMOKE, "genotypes": 2}

    genotypes: int = 3
    """Genotypes of either kind, for each search and number of shared edges."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 2, "genotypes")  # one alone has no spread


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(DeviationConfig, __doc__)

from math import exp, lgamma, sqrt

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import deviations
from edgenes.space.genotype import Genotype, deviate, shared_edges
from edgenes.space.hypernetwork import Hypernetwork, draw_candidates
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import accuracy_of, jobs_by_seed, result_frame, trained
from tune_jobs.experiments.tables import against_zero, comparison_table, slope_frame, verdicts
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.statistics import AMOUNT, SHARE, Comparison, compare, corrected, mean_text, sentence

DRAWS = 200
"""Genotypes drawn at each number of shared edges, of which those that share exactly so many are taken."""
OURS, RANDOM, OPTIMAL = "Hypernetwork", "Random deviation", "Optimal genotype"
POOLED = "all numbers of shared edges"
QUANTITIES = {"mean": "Accuracy on V", "spread": "Spread of the accuracy within a search"}
PAPER = {
    OURS: ("46.2 ± 2.5", "45.9 ± 2.7", "46.7 ± 2.8", "46.6 ± 2.1"),
    RANDOM: ("43.9 ± 7.7", "46.1 ± 5.4", "45.6 ± 4.9", "45.9 ± 2.5"),
}
"""Table 2 of the paper, CIFAR-100, at 0, 1, 2 and 3 shared edges."""


def draw_genotypes(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """The optimal genotype of a seed, and genotypes of both kinds at each number of shared edges."""
    setting = bench.of_seed(job["seed"])
    optimal, found = trained(setting, bench.trainer)
    cells, controlled = [], []
    for shared in range(setting.space.max_edges):
        argmax = found.hypernetwork.genotype(shared)
        samples = found.hypernetwork.sample_genotypes(shared, DRAWS, setting.generator("deviation samples", shared))
        of_kind = {
            OURS: [argmax, *_near(found.hypernetwork, shared, setting), *samples],
            RANDOM: _deviations(optimal, shared, setting),
        }
        for source, genotypes in of_kind.items():
            exact = dict.fromkeys(one for one in genotypes if shared_edges(one, optimal) == shared)
            kept = [one.to_dict() for one in list(exact)[: job["genotypes"]]]
            cells.append({"source": source, "shared": shared, "genotypes": kept})
        hits = float(np.mean([shared_edges(one, optimal) == shared for one in samples]))
        controlled.append({"shared": shared, "argmax": shared_edges(argmax, optimal) == shared, "samples": hits})
    cells.append({"source": OPTIMAL, "shared": setting.space.max_edges, "genotypes": [optimal.to_dict()]})
    return {"cells": cells, "controlled": controlled, "note": f"control error {found.control_error:.2f}"}


def _near(hypernetwork: Hypernetwork, shared: int, setting: Setting) -> list[Genotype]:
    """EdgeNES's own candidates whose lambda is nearest to this number."""
    pool = draw_candidates(hypernetwork, setting.candidates, setting.generator("candidates"))
    return [candidate.genotype for candidate in pool if round(candidate.lam) == shared]


def _deviations(optimal: Genotype, shared: int, setting: Setting) -> list[Genotype]:
    """RandomD-NES's own candidates, then further deviations by the right number of edges."""
    generator = setting.generator("further deviations", shared)
    replaced = setting.space.max_edges - shared
    further = [deviate(optimal, replaced, generator) for _ in range(DRAWS)]
    return [*deviations(optimal, setting, setting.candidates), *further]


def retrain_genotypes(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Accuracy on V of each genotype, fully retrained."""
    setting = bench.of_seed(job["seed"])
    genotypes = [Genotype.from_dict(each) for each in job["genotypes"]]
    scores = [{"genotype": each.digest, "accuracy": accuracy_of(each, setting, bench)} for each in genotypes]
    return {"scores": scores, "note": f"accuracy {np.mean([one['accuracy'] for one in scores]):.3f}"}


def study(experiment: Any) -> Findings:
    """Draw the genotypes of every seed, then retrain them."""
    config = experiment.config
    seeds = jobs_by_seed({"genotypes": {"genotypes": config.genotypes}}, config.seeds)
    drawn = experiment.map("genotypes", draw_genotypes, seeds)
    jobs = [
        {"name": f"{cell['source']} {cell['shared']} shared seed {job['seed']}", "seed": job["seed"], **cell}
        for job, result in zip(seeds, drawn, strict=True)
        for cell in result["cells"]
        if cell["genotypes"]
    ]
    results = experiment.map("retraining", retrain_genotypes, jobs)
    frame = result_frame(jobs, results, "scores", ["seed", "source", "shared"])
    return findings(frame, result_frame(seeds, drawn, "controlled", ["seed"]), config.genotypes)


def findings(frame: pd.DataFrame, control: pd.DataFrame, genotypes: int) -> Findings:
    """Conclusions, tables and pictures of the genotypes, a row each, of which each search has up to so many.

    `control` has a row a seed and number: whether the argmax there shares just so many edges, and the samples' part.
    """
    cells = cell_frame(frame)
    compared = {quantity: differences(cells, quantity) for quantity in QUANTITIES}
    named = {f"{QUANTITIES[q]}, {name}": one for q, family in compared.items() for name, one in family.items()}
    return Findings(
        "Deviation from the optimal genotype (Table 2)",
        [
            *(text for quantity in QUANTITIES for text in conclusions(compared[quantity], quantity)),
            *trend_sentences(trends(cells)),
            f"By argmax genotypes share exactly lambda edges in {control['argmax'].sum()} of {len(control)} cases, "
            f"and of the samples {mean_text(control.groupby('seed')['samples'].mean(), SHARE, points=True)}% do.",
        ],
        [
            Section(
                "Accuracy and its spread against shared edges",
                f"Mean and standard deviation (unbiased for their number) of up to {genotypes} genotypes of a search, "
                "of those that share exactly so many edges; then the mean over independent searches with its 95% "
                "interval (bootstrap over searches). Accuracy is on V, of networks retrained in full; nothing was "
                "chosen on V.",
                figure(cells),
                table(cells),
            ),
            Section(
                "Hypernetwork less random deviation",
                "Paired by search, in points. Intervals are of each difference by itself; p is corrected by Holm for "
                "all differences of the same quantity.",
                table=comparison_table(named, "", points=True),
            ),
        ],
        {"deviation": frame, "cells": cells, "control": control},
    )


def figure(cells: pd.DataFrame) -> go.Figure:
    """Accuracy and spread against the number of shared edges."""
    panels = {"accuracy on V": ("mean", SHARE), "standard deviation": ("spread", AMOUNT)}
    axis, title = "edges shared with the optimal genotype", "Hypernetwork and random deviation"
    return lines_figure(cells, "shared", "source", panels, axis, title).update_xaxes(dtick=1)


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
    both = both.reindex(columns=[OURS, RANDOM]).dropna()
    if both.empty:
        return {}
    groups = {POOLED: both.groupby(level="seed").mean()}
    groups |= {f"{shared} shared": group for shared, group in both.groupby(level="shared")}
    return corrected({name: compare(group[RANDOM], group[OURS], paired=True) for name, group in groups.items()})


def conclusions(compared: dict[str, Comparison], quantity: str) -> list[str]:
    """What the differences of one quantity say, pooled first."""
    what = QUANTITIES[quantity]
    if not compared:
        return [f"{what}: no search has both kinds at any number of shared edges, so that nothing is compared."]
    named = {f"the hypernetwork ({name})": one for name, one in compared.items()}
    return verdicts(named, "random deviation", f"{what}: ")


def trends(cells: pd.DataFrame) -> dict[str, Comparison]:
    """Each quantity's change with each edge replaced, by kind: slopes of the searches against none, corrected.

    A search has a slope if it has the quantity at two numbers of edges; a kind without any slope is left out.
    """
    slopes = {}
    for quantity, what in QUANTITIES.items():
        known = cells.dropna(subset=[quantity])
        found = slope_frame(known.assign(replaced=-known["shared"]), ["source", "seed"], "replaced", quantity)
        for source in (OURS, RANDOM):
            slopes[f"{what}, {source.lower()}"] = found.loc[found["source"] == source, "slope"]
    return against_zero(slopes)


def trend_sentences(found: dict[str, Comparison]) -> list[str]:
    """Whether each quantity grows or falls with each edge replaced."""
    return [
        sentence(one, "0", f"{what}: its change with each edge replaced", points=True) for what, one in found.items()
    ]


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """Table 2 in percent: mean and spread with their intervals, and what the paper has, where it has it."""
    numbers = sorted(cells.loc[cells["source"] != OPTIMAL, "shared"].unique())
    rows = []
    for source in (OURS, RANDOM):
        own = cells[cells["source"] == source].set_index("shared")
        for quantity, title in (("mean", "accuracy"), ("spread", "spread within a search")):
            texts = {str(k): mean_text(own[quantity].loc[own.index == k], SHARE, True, "none") for k in numbers}
            rows.append({"": f"{source}, {title}", **texts})
    if numbers == [0, 1, 2, 3]:
        rows += [
            {"": f"{source}, paper (CIFAR-100)", **dict(zip("0123", PAPER[source], strict=True))} for source in PAPER
        ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(experiment_main(DeviationConfig, __doc__, study))
