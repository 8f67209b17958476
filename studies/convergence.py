"""Compare how fast EdgeNES and DartsEns find an ensemble: accuracy against iterations of the search (Figure 4.1).

python studies/convergence.py                            # digits, embedded: minutes on a laptop
python studies/convergence.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

An iteration is a weight step of a search: EdgeNES's are those of its search, then of its hypernetwork; DartsEns's are
those of its n searches together, which go on in turns, so that each has done I / n after I. Retraining counts for
neither. A curve tells what a running search would give if it were stopped: schedules of rates, weights and
temperatures are those of the whole. EdgeNES has a curve from the first epoch of its hypernetwork on.

The paper does not say what it retrains at a point; here it is what the method would retrain at its end. EdgeNES
chooses n of m networks and DartsEns takes all of its n; a second curve gives DartsEns m networks, its n genotypes
trained from several seeds. The paper compares the areas from iteration 80 on, chosen by its graph of test accuracies;
here they are compared over all iterations that the curves have in common, unless --area-from says else.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import best_ensemble, hypernetwork_pool, random_nes
from edgenes.methods.cost import Work, search_work
from edgenes.methods.result import Member
from edgenes.methods.trainer import Trainer
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.sweep import MOST
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import interval_frame, lines_figure
from tune_jobs.report.statistics import (
    SHARE,
    Comparison,
    area,
    common_range,
    compare,
    corrected,
    mean_estimate,
    one_test_set,
    sentence,
)

EDGE, DARTS, POOLED, RANDOM = "EdgeNES", "DartsEns", "DartsEns of a pool", "Random-NES"
PAPER_P = 0.0287
"""The paper's p-value of the areas."""
ACCURACY, MEMBER = "accuracy of the ensemble", "mean accuracy of members"


@dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(ExperimentConfig):
    """What EdgeNES and DartsEns have found after so many iterations of their searches."""

    NAME: ClassVar[str] = "convergence"

    points: int = 8
    """Points of a curve, evenly over the iterations that the curves have in common; a curve that goes on has one more
    at its end."""
    retraining: Literal["short", "full"] | None = None
    """How long the networks of a point are trained: short_epochs or final_epochs. By default short in the laptop
    preset, where full trainings of all points would take half an hour, and full in the others, as in the paper."""
    area_from: int | None = None
    """Epochs of searches from which on the areas are compared, such as the paper's 80; by default all in common. It is
    fixed when a study begins, as T is read once for the whole curves."""

    def __post_init__(self):
        super().__post_init__()
        if self.retraining is None:
            object.__setattr__(self, "retraining", "short" if self.preset == "laptop" else "full")
        check_at_least(self, 2, "points", "ensemble_size")
        check_at_most(self, MOST, "points")
        low, high = shared_epochs(self.search_epochs, self.hypernetwork_epochs, self.ensemble_size)
        if low >= high:
            raise ConfigError(
                f"the curves have no range in common: EdgeNES's begins with its hypernetwork, after "
                f"{self.search_epochs} epochs of search, and the first ends after {high}; ask for more "
                "hypernetwork_epochs or search_epochs."
            )
        if self.area_from is not None and not low <= self.area_from < high:
            raise ConfigError(
                f"area_from lies between {low} and {high - 1} epochs, which both curves have; got {self.area_from}."
            )


def shared_epochs(search: int, hypernetwork: int, runs: int) -> tuple[int, int]:
    """First and last epoch, of all searches together, that both methods' curves have."""
    return max(search + 1, runs), min(search + hypernetwork, runs * search)


def points_of(config: ConvergenceConfig) -> dict[str, list[int]]:
    """Epochs of the points, by method: even ones over what is common, and where a curve ends."""
    sizes = config.search_epochs, config.hypernetwork_epochs, config.ensemble_size
    low, high = shared_epochs(*sizes)
    even = sorted({round(x) for x in np.linspace(low, high, config.points)})
    ends = {EDGE: config.search_epochs + config.hypernetwork_epochs, DARTS: config.search_epochs * config.ensemble_size}
    return {method: even + [end] * (end > high) for method, end in ends.items()}


