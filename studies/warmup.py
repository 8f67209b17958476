"""Does annealing the regulariser's weight c and the temperature t find better genotypes than constants (Table 1)?

python studies/warmup.py                             # digits, embedded
python studies/warmup.py --preset paper --dataset cifar10 --root DATA

The paper compares "on" with "off" and does not say at which constants; here these are the schedule's end value and its
mean. Section 3.3 of the text says that the temperature increases; everywhere else, in the code and here it decreases.
The penalty is the paper's `gumbel` by default, since `exact` has no temperature. Accuracy is that on V: nothing is
chosen by it, and T is not read.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from edgenes.errors import ConfigError
from edgenes.validation import check_positive
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(ExperimentConfig):
    """Annealed against constant weight and temperature, at equal c_end and at equal control error."""

    NAME: ClassVar[str] = "warmup"
    OPTIONS: ClassVar[dict[str, Any]] = {"estimator": "gumbel"}
    """The exact penalty has no temperature."""

    c_ends: tuple[float, ...] | None = None
    """Weights in the last epoch at which control is measured, with c_end; c_start keeps its share of each. By default
    0.03, 0.1, 0.3 and 1; in the smoke test c_end alone."""
    edges: tuple[int, ...] = (1, 2, 3)
    """Lambda of the genotypes that are retrained, in edges."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "c_end")
        usual = (self.c_end,) if self.smoke_test else (0.03, 0.1, 0.3, 1.0)
        given = usual if self.c_ends is None else self.c_ends
        if not all(0 < each < float("inf") for each in given):
            raise ConfigError(f"c_ends must be numbers above 0, got {', '.join(map(str, given))}.")
        object.__setattr__(self, "c_ends", tuple(sorted({*map(float, given), float(self.c_end)})))
        object.__setattr__(self, "edges", tuple(dict.fromkeys(self.edges)))  # one named twice counts once
        most = self.space.max_edges
        if not self.edges or not all(0 <= each <= most for each in self.edges):
            raise ConfigError(
                f"edges must be numbers from 0 to {most}, got {', '.join(map(str, self.edges)) or 'none'}."
            )


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(WarmupConfig, __doc__)

from collections.abc import Iterable
from itertools import product

import pandas as pd
import plotly.graph_objects as go

from edgenes.config import HypernetworkConfig
from edgenes.methods.budget import Setting
from edgenes.methods.trainer import TrainedHypernetwork
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import accuracy_of, jobs_by_seed, result_frame, trained
from tune_jobs.experiments.tables import verdicts
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.statistics import AMOUNT, SHARE, Comparison, compare, corrected, mean_text

CONDITIONS = {
    "c and t annealed": ("annealed", "annealed"),
    "c at end": ("end", "annealed"),
    "t at end": ("annealed", "end"),
    "c and t at end": ("end", "end"),
    "c at mean": ("mean", "annealed"),
    "t at mean": ("annealed", "mean"),
    "c and t at mean": ("mean", "mean"),
}
"""How c and t change; what a name does not mention is annealed."""
ON = next(iter(CONDITIONS))
KEYS = ["condition", "c_end", "seed"]
EQUAL_C, EQUAL_CONTROL = "equal c_end", "equal control"


def schedule(config: HypernetworkConfig, condition: str, c_end: float) -> dict[str, float]:
    """The condition's ends of c and t, where the annealed c ends at `c_end`."""
    how_c, how_t = CONDITIONS[condition]
    c = _ends(how_c, config.c_start * (c_end / config.c_end), c_end)
    t = _ends(how_t, config.t_start, config.t_end)
    return {"c_start": c[0], "c_end": c[1], "t_start": t[0], "t_end": t[1]}


def _ends(how: str, start: float, end: float) -> tuple[float, float]:
    return {"annealed": (start, end), "end": (end, end), "mean": ((start + end) / 2,) * 2}[how]


def of_condition(job: dict[str, Any], bench: Any) -> tuple[Setting, Genotype, TrainedHypernetwork]:
    """The setting of the job's seed, the optimal genotype, and the hypernetwork of the condition and c_end."""
    setting = bench.of_seed(job["seed"])
    changes = schedule(setting.hypernetwork, job["condition"], job["c_end"])
    return setting, *trained(setting, bench.trainer, **changes)


def control_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """The control error of one condition at one c_end with one seed."""
    *_, found = of_condition(job, bench)
    return {"control_error": found.control_error, "note": f"control error {found.control_error:.2f}"}


