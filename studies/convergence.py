"""Compare how fast EdgeNES and DartsEns find an ensemble: accuracy against iterations of the search (Figure 4.1).

python studies/convergence.py                            # digits, embedded: minutes on a laptop
python studies/convergence.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

An iteration is a weight step of a search: EdgeNES's are those of its search, then of its hypernetwork; DartsEns's are
those of its n searches together, which take turns, so that each has done I / n after I. Retraining counts for
neither. A curve shows what a running search would give if it were stopped: schedules of rates, weights and
temperatures are those of the whole. EdgeNES has a curve from the first epoch of its hypernetwork on.

The paper does not say what it retrains at a point; here it is what the method would retrain at its end. EdgeNES
chooses n of m networks and DartsEns takes all of its n; a second curve gives DartsEns m networks, its n genotypes
trained from several seeds. The paper compares the areas from iteration 80 on, chosen by its graph of test accuracies;
here they are compared over all iterations that the curves have in common.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgenes.errors import ConfigError
from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig

EDGE, DARTS, POOLED, RANDOM = "EdgeNES", "DartsEns", "DartsEns of a pool", "Random-NES"


@dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(ExperimentConfig):
    """What EdgeNES and DartsEns have found after so many iterations of their searches."""

    NAME: ClassVar[str] = "convergence"

    points: int = 8
    """Points of a curve, evenly over the iterations that the curves have in common; a longer curve has one more at
    its end."""
    retraining: Literal["short", "full"] | None = None
    """How long the networks of a point are trained: short_epochs or final_epochs. By default short in the laptop
    preset, where full trainings of all points would take half an hour, and full in the others, as in the paper."""

    def __post_init__(self):
        super().__post_init__()
        if self.retraining is None:
            object.__setattr__(self, "retraining", "short" if self.preset == "laptop" else "full")
        check_at_least(self, 2, "points")
        check_at_least(self.budget, 2, "ensemble_size")
        low, high = self.shared_epochs
        if low >= high:
            raise ConfigError(
                f"the curves have no range in common: EdgeNES's begins after {self.budget.search_epochs} epochs of "
                f"search, and the first one ends after {high}; raise hypernetwork_epochs or search_epochs."
            )

    @property
    def ends(self) -> dict[str, int]:
        """The last epoch of each method's curve, all of its searches together."""
        search = self.budget.search_epochs
        return {EDGE: search + self.budget.hypernetwork_epochs, DARTS: search * self.budget.ensemble_size}

    @property
    def shared_epochs(self) -> tuple[int, int]:
        """First and last epoch that both methods' curves have."""
        return max(self.budget.search_epochs + 1, self.budget.ensemble_size), min(self.ends.values())


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(ConvergenceConfig, __doc__)

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import best_ensemble, hypernetwork_pool, random_nes
from edgenes.methods.trainer import Member, Trainer
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import jobs_by_seed, trained
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.statistics import SHARE, compare, corrected, mean_text, one_test_set, sentence

PAPER_P = 0.0287
"""The paper's p-value of the areas."""


def points_of(config: ConvergenceConfig) -> dict[str, list[int]]:
    """Epochs of the points, by method: even ones over what is common, and where a curve ends."""
    low, high = config.shared_epochs
    even = sorted({round(x) for x in np.linspace(low, high, config.points)})
    return {method: even + [end] * (end > high) for method, end in config.ends.items()}


