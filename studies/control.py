"""Does lambda control the shared edges, and is a genotype worse the further it is from the optimal (Figures 3.1, 3.2)?

python studies/control.py                              # digits, embedded: all 32 conditions
python studies/control.py --conditions one-at-a-time   # for costlier data: each factor changed alone

Where text and code of the paper differ, both are conditions here: eq. (2.2) as printed against the corrected one;
pivots that train (the text) against fixed ones (the code detaches them); lambda from U[-eps, Lambda + eps] (the text,
eps 0.2) against U[0, Lambda] (the code's lower end). Accuracy is that on V: nothing is chosen by it, and T is not read.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgenes.config import HypernetworkConfig
from edgenes.space.choices import ESTIMATORS, INTERPOLATIONS
from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig

Condition = dict[str, Any]
"""A level of each factor."""
FACTORS: dict[str, tuple] = {
    "estimator": ESTIMATORS,
    "pivots": ("fixed", "trainable"),
    "interpolation": INTERPOLATIONS,
    "epsilon": (0.0, HypernetworkConfig.epsilon),
    "inputs": (1, 2),
}


@dataclass(frozen=True, kw_only=True)
class ControlConfig(ExperimentConfig):
    """Control of the shared edges by lambda under five factors, and accuracy against lambda."""

    NAME: ClassVar[str] = "control"

    conditions: Literal["all", "one-at-a-time", "default"] | None = None
    """all: every combination of the factors, 32; one-at-a-time: the default one, and each factor changed alone. By
    default all on a laptop's data, one-at-a-time for costlier presets and in the smoke test."""
    genotypes: int = 2
    """Genotypes retrained at each whole lambda: the argmax one, then samples."""

    def __post_init__(self):
        super().__post_init__()
        if self.conditions is None:
            cheap = self.preset == "laptop" and not self.smoke_test
            object.__setattr__(self, "conditions", "all" if cheap else "one-at-a-time")
        check_at_least(self, 1, "genotypes")

    @property
    def default(self) -> Condition:
        """The condition that the others are changes of."""
        inputs = self.networks.inputs_per_node
        values = (self.search.estimator, "fixed", "corrected", HypernetworkConfig.epsilon, inputs)
        return dict(zip(FACTORS, values, strict=True))


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(ControlConfig, __doc__)

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.methods.budget import Setting
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import Hypernetwork, control_error, draw_candidates
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import accuracy_of, jobs_by_seed, result_frame, trained
from tune_jobs.experiments.tables import against_zero, comparison_table, slope_frame
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.statistics import AMOUNT, SHARE, Comparison, compare, corrected, mean_text, sentence, undecided

WORDS = {
    "estimator": "{} penalty",
    "pivots": "{} pivots",
    "interpolation": "{} map",
    "epsilon": "eps {:g}",
    "Lambda": "Lambda {}",
}
"""How a level of a factor is written; frames have Lambda in the place of the inputs a node."""
LAMBDA = "lambda, requested edges"
FINE = 4  # points an edge of the curves: enough to show a jump at a pivot


def conditions(default: Condition, which: str) -> list[Condition]:
    """The conditions to run, the default one first."""
    if which == "default":
        return [default]
    changed = [default]
    for name, levels in FACTORS.items():
        changed.append(default | {name: next(level for level in levels if level != default[name])})
    if which == "one-at-a-time":
        return changed
    every = [dict(zip(FACTORS, levels, strict=True)) for levels in itertools.product(*FACTORS.values())]
    return changed + [each for each in every if each not in changed]


def of_condition(job: dict[str, Any], bench: Any) -> tuple[Setting, Genotype, Hypernetwork]:
    """The setting of the job's seed and condition, the optimal genotype, and its hypernetwork."""
    setting, condition = bench.of_seed(job["seed"]), job["condition"]
    space = replace(setting.space, inputs_per_node=condition["inputs"])
    search, hypernetwork = replace(setting.search, space=space), replace(setting.hypernetwork, space=space)
    setting = replace(setting, search=search, hypernetwork=hypernetwork)
    optimal, found = trained(
        setting,
        bench.trainer,
        estimator=condition["estimator"],
        trainable_pivots=condition["pivots"] == "trainable",
        interpolation=condition["interpolation"],
        epsilon=condition["epsilon"],
    )
    return setting, optimal, found.hypernetwork


