"""Does lambda control the shared edges, and is a genotype worse the further it is from the optimal (Figures 3.1, 3.2)?

python studies/control.py                              # digits, embedded: all 32 conditions
python studies/control.py --conditions one-at-a-time   # for dearer data: each factor changed alone

Where text and code of the paper differ, both are conditions here: eq. (2.2) as printed against the corrected one;
pivots that train (the text) against fixed ones (the code detaches them); lambda from U[-eps, Lambda + eps] (the text,
eps 0.2) against U[0, Lambda] (the code's lower end). Accuracy is that on V: nothing is chosen by it, and T is not read.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from edgenes.config import HypernetworkConfig
from edgenes.methods.budget import Setting
from edgenes.metrics import summary
from edgenes.nn.network import cell_layout
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import INTERPOLATIONS, Hypernetwork, control_error, draw_candidates
from edgenes.space.penalty import ESTIMATORS
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.sweep import MOST
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
from tune_jobs.report.style import GREY

Condition = dict[str, Any]
"""A level of each factor."""
FACTORS: dict[str, tuple] = {
    "estimator": ESTIMATORS,
    "pivots": ("fixed", "trainable"),
    "interpolation": INTERPOLATIONS,
    "epsilon": (0.0, HypernetworkConfig.epsilon),
    "inputs": (1, 2),
}
WORDS = {
    "estimator": "{} penalty",
    "pivots": "{} pivots",
    "interpolation": "{} map",
    "epsilon": "eps {:g}",
    "Lambda": "Lambda {}",
}
"""How a level of a factor is told; frames have Lambda in the place of the inputs a node."""
FINE = 4  # points an edge of the curves: enough to show a jump at a pivot


@dataclass(frozen=True, kw_only=True)
class ControlConfig(ExperimentConfig):
    """Control of the shared edges by lambda under five factors, and accuracy against lambda."""

    NAME: ClassVar[str] = "control"

    conditions: Literal["all", "one-at-a-time", "default"] | None = None
    """all: every combination of the factors, 32; one-at-a-time: the default one, and each factor changed alone. By
    default all on a laptop's data, one-at-a-time for dearer presets and in the smoke test."""
    genotypes: int = 2
    """Genotypes retrained at each whole lambda: the argmax one, then samples."""

    def __post_init__(self):
        super().__post_init__()
        if self.conditions is None:
            cheap = self.preset == "laptop" and not self.smoke_test
            object.__setattr__(self, "conditions", "all" if cheap else "one-at-a-time")
        check_at_least(self, 1, "genotypes")
        check_at_most(self, MOST, "genotypes")

    @property
    def default(self) -> Condition:
        """The condition that the others are changes of."""
        values = (self.estimator, "fixed", "corrected", HypernetworkConfig.epsilon, self.inputs_per_node)
        return dict(zip(FACTORS, values, strict=True))


def conditions(default: Condition, which: str) -> list[Condition]:
    """The conditions to run, the default one first."""
    if which == "default":
        return [default]
    changed = [default] + [default | {name: _other(name, default[name])} for name in FACTORS]
    if which == "one-at-a-time":
        return changed
    every = [dict(zip(FACTORS, levels, strict=True)) for levels in itertools.product(*FACTORS.values())]
    return changed + [each for each in every if each not in changed]


def _other(factor: str, level: Any) -> Any:
    return next(each for each in FACTORS[factor] if each != level)


def twins(genotype: Genotype, optimal: Genotype) -> int:
    """Edges that count as different, though in the first cell they do an optimal edge's operation on the same data.

    Both inputs of the first cell are the stem, so that there the edges from 0 and 1 differ in the input's number alone.
    A genotype has a cell of each type, of which one is the first.
    """
    space = genotype.space
    first = space.cell_types.index(cell_layout(space, 3)[0])  # the same however many cells there are

    def edges(of: Genotype) -> Counter:
        return Counter((c, j, max(int(c == first), edge.input), edge.operation) for c, j, edge in of.edge_set)

    return (edges(genotype) & edges(optimal)).total() - shared_edges(genotype, optimal)


