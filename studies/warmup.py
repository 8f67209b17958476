"""Does annealing the regulariser's weight c and the temperature t find better genotypes than constants (Table 1)?

python studies/warmup.py                             # digits, embedded
python studies/warmup.py --preset paper --dataset cifar10 --root DATA

The paper compares "on" with "off" and does not say at which constants; here these are the schedule's end value and its
mean. Section 3.3 of the text says that the temperature increases; everywhere else, in the code and here it decreases.
The penalty is the paper's `gumbel` by default, since `exact` has no temperature. Accuracy is that on V: nothing is
chosen by it, and T is not read.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds
from edgenes.space.hypernetwork import CONTROL_LIMIT

# isort: split
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
import plotly.graph_objects as go

from edgenes.config import HypernetworkConfig
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.methods.trainer import TrainedHypernetwork
from edgenes.metrics import summary
from edgenes.space.genotype import shared_edges
from edgenes.space.penalty import ESTIMATORS
from edgenes.validation import check_positive
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame, lines_figure
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

CONDITIONS = {
    "c and t annealed": ("annealed", "annealed"),
    "c at end": ("end", "annealed"),
    "t at end": ("annealed", "end"),
    "c and t at end": ("end", "end"),
    "c at mean": ("mean", "annealed"),
    "t at mean": ("annealed", "mean"),
    "c and t at mean": ("mean", "mean"),
}
"""How c and t go; what a name does not mention is annealed."""
ON = next(iter(CONDITIONS))
PAPER = pd.DataFrame(
    {
        "common edges": [1, 2, 3],
        "warm-up on": ["59.8 ± 1.8", "62.4 ± 2.0", "61.6 ± 0.5"],
        "off": ["57.3 ± 2.8", "57.7 ± 2.1", "60.2 ± 1.7"],
    }
)
"""The paper's Table 1, accuracy in percent on CIFAR-10."""
EQUAL_C, EQUAL_CONTROL = "equal c_end", "equal control"


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(ExperimentConfig):
    """Annealed against constant weight and temperature, at equal c_end and at equal control error."""

    NAME: ClassVar[str] = "warmup"

    estimator: Literal[*ESTIMATORS] = "gumbel"
    """Estimator of the shared-edge penalty; exact has no temperature."""
    c_ends: tuple[float, ...] | None = None
    """Weights in the last epoch at which control is measured, with c_end; c_start keeps its share of each. By default
    0.03, 0.1, 0.3 and 1; in the smoke test c_end alone."""
    edges: tuple[int, ...] = (1, 2, 3)
    """Shared edges asked for: lambda of the genotypes that are retrained."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "c_end")
        usual = (self.c_end,) if self.smoke_test else (0.03, 0.1, 0.3, 1.0)
        given = usual if self.c_ends is None else self.c_ends
        if not all(0 < each < float("inf") for each in given):
            raise ConfigError(f"c_ends must be numbers above 0, got {', '.join(map(str, given))}.")
        object.__setattr__(self, "c_ends", tuple(sorted({*map(float, given), float(self.c_end)})))
        if len({f"{each:g}" for each in self.c_ends}) < len(self.c_ends):  # as the jobs are named
            raise ConfigError(f"c_ends and c_end must differ in six digits, got {', '.join(map(str, self.c_ends))}.")
        object.__setattr__(self, "edges", tuple(dict.fromkeys(self.edges)))  # one asked for twice counts once
        most = self.space.max_edges
        if not self.edges or not all(0 <= each <= most for each in self.edges):
            raise ConfigError(
                f"edges must be numbers from 0 to {most}, got {', '.join(map(str, self.edges)) or 'none'}."
            )


def schedule(config: HypernetworkConfig, condition: str, c_end: float) -> dict[str, float]:
    """The condition's ends of c and t, where the annealed c ends at `c_end`."""
    how_c, how_t = CONDITIONS[condition]
    c = _ends(how_c, config.c_start * (c_end / config.c_end), c_end)
    t = _ends(how_t, config.t_start, config.t_end)
    return {"c_start": c[0], "c_end": c[1], "t_start": t[0], "t_end": t[1]}


def _ends(how: str, start: float, end: float) -> tuple[float, float]:
    return {"annealed": (start, end), "end": (end, end), "mean": ((start + end) / 2,) * 2}[how]