def control_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Shared edges of the argmax genotype along lambda, in one condition with one seed."""
    setting, optimal, hypernetwork = of_condition(job, bench)
    lams = [step / FINE for step in range(setting.space.max_edges * FINE + 1)]
    rows = [{"lambda": lam, "shared": shared_edges(hypernetwork.genotype(lam), optimal)} for lam in lams]
    return {"curve": rows, "note": f"control error {control_error(hypernetwork, optimal):.2f}"}


def accuracy_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Accuracy on V of retrained genotypes at each whole lambda, in one condition with one seed."""
    setting, optimal, hypernetwork = of_condition(job, bench)
    rows = []
    for lam in range(setting.space.max_edges + 1):
        generator = setting.generator("genotypes at", lam)
        for candidate in draw_candidates(hypernetwork, job["genotypes"], generator, low=lam, high=lam):
            genotype = candidate.genotype
            found = {"shared": shared_edges(genotype, optimal), "accuracy": accuracy_of(genotype, setting, bench)}
            rows.append({"lambda": lam, "source": candidate.source, "genotype": genotype.digest, **found})
    return {"genotypes": rows, "note": f"{len(rows)} genotypes"}


def study(experiment: Any) -> Findings:
    """Train a hypernetwork in each condition with each seed; retrain what those of two conditions give."""
    config = experiment.config

    def levels(condition: Condition) -> Condition:
        space = replace(config.space, inputs_per_node=condition["inputs"])
        return {name: level for name, level in condition.items() if name != "inputs"} | {"Lambda": space.max_edges}

    def measured(stage: str, function: Any, of: list[Condition], rows: str, **more: Any) -> pd.DataFrame:
        named = {" ".join(map(str, one.values())): {"condition": one, **more} for one in of}
        jobs = jobs_by_seed(named, config.seeds)
        results = experiment.map(stage, function, jobs)
        jobs = [levels(job["condition"]) | {"seed": job["seed"]} for job in jobs]
        return result_frame(jobs, results, rows, [*WORDS, "seed"])

    every = conditions(config.default, config.conditions)
    curves = measured("control", control_job, every, "curve")
    estimators = [one for one in every if one | {"estimator": config.search.estimator} == config.default]
    accuracy = measured("accuracy", accuracy_job, estimators, "genotypes", genotypes=config.genotypes)
    return findings(curves, accuracy, levels(config.default))


def findings(curves: pd.DataFrame, accuracy: pd.DataFrame, default: Condition) -> Findings:
    """Conclusions, tables and pictures of the shared edges and the accuracies."""
    errors = error_frame(curves)
    found = effects(errors, default)
    named = accuracy.assign(condition=accuracy["estimator"].map(WORDS["estimator"].format))
    slopes = distance_slopes(named)
    lambdas = sorted(curves["Lambda"].unique(), key=lambda edges: edges != default["Lambda"])
    sections = [
        Section(
            f"Shared edges against lambda, Lambda {edges} (Figure 3.1)",
            "Edges that the genotype of the largest logits at lambda has in common with the optimal one: mean over "
            "independent searches with its 95% interval (bootstrap over searches, widened for few of them as Student's "
            "t is). The first line is the default condition, each other one differs from it as its name says.",
            curve_figure(curves, default | {"Lambda": int(edges)}),
        )
        for edges in lambdas
    ]
    if found:
        ignorance = [f"{ignorant(edges):.2f} of {edges} edges" for edges in sorted(lambdas)]
        sections.append(
            Section(
                "Effect of each factor on the control error",
                "The control error is the mean of |lambda - shared edges| over whole lambda; a genotype that ignores "
                f"lambda has at least {', or '.join(ignorance)}. Difference to the default level, within each search "
                "averaged over all combinations of the other factors. "
                "Paired by search, but for Lambda, which has other searches at each level; p after Holm's correction "
                "for all factors.",
                table=effect_table(found, default),
            )
        )
    sections += [
        Section("Control error of every condition", "In edges, with its 95% interval.", table=error_table(errors)),
        Section(
            "Accuracy against lambda (Figure 3.2)",
            "Accuracy on V of retrained genotypes at whole lambda, the argmax one and samples, and what they share "
            "with the optimal genotype: mean over searches with its 95% interval.",
            accuracy_figure(named),
        ),
    ]
    said = [control_sentence(curves, errors, default), *effect_sentences(found, default), *slope_sentences(slopes)]
    frames = {"curves": curves, "errors": errors, "accuracy": accuracy, "slopes": slopes}
    return Findings("Control (Figures 3.1 and 3.2)", said, sections, frames)


def _only(frame: pd.DataFrame, levels: Condition) -> pd.DataFrame:
    return frame[(frame[list(levels)] == pd.Series(levels)).all(axis=1)]


def _words(factor: str, level: Any) -> str:
    return WORDS[factor].format({"as_printed": "printed"}.get(level, level))