def accuracy_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Accuracy on V of the genotypes at each lambda, of one condition at one c_end with one seed."""
    setting, optimal, found = of_condition(job, bench)
    rows = []
    for lam in job["edges"]:
        genotype = found.hypernetwork.genotype(float(lam))
        accuracy = accuracy_of(genotype, setting, bench)
        rows.append({"lambda": lam, "shared": shared_edges(genotype, optimal), "accuracy": accuracy})
    return {"genotypes": rows, "note": f"accuracy {sum(row['accuracy'] for row in rows) / len(rows):.3f}"}


def study(experiment: Any) -> Findings:
    """Measure control everywhere, then retrain at equal c_end, and where each condition first is in control."""
    config = experiment.config

    def jobs(where: Iterable[tuple[str, float]], **more: Any) -> list[dict[str, Any]]:
        named = {f"{name} {c_end:g}": {"condition": name, "c_end": c_end, **more} for name, c_end in where}
        return jobs_by_seed(named, config.seeds)

    control = jobs(product(CONDITIONS, config.c_ends))
    found = experiment.map("control", control_job, control)
    errors = pd.DataFrame(control)[KEYS].assign(error=[each["control_error"] for each in found])
    where = [*((name, config.c_end) for name in CONDITIONS), *in_control(errors).items()]
    accuracy = jobs(where, edges=list(config.edges))
    found = experiment.map("accuracy", accuracy_job, accuracy)
    return findings(errors, result_frame(accuracy, found, "genotypes", KEYS), config.c_end)


def in_control(errors: pd.DataFrame) -> dict[str, float]:
    """By condition the smallest c_end whose mean control error is within CONTROL_LIMIT; those without one are left out.

    A rule that sees no accuracy, one c_end for all seeds, so that the seeds still pair. The smallest, since a greater
    weight is known to cost accuracy.
    """
    means = errors.groupby(["condition", "c_end"], sort=False, as_index=False)["error"].mean()
    return means[means["error"] <= CONTROL_LIMIT].groupby("condition", sort=False)["c_end"].min().to_dict()


def findings(errors: pd.DataFrame, accuracy: pd.DataFrame, c_end: float) -> Findings:
    """Conclusions, tables and pictures of the control errors and of the accuracies of all retrained genotypes."""
    chosen = in_control(errors)
    by = {
        EQUAL_C: at(accuracy, dict.fromkeys(errors["condition"].unique(), c_end)),
        EQUAL_CONTROL: at(accuracy, chosen),
    }
    tables = {where: table(rows, errors) for where, rows in by.items()}
    caption = (
        "Accuracy on V by lambda, and the mean over all lambdas: mean over searches with its 95% interval, in percent. "
        "At end, at mean: constant at the schedule's last value or at its mean."
    )
    return Findings(
        "Warm-up (Table 1)",
        [control_sentence(errors, chosen, c_end), *conclusions(by)],
        [
            Section(f"At equal c_end, {c_end:g}", caption, table=tables[EQUAL_C]),
            Section(
                "At equal control error",
                f"Each condition at its smallest c_end whose mean control error is within {CONTROL_LIMIT:g} edges. "
                f"{caption}",
                table=tables[EQUAL_CONTROL] if chosen else None,
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
    """The rows of each condition at its c_end, in the order of `c_ends`."""
    wanted = pd.DataFrame(c_ends.items(), columns=["condition", "c_end"]).astype({"condition": str, "c_end": float})
    return wanted.merge(accuracy)


def comparisons(by: dict[str, pd.DataFrame]) -> dict[tuple[str, str], Comparison]:
    """By (at what, condition): mean accuracy over lambda less that of ON, paired by seed, all corrected together."""
    compared = {}
    for where, rows in by.items():
        wide = rows.groupby(["seed", "condition"])["accuracy"].mean().unstack()
        if ON in wide:
            others = [name for name in rows["condition"].unique() if name != ON]
            compared |= {(where, name): compare(wide[ON], wide[name], paired=True) for name in others}
    return corrected(compared)


def conclusions(by: dict[str, pd.DataFrame]) -> list[str]:
    """What annealing both does to accuracy, at equal c_end and at equal control error."""
    compared, said = comparisons(by), []
    for where in by:
        found = {name: one for (place, name), one in compared.items() if place == where}
        said += verdicts(found, ON, f"At {where}: ")
        if not found:
            said.append(f'At {where} nothing can be compared with "{ON}": too few conditions are in control.')
    return said


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
    """A row a condition: c_end, accuracy in percent at each lambda and over all, control error."""
    shown = []
    for (name, c_end), group in rows.groupby(["condition", "c_end"], sort=False):
        accuracy = {f"{lam} shared": part["accuracy"] for lam, part in group.groupby("lambda", sort=False)}
        accuracy["mean"] = group.groupby("seed")["accuracy"].mean()
        error = errors.loc[(errors["condition"] == name) & (errors["c_end"] == c_end), "error"]
        shown.append(
            {
                "condition": name,
                "c_end": f"{c_end:g}",
                **{title: mean_text(values, SHARE, points=True) for title, values in accuracy.items()},
                "control error": mean_text(error, AMOUNT),
            }
        )
    return pd.DataFrame(shown)


def control_figure(errors: pd.DataFrame) -> go.Figure:
    """Control error against c_end, by condition."""
    panels = {"control error (edges)": ("error", AMOUNT)}
    axis = "c_end, the weight in the last epoch"
    figure = lines_figure(errors, "c_end", "condition", panels, axis, "Control error")
    return figure.update_xaxes(type="log").update_yaxes(rangemode="tozero")


if __name__ == "__main__":
    sys.exit(experiment_main(WarmupConfig, __doc__, study))