def trained(job: dict[str, Any], bench: Any) -> tuple[Setting, Hypernetwork, Genotype]:
    """The setting, the hypernetwork of the job's seed and condition, and the optimal genotype."""
    setting, condition = bench.of_seed(job["seed"]), job["condition"]
    space = replace(setting.space, inputs_per_node=condition["inputs"])
    setting = replace(
        setting,
        search=replace(setting.search, space=space),
        hypernetwork=replace(
            setting.hypernetwork,
            space=space,
            estimator=condition["estimator"],
            trainable_pivots=condition["pivots"] == "trainable",
            interpolation=condition["interpolation"],
            epsilon=condition["epsilon"],
        ),
    )
    optimal = bench.trainer.search(setting.search_config()).genotype
    return setting, bench.trainer.hypernetwork(setting.hypernetwork_config(), optimal).hypernetwork, optimal


def control_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Shared edges of the argmax genotype along lambda, in one condition with one seed."""
    setting, hypernetwork, optimal = trained(job, bench)
    grid = [step / FINE for step in range(setting.space.max_edges * FINE + 1)]
    genotypes = [hypernetwork.genotype(lam) for lam in grid]
    error = control_error(hypernetwork, optimal)
    return {
        "control_error": error,
        "curve": [
            {"lambda": lam, "shared": shared_edges(genotype, optimal), "twins": twins(genotype, optimal)}
            for lam, genotype in zip(grid, genotypes, strict=True)
        ],
        "note": f"control error {error:.2f}",
    }


def accuracy_job(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Accuracy on V of retrained genotypes at each whole lambda, in one condition with one seed."""
    setting, hypernetwork, optimal = trained(job, bench)
    rows = []
    for lam in range(setting.space.max_edges + 1):
        generator = setting.generator("genotypes at", lam)
        for candidate in draw_candidates(hypernetwork, job["genotypes"], generator, low=lam, high=lam):
            found = bench.trainer.retrain(setting.training_config(candidate.genotype), candidate.genotype)
            rows.append(
                {
                    "lambda": lam,
                    "shared": shared_edges(candidate.genotype, optimal),
                    "source": candidate.source,
                    "genotype": candidate.genotype.digest,
                    "accuracy": summary(found.probabilities, bench.data.validation.labels)["accuracy"],
                }
            )
    return {"genotypes": rows, "note": f"{len(rows)} genotypes"}


def study(experiment: Any) -> Findings:
    """Train a hypernetwork in each condition with each seed; retrain what those of two conditions give."""
    config = experiment.config

    def jobs(of: Sequence[Condition], **more: Any) -> list[dict[str, Any]]:
        return [
            {"name": " ".join(map(str, [*one.values(), "seed", seed])), "condition": one, "seed": seed, **more}
            for one in of
            for seed in range(config.seeds)
        ]

    every = conditions(config.default, config.conditions)
    control = jobs(every)
    curves = experiment.map("control", control_job, control)
    estimators = [one for one in every if one | {"estimator": config.estimator} == config.default]
    accuracy = jobs(estimators, genotypes=config.genotypes)
    retrained = experiment.map("accuracy", accuracy_job, accuracy)

    def levels(condition: Condition) -> Condition:
        space = replace(config.space, inputs_per_node=condition["inputs"])
        return {name: value for name, value in condition.items() if name != "inputs"} | {"Lambda": space.max_edges}

    return findings(
        condition_frame(control, curves, levels, "curve"),
        condition_frame(accuracy, retrained, levels, "genotypes"),
        levels(config.default),
        (config.search_cells, config.cells),
    )


def condition_frame(jobs: list[dict], results: list[dict], levels: Any, rows: str) -> pd.DataFrame:
    """One row for each of the results' `rows`, with its condition's levels and its seed."""
    return pd.DataFrame(
        {**levels(job["condition"]), "seed": job["seed"], **row}
        for job, result in zip(jobs, results, strict=True)
        for row in result[rows]
    )