def trained(job: dict[str, Any], bench: Any) -> tuple[Setting, TrainedHypernetwork, Any]:
    """The setting, the hypernetwork of the job's seed, condition and c_end, and the optimal genotype."""
    setting = bench.of_seed(job["seed"])
    optimal = bench.trainer.search(setting.search_config()).genotype
    config = setting.hypernetwork_config(**schedule(setting.hypernetwork, job["condition"], job["c_end"]))
    return setting, bench.trainer.hypernetwork(config, optimal), optimal


def control_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """The control error of one condition at one c_end with one seed."""
    error = trained(job, bench)[1].control_error
    return {"control_error": error, "note": f"control error {error:.2f}"}


def accuracy_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Accuracy on V of the genotypes at the lambdas asked for, of one condition at one c_end with one seed."""
    setting, found, optimal = trained(job, bench)
    rows = []
    for asked in job["edges"]:
        genotype = found.hypernetwork.genotype(float(asked))
        predicted = bench.trainer.retrain(setting.training_config(genotype), genotype)
        accuracy = summary(predicted.probabilities, bench.data.validation.labels)["accuracy"]
        rows.append({"asked": asked, "shared": shared_edges(genotype, optimal), "accuracy": accuracy})
    return {"genotypes": rows, "note": f"accuracy {sum(row['accuracy'] for row in rows) / len(rows):.3f}"}


def study(experiment: Any) -> Findings:
    """Measure control everywhere, then retrain at equal c_end, and where each condition first is in control."""
    config = experiment.config

    def jobs(where: Sequence[tuple[str, float]], **more: Any) -> list[dict[str, Any]]:
        return [
            {"name": f"{name} {c_end:g} seed {seed}", "condition": name, "c_end": c_end, "seed": seed, **more}
            for name, c_end in where
            for seed in range(config.seeds)
        ]

    control = jobs([(name, c_end) for name in CONDITIONS for c_end in config.c_ends])
    found = experiment.map("control", control_job, control)
    errors = pd.DataFrame(
        {"condition": job["condition"], "c_end": job["c_end"], "seed": job["seed"], "error": each["control_error"]}
        for job, each in zip(control, found, strict=True)
    )
    chosen = in_control(errors)
    where = dict.fromkeys([(name, config.c_end) for name in CONDITIONS] + list(chosen.items()))
    accuracy = jobs(list(where), edges=list(config.edges))
    found = experiment.map("accuracy", accuracy_job, accuracy)
    rows = pd.DataFrame(
        {"condition": job["condition"], "c_end": job["c_end"], "seed": job["seed"], **row}
        for job, each in zip(accuracy, found, strict=True)
        for row in each["genotypes"]
    )
    return findings(errors, rows, config.c_end)


def in_control(errors: pd.DataFrame) -> dict[str, float]:
    """By condition the smallest c_end whose mean control error is within CONTROL_LIMIT; those without one are left out.

    A rule that sees no accuracy, one c_end for all seeds, so that the seeds still pair. The smallest, since a greater
    weight is known to cost accuracy.
    """
    means = errors.groupby(["condition", "c_end"], sort=False)["error"].mean().reset_index()
    within = means[means["error"] <= CONTROL_LIMIT].groupby("condition", sort=False)["c_end"].min()
    return {name: float(within[name]) for name in errors["condition"].unique() if name in within}


def findings(errors: pd.DataFrame, accuracy: pd.DataFrame, c_end: float) -> Findings:
    """Conclusions, tables and pictures of the control errors and of the accuracies of all retrained genotypes."""
    chosen = in_control(errors)
    by = {
        EQUAL_C: at(accuracy, dict.fromkeys(errors["condition"].unique(), c_end)),
        EQUAL_CONTROL: at(accuracy, chosen),
    }
    found = by[EQUAL_CONTROL]
    controlled = (accuracy_figure(found), table(found, errors)) if len(found) else ()
    told = "Accuracy on V by the number of edges asked for, and the mean over them: mean over searches with its 95% "
    told += "interval, in percent. At end, at mean: constant at the schedule's last value or at its mean."
    return Findings(
        "Warm-up (Table 1)",
        [control_sentence(errors, chosen, c_end), *conclusions(by)],
        [
            Section(
                "The paper's Table 1",
                "Accuracy on CIFAR-10 in percent. On is the first row of the tables below; at which constants it was "
                "off is not said.",
                table=PAPER,
            ),
            Section(f"At equal c_end, {c_end:g}", told, accuracy_figure(by[EQUAL_C]), table(by[EQUAL_C], errors)),
            Section(
                "At equal control error",
                f"Each condition at its smallest c_end whose mean control error is within {CONTROL_LIMIT:g} edges, so "
                f"that none wins by ignoring lambda, nor loses by a weight that it does not need. {told}",
                *controlled,
            ),
            Section(
                "Control error against c_end",
                "Mean of |lambda - shared edges| over whole lambda, mean over searches with its 95% interval.",
                control_figure(errors),
            ),
        ],
        {"errors": errors, "accuracy": accuracy},
    )


def at(accuracy: pd.DataFrame, c_ends: dict[str, float]) -> pd.DataFrame:
    """The rows of each condition at its c_end, conditions in their order."""
    parts = [accuracy[(accuracy["condition"] == name) & (accuracy["c_end"] == c)] for name, c in c_ends.items()]
    return pd.concat(parts) if parts else accuracy.iloc[:0]


def comparisons(by: dict[str, pd.DataFrame]) -> dict[tuple[str, str], Comparison]:
    """By (at what, condition): mean accuracy over the edges less that of ON, paired by seed, all corrected together."""
    compared = {}
    for where, rows in by.items():
        wide = rows.groupby(["seed", "condition"])["accuracy"].mean().unstack()
        if ON in wide:
            for name in rows["condition"].unique():
                if name != ON:
                    compared[where, name] = compare(wide[ON], wide[name], paired=True)
    return corrected(compared)


def conclusions(by: dict[str, pd.DataFrame]) -> list[str]:
    """What annealing both does to accuracy, at equal c_end and at equal control error."""
    compared, told = comparisons(by), []
    for where in by:
        found = {name: one for (place, name), one in compared.items() if place == where}
        told += [
            f"At {where}: {sentence(one, ON, name, points=True)}" for name, one in found.items() if one.distinguishable
        ]
        told += undecided(found, f'At {where}, not distinguishable from "{ON}" at this budget', points=True)
        if not found:
            told.append(f'At {where} nothing can be compared with "{ON}": too few conditions are in control.')
    return told


def control_sentence(errors: pd.DataFrame, chosen: dict[str, float], c_end: float) -> str:
    """Who is in control at the common c_end, and from which c_end on the others are."""
    means = errors[errors["c_end"] == c_end].groupby("condition", sort=False)["error"].mean()
    within = ", ".join(f"{name} {c:g}" for name, c in chosen.items()) or "none"
    never = [name for name in errors["condition"].unique() if name not in chosen]
    return (
        f"At c_end {c_end:g} the control error is {means[ON]:.2f} edges with both annealed, and {means.min():.2f} to "
        f"{means.max():.2f} over all conditions. Smallest c_end in control (within {CONTROL_LIMIT:g} edges): {within}"
        + (f"; at no c_end that was tried: {', '.join(never)}." if never else ".")
    )


def table(rows: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """A row a condition: accuracy in percent at each number of edges and over all, c_end, edges that are off."""
    shown = []
    for (name, c_end), group in rows.groupby(["condition", "c_end"], sort=False):
        off = (group["asked"] - group["shared"]).abs().groupby(group["seed"]).mean()
        error = errors.loc[(errors["condition"] == name) & (errors["c_end"] == c_end), "error"]
        by_edges = {
            f"{asked} shared": mean_estimate(part["accuracy"], within=SHARE).told(points=True)
            for asked, part in group.groupby("asked", sort=False)
        }
        mean = mean_estimate(group.groupby("seed")["accuracy"].mean(), within=SHARE).told(points=True)
        row = {"condition": name, "c_end": f"{c_end:g}", **by_edges, "mean": mean}
        shown.append(
            {**row, "control error": mean_estimate(error, within=AMOUNT).told(), "edges off here": f"{off.mean():.2f}"}
        )
    return pd.DataFrame(shown)


def accuracy_figure(rows: pd.DataFrame) -> go.Figure:
    """Mean accuracy over the edges asked for, by condition."""
    means = rows.groupby(["condition", "seed"], sort=False, as_index=False)["accuracy"].mean()
    frame = interval_frame(means, ["condition"], "accuracy", SHARE)
    return dots_figure(frame, "condition", "accuracy on V", "Mean over the edges asked for", ON)


def control_figure(errors: pd.DataFrame) -> go.Figure:
    """Control error against c_end, by condition."""
    frame = interval_frame(errors, ["condition", "c_end"], "error", AMOUNT)
    axes = {"c_end": "c_end, the weight in the last epoch"}
    figure = lines_figure({"control error (edges)": frame}, "c_end", "condition", axes, "Control error")
    figure.update_layout(margin={"t": 140}, height=figure.layout.height + 40)  # a narrow page has four rows of names
    return figure.update_xaxes(type="log").update_yaxes(rangemode="tozero")


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(WarmupConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