def ignorant(edges: int) -> float:
    """The least control error of a genotype that does not depend on lambda."""
    return float(np.abs(np.arange(edges + 1) - edges // 2).mean())


def error_frame(curves: pd.DataFrame) -> pd.DataFrame:
    """One row a condition and seed: the mean of |lambda - shared edges| over whole lambda."""
    whole = curves[curves["lambda"] % 1 == 0]
    error = (whole["lambda"] - whole["shared"]).abs()
    return whole.assign(error=error).groupby([*WORDS, "seed"], sort=False, as_index=False)["error"].mean()


def effects(errors: pd.DataFrame, default: Condition) -> dict[tuple[str, Any], Comparison]:
    """By (factor, other level): control error less that of the default level, corrected together.

    Paired by seed, but for Lambda, whose levels have searches of their own with nothing but the number in common.
    Averaged within a search over the other factors' combinations that both levels have.
    """
    compared = {}
    for factor, usual in default.items():
        wide = errors.pivot(
            index=["seed", *(name for name in default if name != factor)], columns=factor, values="error"
        )
        for level in wide.columns.drop(usual):
            both = wide[[usual, level]].dropna().groupby("seed").mean()
            compared[factor, level] = compare(both[usual], both[level], paired=factor != "Lambda")
    return corrected(compared)


def effect_sentences(found: dict[tuple[str, Any], Comparison], default: Condition) -> list[str]:
    """What the factors do to the control error, those with an effect first."""
    said = [
        "Control error: " + sentence(one, _words(factor, default[factor]), _words(factor, level), unit="edges")
        for (factor, level), one in found.items()
        if one.distinguishable
    ]
    named = {_words(*name): one for name, one in found.items()}
    return said + undecided(named, "No effect on the control error is established at this budget", unit="edges")


def effect_table(found: dict[tuple[str, Any], Comparison], default: Condition) -> pd.DataFrame:
    """A row for each change of a factor."""
    named = {f"{_words(name[0], default[name[0]])} to {_words(*name)}": one for name, one in found.items()}
    return comparison_table(named, "change")


def error_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of the control error, a row a condition."""
    groups = errors.replace("as_printed", "printed").groupby(list(WORDS), sort=False, as_index=False)["error"]
    return groups.agg(**{"control error": partial(mean_text, within=AMOUNT), "worst": "max"}).round(3)


def control_sentence(curves: pd.DataFrame, errors: pd.DataFrame, default: Condition) -> str:
    """How well lambda controls the shared edges in the default condition."""
    error = _only(errors, default)["error"]
    ends = _only(curves, default).groupby("lambda")["shared"].mean()
    listed = ", ".join(_words(name, default[name]) for name in WORDS)
    return (
        f"By default ({listed}) the control error of {len(error)} searches is {mean_text(error, AMOUNT)} edges: "
        f"genotypes share {ends.iloc[0]:.2f} edges on average at lambda 0, and {ends.iloc[-1]:.2f} at lambda "
        f"{ends.index[-1]:g}."
    )


def curve_figure(curves: pd.DataFrame, default: Condition) -> go.Figure:
    """Shared edges against lambda: the default condition, and those of the same Lambda that differ in one factor."""
    frame = _only(curves, {"Lambda": default["Lambda"]})

    def change(row: pd.Series) -> str | None:
        changes = [_words(name, row[name]) for name, level in default.items() if row[name] != level]
        return ("default", *changes)[-1] if len(changes) < 2 else None

    frame = frame.assign(condition=frame.apply(change, axis=1)).dropna(subset=["condition"])
    panels = {"edges shared": ("shared", (0.0, float(default["Lambda"])))}
    return lines_figure(frame, "lambda", "condition", panels, LAMBDA, "Shared edges", "edges shared")


def accuracy_figure(accuracy: pd.DataFrame) -> go.Figure:
    """Accuracy and shared edges of the retrained genotypes against lambda, averaged within each search first."""
    keys = ["condition", "lambda", "seed"]
    means = accuracy.groupby(keys, sort=False, as_index=False)[["accuracy", "shared"]].mean()
    panels = {"accuracy on V": ("accuracy", SHARE), "edges shared": ("shared", AMOUNT)}
    return lines_figure(means, "lambda", "condition", panels, LAMBDA, "Retrained genotypes", "edges shared")


def distance_slopes(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row a condition and seed: accuracy won with each edge that differs from the optimal genotype's.

    The least-squares slope over a search's distinct genotypes; searches whose genotypes all share as much have none.
    """
    distinct = accuracy.drop_duplicates(["condition", "seed", "genotype"])
    return slope_frame(distinct.assign(distance=-distinct["shared"]), ["condition", "seed"], "distance", "accuracy")


def slope_sentences(slopes: pd.DataFrame) -> list[str]:
    """Whether a genotype is worse the further it is from the optimal one: slopes against none, corrected together."""
    tests = against_zero(dict(list(slopes.groupby("condition", sort=False)["slope"])))
    said = [
        sentence(
            one, "0", f"Accuracy on V, {name}: its change with each edge further from the optimal genotype", points=True
        )
        for name, one in tests.items()
    ]
    return said or ["All retrained genotypes of each search share as much: their distance cannot explain accuracy."]


if __name__ == "__main__":
    sys.exit(experiment_main(ControlConfig, __doc__, study))