def turns(total: int, runs: int) -> list[int]:
    """What each of so many runs, which go on in turns, has done of `total`."""
    return [total // runs + (run < total % runs) for run in range(runs)]


Point = tuple[str, int, list[Member]]
"""A curve, the epochs done, and the ensemble that there would be."""


def edge_points(setting: Setting, trainer: Trainer, epochs: Sequence[int]) -> Iterator[Point]:
    """EdgeNES: of the hypernetwork as it was, the best n of m on V."""
    optimal = trainer.search(setting.search_config()).genotype
    trained = trainer.hypernetwork(setting.hypernetwork_config(), optimal)
    for done in epochs:
        pool = hypernetwork_pool(trained.at(done - setting.search.epochs), setting)
        yield EDGE, done, best(pool, setting, trainer)


def darts_points(setting: Setting, trainer: Trainer, epochs: Sequence[int]) -> Iterator[Point]:
    """DartsEns: the genotypes of n searches as they were, trained from a seed each; all n, and the best n of m."""
    searches = [trainer.search(setting.search_config(run)) for run in range(setting.size)]
    for done in epochs:
        genotypes = [found.trace[each - 1] for found, each in zip(searches, turns(done, setting.size), strict=True)]
        trained = [genotypes[k % setting.size] for k in range(setting.candidates)]
        pool = [Member(genotype, setting.training_config(genotype, k)) for k, genotype in enumerate(trained)]
        yield DARTS, done, pool[: setting.size]
        yield POOLED, done, best(pool, setting, trainer)


def random_points(setting: Setting, trainer: Trainer, epochs: Sequence[int]) -> Iterator[Point]:
    """Random-NES, which searches for 0 epochs: of m random genotypes the best n."""
    pool, chosen = random_nes(setting, trainer)
    for done in epochs:
        yield RANDOM, done, [pool[k] for k in chosen]


METHODS: dict[str, Callable[[Setting, Trainer, Sequence[int]], Iterator[Point]]] = {
    EDGE: edge_points,
    DARTS: darts_points,
    RANDOM: random_points,
}


def best(pool: list[Member], setting: Setting, trainer: Trainer) -> list[Member]:
    """The pool's best ensemble on V."""
    _, chosen = best_ensemble(pool, setting, trainer)
    return [pool[k] for k in chosen]


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """A method's curve with one seed: the ensemble at each point, chosen on V."""
    setting = bench.of_seed(job["seed"])
    setting = replace(setting, training=replace(setting.training, epochs=job["retraining"]))
    points = []
    for curve, done, members in METHODS[job["method"]](setting, bench.trainer, job["epochs"]):
        predictions = [bench.trainer.retrain(member.config, member.genotype).probabilities for member in members]
        points.append(
            {
                "curve": curve,
                "epochs": done,
                "members": [member.to_dict() for member in members],
                "validation": summary(ensemble_probabilities(np.stack(predictions)), bench.data.validation.labels),
            }
        )
    return {
        "points": points,
        "steps": max(1, len(bench.data.weights) // setting.search.batch_size),
        "work": vars(search_of(job["method"], setting, bench.data)),
        "note": f"{len(points)} points",
    }


def search_of(method: str, setting: Setting, data: Any) -> Work:
    """What the whole search of a method costs."""
    runs = {EDGE: [setting.search_config(), setting.hypernetwork_config()], RANDOM: []}
    configs = runs.get(method, [setting.search_config(run) for run in range(setting.size)])
    return sum((search_work(config, data) for config in configs), Work())


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles of all points on T."""
    config = experiment.config
    epochs = points_of(config) | {RANDOM: [0]}
    retraining = config.short_epochs if config.retraining == "short" else config.final_epochs
    jobs = [
        {
            "name": f"{method} seed {seed}",
            "method": method,
            "seed": seed,
            "epochs": epochs[method],
            "retraining": retraining,
        }
        for seed in range(config.seeds)
        for method in METHODS
    ]
    results = experiment.map("curves", one_run, jobs)
    named: dict[tuple[Member, ...], str] = {}
    for job, result in zip(jobs, results, strict=True):
        for point in result["points"]:
            members = tuple(map(Member.from_dict, point["members"]))
            named.setdefault(members, f"{point['curve']} seed {job['seed']} at {point['epochs']}")
    found = experiment.evaluate({name: members for members, name in named.items()})
    tested = {members: found[name] for members, name in named.items()}
    rows = curves_frame(jobs, results, tested)
    return findings(rows, retraining, len(experiment.run.data.test), config.area_from)


def curves_frame(jobs: list[dict], results: list[dict], tested: dict[tuple[Member, ...], dict]) -> pd.DataFrame:
    """One row a curve, seed and point: iterations, accuracy of ensemble and members on T, and on V."""
    rows = []
    for job, result in zip(jobs, results, strict=True):
        for point in result["points"]:
            members = tuple(map(Member.from_dict, point["members"]))
            test = tested[members]
            rows.append(
                {
                    "curve": point["curve"],
                    "seed": job["seed"],
                    "epochs": point["epochs"],
                    "iterations": point["epochs"] * result["steps"],
                    "test_accuracy": test["ensemble"]["accuracy"],
                    "member_accuracy": float(np.mean([member["accuracy"] for member in test["members"]])),
                    "validation_accuracy": point["validation"]["accuracy"],
                    "architectures": len({member.genotype for member in members}),
                    "search_steps": result["work"]["steps"],
                    "search_images": result["work"]["images"],
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Areas:
    """Mean height of each curve, a column each, and each seed, over `low` to `high` epochs."""

    frame: pd.DataFrame
    low: float
    high: float
    steps: int
    """Iterations an epoch."""

    def range(self) -> str:
        """In words."""
        return f"{round(self.low * self.steps)} to {round(self.high * self.steps)}"


def areas(frame: pd.DataFrame, area_from: int | None = None) -> Areas:
    """The areas of a `curves_frame`, divided by the range that all curves cover; what needs no search is level."""
    searched = frame[frame["epochs"] > 0]
    curves = {key: curve.sort_values("epochs") for key, curve in searched.groupby(["curve", "seed"], sort=False)}
    low, high = common_range([curve["epochs"] for curve in curves.values()])
    low = low if area_from is None else max(low, area_from)
    rows = [
        {"curve": name, "seed": seed, "area": area(curve["epochs"], curve["test_accuracy"], low, high)}
        for (name, seed), curve in curves.items()
    ]
    level = frame[frame["epochs"] == 0]
    rows += [{"curve": row.curve, "seed": row.seed, "area": row.test_accuracy} for row in level.itertuples()]
    wide = pd.DataFrame(rows).pivot(index="seed", columns="curve", values="area")
    steps = round(searched["iterations"].iloc[0] / searched["epochs"].iloc[0])
    return Areas(wide[list(dict.fromkeys(frame["curve"]))], low, high, steps)


def findings(frame: pd.DataFrame, retraining: int, test_images: int, area_from: int | None = None) -> Findings:
    """Conclusions, table and picture of a `curves_frame`: networks trained for so many epochs, T of so many images."""
    found = areas(frame, area_from)
    trained = f"{retraining} epoch{'s' * (retraining > 1)}"
    curves = {
        title: interval_frame(levelled(frame), ["curve", "iterations"], column, SHARE)
        for title, column in ((ACCURACY, "test_accuracy"), (MEMBER, "member_accuracy"))
    }
    return Findings(
        "Convergence (Figure 4.1)",
        conclusions(found),
        [
            Section(
                "Test accuracy against iterations",
                f"Mean over independent searches with its 95% interval. Every point's networks are trained from "
                f"scratch for {trained}, and its ensemble is chosen on validation data; the test images were "
                f"read after all runs had ended. {POOLED}: as many networks as EdgeNES chooses from, the genotypes of "
                f"the searches trained from several seeds. {RANDOM} searches nothing and is level. "
                + one_test_set(frame["test_accuracy"].mean(), test_images),
                lines_figure(curves, "iterations", "curve", {"iterations": "iterations of the search"}, "Convergence"),
            ),
            Section(
                "Areas under the curves",
                f"Mean height over iterations {found.range()}, and the ends of the curves. "
                "Intervals are those of each alone; the comparison above is paired by seed.",
                table=table(frame, found),
            ),
            Section(
                "What an iteration is",
                f"A weight step: {found.steps} an epoch, of a search or of a hypernetwork. Each has a step of the "
                "architecture beside it, but those of a search's warm-up. A step of the hypernetwork and one of a "
                "search see as many images, once the search has warmed up; below is all of a method's search, up to "
                "the end of its curve. Retraining counts for neither.",
                table=costs(frame),
            ),
        ],
        {"convergence": frame, "areas": found.frame.reset_index()},
    )


def levelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with what needs no search at the iterations of all others, so that it is drawn as a line."""
    searched, level = frame[frame["epochs"] > 0], frame[frame["epochs"] == 0]
    ends = [searched["iterations"].min(), searched["iterations"].max()]
    return pd.concat([searched, *(level.assign(iterations=end) for end in ends)], ignore_index=True)


def conclusions(found: Areas) -> list[str]:
    """What the areas say: the paper's comparison, then the others of EdgeNES, all corrected together by Holm."""
    frame = found.frame
    means = ", ".join(f"{name} {mean_estimate(frame[name], within=SHARE).told(points=True)}" for name in frame)
    told = [f"Mean test accuracy, in percent, over iterations {found.range()} of the search: {means}."]
    compared = {DARTS: compare(frame[DARTS], frame[EDGE], paired=True)}
    compared |= {name: compare(frame[EDGE], frame[name], paired=True) for name in (POOLED, RANDOM)}
    compared = corrected(compared)
    paper = compared.pop(DARTS)
    told += [sentence(paper, DARTS, EDGE, points=True), beside_the_paper(paper)]
    return told + [sentence(one, EDGE, name, points=True) for name, one in compared.items()]


def beside_the_paper(comparison: Comparison) -> str:
    """How DartsEns against EdgeNES compares with what the paper says of it."""
    known = f"The paper finds EdgeNES's area larger, p = {PAPER_P}, from iteration 80 on"
    if comparison.conclusion == "B higher":
        return f"{known}: so it is here."
    if comparison.conclusion == "B lower":
        return f"{known}: here it is smaller."
    return f"{known}: these searches neither confirm nor refute that."


def table(frame: pd.DataFrame, found: Areas) -> pd.DataFrame:
    """Means and intervals of the areas, and of the accuracy at both ends of the common range and of the curve."""
    rows = []
    for name, curve in frame.groupby("curve", sort=False):
        row = {"curve": name, "area": mean_estimate(found.frame[name], within=SHARE).told()}
        points = {
            "at the range's start": found.low,
            "at the range's end": found.high,
            "at the curve's end": curve["epochs"].max(),
        }
        for title, epochs in points.items():
            at = curve.loc[curve["epochs"] == epochs, "test_accuracy"]  # none where area_from is between two points
            row[title] = mean_estimate(at, within=SHARE).told() if len(at) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each method's whole search: epochs, iterations, all steps, and thousands of images that passed forward."""
    ends = frame.sort_values("epochs").groupby("curve", sort=False).last().reindex(dict.fromkeys(frame["curve"]))
    return pd.DataFrame(
        {
            "curve": ends.index,
            "epochs": ends["epochs"].to_numpy(),
            "iterations": ends["iterations"].to_numpy(),
            "steps of weights and architecture": ends["search_steps"].to_numpy(),
            "thousand images": (ends["search_images"] / 1000).round(1).to_numpy(),
        }
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(ConvergenceConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