def turns(total: int, runs: int) -> list[int]:
    """What each of so many runs, which take turns, has done of `total`."""
    return [total // runs + (run < total % runs) for run in range(runs)]


Point = tuple[str, int, list[Member]]
"""A curve, the epochs done, and the ensemble that there would be."""


def edge_points(setting: Setting, trainer: Trainer, epochs: Sequence[int]) -> Iterator[Point]:
    """EdgeNES: of the hypernetwork as it was, the best n of m on V."""
    _, found = trained(setting, trainer)
    for done in epochs:
        pool = hypernetwork_pool(found.at(done - setting.search.epochs), setting)
        yield EDGE, done, best(pool, setting, trainer)


def darts_points(setting: Setting, trainer: Trainer, epochs: Sequence[int]) -> Iterator[Point]:
    """DartsEns: the genotypes of n searches as they were, trained from a seed each; all n, and the best n of m."""
    searches = [trainer.search(setting.search_config(run)) for run in range(setting.size)]
    for done in epochs:
        genotypes = [found.trace[each - 1] for found, each in zip(searches, turns(done, setting.size), strict=True)]
        repeated = [genotypes[k % setting.size] for k in range(setting.candidates)]
        pool = [Member(genotype, setting.training_config(genotype, k)) for k, genotype in enumerate(repeated)]
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
        bench.trainer.retrain(members)
        points.append({"curve": curve, "epochs": done, "members": [member.to_dict() for member in members]})
    steps = max(1, len(bench.data.weights) // setting.search.batch_size)
    return {"points": points, "steps": steps, "note": f"{len(points)} points"}


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles of all points on T."""
    config = experiment.config
    retraining = config.budget.short_epochs if config.retraining == "short" else config.budget.final_epochs
    conditions = {
        method: {"method": method, "epochs": epochs, "retraining": retraining}
        for method, epochs in (points_of(config) | {RANDOM: [0]}).items()
    }
    jobs = jobs_by_seed(conditions, config.seeds)
    results = experiment.map("curves", one_run, jobs)
    rows, names = [], {}
    for job, result in zip(jobs, results, strict=True):
        for point in result["points"]:
            members = tuple(map(Member.from_dict, point["members"]))
            name = f"{point['curve']} seed {job['seed']} at {point['epochs']}"
            row = {"curve": point["curve"], "seed": job["seed"], "epochs": point["epochs"]}
            row["iterations"] = point["epochs"] * result["steps"]
            rows.append((names.setdefault(members, name), row))  # an ensemble of several points is evaluated once
    tested = experiment.evaluate({name: members for members, name in names.items()})
    for name, row in rows:
        row["test_accuracy"] = tested[name]["ensemble"]["accuracy"]
        row["member_accuracy"] = float(np.mean([member["accuracy"] for member in tested[name]["members"]]))
    frame = pd.DataFrame([row for _, row in rows])
    return findings(frame, retraining, len(experiment.run.data.test))


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


def areas(frame: pd.DataFrame) -> Areas:
    """The areas of all curves, divided by the range that all of them cover; what needs no search is level.

    `frame` has one row a curve, seed and point: its epochs, its iterations, accuracy of ensemble and members on T.
    """
    searched = frame[frame["epochs"] > 0]
    epochs = searched.groupby("curve")["epochs"]
    low, high = epochs.min().max(), epochs.max().min()

    def height(curve: pd.DataFrame) -> float:
        x, y = curve["epochs"], curve["test_accuracy"]
        if x.iloc[0] == 0:
            return y.iloc[0]
        at = np.array([low, *x[(x > low) & (x < high)], high])
        return float(np.trapezoid(np.interp(at, x, y), at) / (high - low))

    heights = {key: height(curve) for key, curve in frame.sort_values("epochs").groupby(["curve", "seed"])}
    wide = pd.Series(heights).unstack(0)
    steps = round(searched["iterations"].iloc[0] / searched["epochs"].iloc[0])
    return Areas(wide[frame["curve"].unique()].rename_axis("seed"), low, high, steps)


def findings(frame: pd.DataFrame, retraining: int, test_images: int) -> Findings:
    """Conclusions, table and picture of the curves: networks trained for so many epochs, T of so many images."""
    found = areas(frame)
    searched, level = frame[frame["epochs"] > 0], frame[frame["epochs"] == 0]
    ends = [searched["iterations"].min(), searched["iterations"].max()]
    drawn = pd.concat([searched, *(level.assign(iterations=end) for end in ends)])  # level: a line without a search
    panels = {
        "accuracy of the ensemble": ("test_accuracy", SHARE),
        "mean accuracy of members": ("member_accuracy", SHARE),
    }
    return Findings(
        "Convergence (Figure 4.1)",
        conclusions(found),
        [
            Section(
                "Test accuracy against iterations",
                f"Mean over independent searches with its 95% interval. Every point's networks are trained from "
                f"scratch for {retraining} epoch{'s' * (retraining > 1)}, and its ensemble is chosen on V. {POOLED}: "
                f"as many networks as EdgeNES chooses from, the genotypes of the searches trained from several seeds. "
                f"{RANDOM} searches nothing and is level. An iteration is a weight step, {found.steps} an epoch, of a "
                "search or of a hypernetwork; retraining does not count. "
                + one_test_set(frame["test_accuracy"].mean(), test_images),
                lines_figure(drawn, "iterations", "curve", panels, "iterations of the search", "Convergence"),
            ),
            Section(
                "Areas under the curves",
                f"Mean height over iterations {found.range()}, and the ends of the curves. "
                "Intervals are those of each alone; the comparison above is paired by seed.",
                table=table(frame, found),
            ),
        ],
        {"convergence": frame, "areas": found.frame.reset_index()},
    )


def conclusions(found: Areas) -> list[str]:
    """What the areas say: the paper's comparison, then the others of EdgeNES, all corrected together by Holm."""
    frame = found.frame
    means = ", ".join(f"{name} {mean_text(frame[name], SHARE, points=True)}" for name in frame)
    compared = {DARTS: compare(frame[DARTS], frame[EDGE], paired=True)}
    compared |= {name: compare(frame[EDGE], frame[name], paired=True) for name in (POOLED, RANDOM)}
    compared = corrected(compared)
    paper = compared.pop(DARTS)
    verdicts = {"B higher": "so it is here", "B lower": "here it is smaller"}
    verdict = verdicts.get(paper.conclusion, "these searches neither confirm nor refute that")
    return [
        f"Mean test accuracy, in percent, over iterations {found.range()} of the search: {means}.",
        sentence(paper, DARTS, EDGE, points=True),
        f"The paper finds EdgeNES's area larger, p = {PAPER_P}, from iteration 80 on: {verdict}.",
        *(sentence(one, EDGE, name, points=True) for name, one in compared.items()),
    ]


def table(frame: pd.DataFrame, found: Areas) -> pd.DataFrame:
    """Means and intervals of the areas, and of the accuracy at both ends of the common range and of the curve."""
    rows = []
    for name, curve in frame.groupby("curve", sort=False):
        ends = {"range's start": found.low, "range's end": found.high, "curve's end": curve["epochs"].max()}
        at = {f"at the {end}": curve.loc[curve["epochs"] == epochs, "test_accuracy"] for end, epochs in ends.items()}
        values = {"area": found.frame[name], **at}
        rows.append({"curve": name, **{title: mean_text(those, SHARE) for title, those in values.items()}})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(experiment_main(ConvergenceConfig, __doc__, study))