def findings(curves: pd.DataFrame, accuracy: pd.DataFrame, default: Condition, cells: tuple[int, int]) -> Findings:
    """Conclusions, tables and pictures of the two `condition_frame`s; `cells` of the supernet and the networks."""
    errors = error_frame(curves)
    found = effects(errors, default)
    same = twin_frame(_only(curves, default))
    named = accuracy.assign(condition=accuracy["estimator"].map(WORDS["estimator"].format))
    slopes = slope_frame(named)
    sections = [
        Section(
            f"Shared edges against lambda, Lambda {edges} (Figure 3.1)",
            "Edges that the genotype of the largest logits at lambda has in common with the optimal one: mean over "
            "independent searches with its 95% interval (bootstrap over searches, widened for few of them "
            "as Student's t is). The first line is the default "
            "condition, each other one differs from it as its name says.",
            curve_figure(curves, default | {"Lambda": int(edges)}),
        )
        for edges in sorted(curves["Lambda"].unique(), key=lambda edges: edges != default["Lambda"])
    ]
    if found:
        sections.append(
            Section(
                "What each factor does to the control error",
                "The control error is the mean of |lambda - shared edges| over whole lambda. Difference to the default "
                "level, within each search averaged over all combinations of the other factors, or with the others at "
                "their defaults (alone). Paired by search, but for Lambda, which has other searches at each level; p "
                "after Holm's correction for all factors. "
                + " ".join(
                    f"A genotype that ignores lambda is wrong by {ignorant(edges):.2f} of {edges} edges at best."
                    for edges in sorted(curves["Lambda"].unique())
                ),
                effect_figure(found),
                effect_table(found, errors, default),
            )
        )
    sections += [
        Section("Control error of every condition", "In edges, with its 95% interval.", table=error_table(errors)),
        Section(
            "Accuracy against lambda (Figure 3.2)",
            "Accuracy on V of retrained genotypes at whole lambda, the argmax one and samples, and what they share "
            "with the optimal genotype: mean over searches with its 95% interval.",
            accuracy_figure(named),
            slope_table(slopes) if len(slopes) else None,
        ),
        Section(
            "Different edges that compute the same",
            f"Both inputs of a first cell are the stem's output, each behind a 1x1 convolution of its own: there an "
            f"edge from input 0 and one from input 1 with the same operation compute the same kind of function of the "
            f"same data, and yet count as different. That is {_part(cells[0])} of the supernet, and {_part(cells[1])} "
            f"of the retrained networks. Argmax genotypes at whole lambda, default condition, all searches together.",
            table=same,
        ),
    ]
    told = [control_sentence(curves, errors, default), *effect_sentences(found, default), *slope_sentences(slopes)]
    frames = {"curves": curves, "errors": errors, "accuracy": accuracy, "slopes": slopes, "twins": same}
    return Findings("Control (Figures 3.1 and 3.2)", [*told, twin_sentence(same)], sections, frames)


def _part(cells: int) -> str:
    return "the only cell" if cells == 1 else f"the first of {cells} cells"


def _only(frame: pd.DataFrame, levels: Condition) -> pd.DataFrame:
    return frame[np.logical_and.reduce([frame[name] == level for name, level in levels.items()])]


def _told(factor: str, level: Any) -> str:
    return WORDS[factor].format({"as_printed": "printed"}.get(level, level))


def ignorant(edges: int) -> float:
    """The least control error of a genotype that does not depend on lambda."""
    return float(np.abs(np.arange(edges + 1) - edges // 2).mean())


def error_frame(curves: pd.DataFrame) -> pd.DataFrame:
    """One row a condition and seed: the mean of |lambda - shared edges| over whole lambda."""
    whole = curves[curves["lambda"] % 1 == 0]
    error = (whole["lambda"] - whole["shared"]).abs()
    return whole.assign(error=error).groupby([*WORDS, "seed"], sort=False, as_index=False)["error"].mean()


def effects(errors: pd.DataFrame, default: Condition, alone: bool = False) -> dict[tuple[str, Any], Comparison]:
    """By (factor, other level): control error less that of the default level, corrected together.

    Paired by seed, but for Lambda, whose levels have searches of their own with nothing but the number in common.
    Averaged over the other factors' combinations, or with these at their defaults (`alone`).
    """
    compared = {}
    for factor in WORDS:
        rest = [name for name in WORDS if name != factor]
        rows = _only(errors, {name: default[name] for name in rest}) if alone else errors
        for level in rows[factor].unique():
            if level == default[factor]:
                continue
            wide = rows.pivot(index=["seed", *rest], columns=factor, values="error")[[default[factor], level]]
            wide = wide.dropna().groupby("seed").mean()
            compared[factor, level] = compare(wide[default[factor]], wide[level], paired=factor != "Lambda")
    return corrected(compared)


def effect_sentences(found: dict[tuple[str, Any], Comparison], default: Condition) -> list[str]:
    """What the factors do to the control error, those that can be told first."""
    told = [
        "Control error: " + sentence(one, _told(name[0], default[name[0]]), _told(*name), unit="edges")
        for name, one in found.items()
        if one.distinguishable
    ]
    named = {_told(*name): one for name, one in found.items()}
    return told + undecided(named, "No effect on the control error is established at this budget", unit="edges")


def effect_figure(found: dict[tuple[str, Any], Comparison]) -> go.Figure:
    """Each factor's difference in control error with its interval."""
    frame = pd.DataFrame(
        [
            {"level": _told(*name), "mean": one.difference, "low": one.low, "high": one.high}
            for name, one in found.items()
        ]
    )
    axis = "difference in control error (edges); to the left is better"
    figure = dots_figure(frame.astype({"low": float, "high": float}), "level", axis, "Change of one factor")
    return figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"})


def effect_table(found: dict[tuple[str, Any], Comparison], errors: pd.DataFrame, default: Condition) -> pd.DataFrame:
    """Main effects beside the effects with the other factors at their defaults."""
    alone = effects(errors, default, alone=True)

    def interval(one: Comparison | None) -> str:
        if one is None:
            return ""
        return f"{one.difference:+.2f}" + ("" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]")

    return pd.DataFrame(
        {
            "change": f"{_told(name[0], default[name[0]])} to {_told(*name)}",
            "averaged": interval(one),
            "p (Holm)": "" if one.p_holm is None else f"{one.p_holm:.2g}",
            "alone": interval(alone.get(name)),
        }
        for name, one in found.items()
    )


def error_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of the control error, a row a condition."""
    rows = []
    for levels, group in errors.groupby(list(WORDS), sort=False):
        shown = {name: "printed" if level == "as_printed" else level for name, level in zip(WORDS, levels, strict=True)}
        rows.append(
            {
                **shown,
                "control error": mean_estimate(group["error"], within=AMOUNT).told(),
                "worst": group["error"].max(),
            }
        )
    return pd.DataFrame(rows).round(3)


def control_sentence(curves: pd.DataFrame, errors: pd.DataFrame, default: Condition) -> str:
    """How well lambda controls the shared edges in the default condition."""
    error = mean_estimate(_only(errors, default)["error"], within=AMOUNT)
    ends = _only(curves, default).groupby("lambda")["shared"].mean()
    listed = ", ".join(_told(name, default[name]) for name in WORDS)
    return (
        f"By default ({listed}) the control error is {error.told()} edges (n = {error.n} searches): genotypes share "
        f"{ends.iloc[0]:.2f} edges on average at lambda 0, and {ends.iloc[-1]:.2f} at lambda {ends.index[-1]:g}."
    )


def curve_figure(curves: pd.DataFrame, default: Condition) -> go.Figure:
    """Shared edges against lambda: the default condition, and those of the same Lambda that differ in one factor."""
    frame = _only(curves, {"Lambda": default["Lambda"]})
    changes = [(frame[name] != level).to_numpy() for name, level in default.items()]
    frame = frame[np.sum(changes, axis=0) <= 1]
    names = [
        next((_told(name, row[name]) for name, level in default.items() if row[name] != level), "default")
        for _, row in frame.iterrows()
    ]
    within = (0.0, float(default["Lambda"]))
    shown = interval_frame(frame.assign(condition=names), ["condition", "lambda"], "shared", within)
    axes = {"lambda": "lambda, edges asked for"}
    return lines_figure({"edges shared": shown}, "lambda", "condition", axes, "Shared edges", "edges shared")


def accuracy_figure(accuracy: pd.DataFrame) -> go.Figure:
    """Accuracy and shared edges of the retrained genotypes against lambda, averaged within each search first."""
    keys = ["condition", "lambda", "seed"]
    means = accuracy.groupby(keys, sort=False, as_index=False)[["accuracy", "shared"]].mean()
    panels = {
        title: interval_frame(means, ["condition", "lambda"], value, within)
        for title, value, within in (("accuracy on V", "accuracy", SHARE), ("edges shared", "shared", AMOUNT))
    }
    axes = {"lambda": "lambda, edges asked for"}
    return lines_figure(panels, "lambda", "condition", axes, "Retrained genotypes", "edges shared")


def slope_frame(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row a condition and seed: accuracy lost or won with each edge that differs from the optimal genotype's.

    The least-squares slope over a search's distinct genotypes; searches whose genotypes all share as much have none.
    """
    rows = []
    for (condition, seed), group in accuracy.groupby(["condition", "seed"], sort=False):
        group = group.drop_duplicates("genotype")
        if group["shared"].nunique() > 1:
            slope = -np.polyfit(group["shared"], group["accuracy"], 1)[0]
            rows.append({"condition": condition, "seed": seed, "genotypes": len(group), "slope": float(slope)})
    return pd.DataFrame(rows, columns=["condition", "seed", "genotypes", "slope"])


def slope_tests(slopes: pd.DataFrame) -> dict[str, Comparison]:
    """The slopes of each condition against none, corrected together."""
    groups = slopes.groupby("condition", sort=False)["slope"]
    return corrected({name: compare(np.zeros(len(found)), found, paired=True) for name, found in groups})


def slope_table(slopes: pd.DataFrame) -> pd.DataFrame:
    """Points of accuracy for each edge that differs, a row a condition."""
    return pd.DataFrame(
        {
            "condition": name,
            "points an edge further": mean_estimate(slopes.loc[slopes["condition"] == name, "slope"]).told(points=True),
            "p (Holm)": "" if one.p_holm is None else f"{one.p_holm:.2g}",
            "searches": one.n[1],
        }
        for name, one in slope_tests(slopes).items()
    )


def slope_sentences(slopes: pd.DataFrame) -> list[str]:
    """Whether a genotype is worse the further it is from the optimal one."""
    told = []
    for name, one in slope_tests(slopes).items():
        found = mean_estimate(slopes.loc[slopes["condition"] == name, "slope"])
        verdict = f"{found.told(points=True)} points an edge further (n = {found.n} searches"
        if one.distinguishable:
            verdict += f", p = {one.p_holm:.2g}): that it is worse "
            verdict += "holds here" if one.difference < 0 else "is contradicted, it is better"
        elif one.detectable is not None:
            verdict += f", p = {one.p_holm:.2g}): not distinguishable from none at this budget, which could have "
            verdict += f"detected {100 * one.detectable:.2f}"
        else:
            verdict += "): too little to tell"
        told.append(f'"The further from the optimal genotype, the worse", {name}: accuracy on V changes by {verdict}.')
    if not told:
        told.append("All retrained genotypes of each search share as much: their distance cannot explain accuracy.")
    return told


def twin_frame(curves: pd.DataFrame) -> pd.DataFrame:
    """By whole lambda: edges that differ from the optimal genotype's, and those of them that compute the same."""
    whole = curves[curves["lambda"] % 1 == 0]
    frame = whole.assign(different=whole["Lambda"] - whole["shared"])
    frame = frame.groupby("lambda", as_index=False)[["different", "twins"]].sum()
    return frame.rename(columns={"different": "different edges", "twins": "same operation on the same data"})


def twin_sentence(frame: pd.DataFrame) -> str:
    """How many different edges compute the same."""
    _, different, same = frame.sum()
    if not different:
        return "No edge differs from the optimal genotype's, at any whole lambda."
    return (
        f"Of {different:.0f} edges that count as different from the optimal genotype's at whole lambda, {same:.0f} "
        f"({100 * same / different:.0f}%) do an optimal edge's operation on the same data in the first cell, whose "
        f"inputs 0 and 1 are both the stem."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(ControlConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
