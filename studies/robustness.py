"""Compare ensembles of several architectures with deep ensembles of one, on corrupted and strange images.

python studies/robustness.py                            # digits, embedded: minutes on a laptop
python studies/robustness.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

Do they lose less where images get worse, and do they know better when they err? What studies/methods.py trained with
the same settings is found in the cache.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

from edgenes.errors import ConfigError
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ComparisonConfig


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig(ComparisonConfig):
    """Ensembles of equal size at equal cost, on T as it is, corrupted and strange."""

    NAME: ClassVar[str] = "robustness"

    methods: tuple[str, ...] = ("edge-nes", "predicted-deep-ens", "random-nes", "darts-ens")
    """The methods to compare, with predicted-deep-ens: the deep ensemble of the best genotype."""

    def __post_init__(self):
        super().__post_init__()
        if "predicted-deep-ens" not in self.methods:
            raise ConfigError("methods must name predicted-deep-ens, with which the others are compared.")
        if self.budget.candidates <= self.budget.ensemble_size:
            raise ConfigError("candidates must be more than ensemble_size: pairs of a whole pool are compared.")


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(RobustnessConfig, __doc__)

from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from edgenes.data.corruptions import CORRUPTIONS, SEVERITIES, STRANGE, corrupt
from edgenes.data.dataset import Part
from edgenes.detection import auroc
from edgenes.methods.baselines import METHODS
from edgenes.methods.trainer import Member
from edgenes.metrics import TINY, of_labels
from edgenes.selection import calibrate
from edgenes.space.genotype import shared_edges
from edgenes.training.retraining import predict
from edgenes.uncertainty import Uncertainty
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import result_frame
from tune_jobs.experiments.methods import label, method_comparisons, run_methods
from tune_jobs.experiments.tables import against_zero, comparison_table, slope_frame, verdicts
from tune_jobs.files.stored_trainer import network_of
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.image_scores import BEFORE, ENSEMBLE, ImageScores, detected, detectors
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.robustness_page import model_rows
from tune_jobs.report.statistics import AMOUNT, SHARE, mean_text, sentence

REFERENCE = METHODS["predicted-deep-ens"].label
WORSE = {
    "nll, corrupted, ensemble": ("NLL", AMOUNT),
    "nll, corrupted, before calibration": ("NLL, not calibrated", AMOUNT),
    "nll, corrupted, mean member": ("members' NLL", AMOUNT),
    "gain": ("gain over them, not calibrated", AMOUNT),
    "error, corrupted, ensemble": ("error", SHARE),
    "nll, clean, ensemble": ("NLL, clean", AMOUNT),
    "error, clean, ensemble": ("error, clean", SHARE),
}
"""Scores of the ensemble on corrupted images, means over all of them: column of the `score_frame`, title, range."""
KNOWN = {
    "auroc, corrupted, ensemble": ("errors, corrupted", SHARE),
    "auroc, corrupted, before calibration": ("the same, not calibrated", SHARE),
    "auroc, clean, ensemble": ("errors, clean", SHARE),
} | {f"{data}, {score}": (f"{data}, {score}", SHARE) for data, score in product(STRANGE, ("epistemic", "entropy"))}
"""AUROC of what the ensemble should notice."""
ANSWERS = {
    "nll, corrupted, ensemble": "NLL of corrupted images",
    "nll, corrupted, before calibration": "The same, not calibrated",
    "error, corrupted, ensemble": "Error on corrupted images",
    "auroc, corrupted, ensemble": "AUROC of own errors on corrupted images",
    "inverted, epistemic": "AUROC of inverted images, epistemic uncertainty",
    "noise, epistemic": "AUROC of noise, epistemic uncertainty",
}
"""Scores that the conclusions are of."""


def study(experiment: Any) -> Findings:
    """Run every method with every seed, then evaluate the ensembles, all of which are chosen by then, on T."""
    jobs = []
    for job, result in run_methods(experiment):
        networks = result["members"] if "operations" in job else result["networks"]
        members = [networks.index(member) for member in result["members"]]
        about = {"name": job["name"], "method": label(job), "seed": job["seed"]}
        jobs.append({**about, "networks": networks, "members": members})
    results = experiment.on_test(on_worse, jobs)
    rows = ("conditions", "strange", "pairs")
    return findings(*(result_frame(jobs, results, name, ["method", "seed"]) for name in rows))


def on_worse(job: dict[str, Any], bench: Any, test: Part) -> dict[str, Any]:
    """Scores of an ensemble on T, its corruptions and strange images, and of pairs of the networks in its pool."""
    pool, chosen = [Member.from_dict(each) for each in job["networks"]], job["members"]
    found = [bench.trainer.candidate(each.config, each.genotype).value for each in pool]
    networks = [network_of(one, each.config, bench.data, each.genotype) for one, each in zip(found, pool, strict=True)]
    v = np.mean([found[k].probabilities for k in chosen], 0)
    calibration = calibrate(v, bench.data.validation.labels)

    def outputs(images: np.ndarray) -> np.ndarray:
        """Log-probabilities (networks, images, classes)."""
        shown = Part(images, test.labels)
        device = pool[0].config.device
        return np.stack([predict(network, shown, bench.data, device) for network in networks])

    conditions, of_label, models = [], [], model_rows([ENSEMBLE, BEFORE])
    for corruption, severity in [("clean", 0), *product(CORRUPTIONS, SEVERITIES)]:
        images = corrupt(test.images, corruption, severity) if severity else test.images
        every = np.exp(outputs(images).astype(np.float64))
        of_label.append(np.maximum(of_labels(every, test.labels), TINY))
        members = every[chosen]
        scores = ImageScores.of([calibration.apply(members.mean(0)), members.mean(0), *members], test.labels)
        about = {"corruption": corruption, "severity": severity}
        conditions += [{**about, "model": name, **quality(scores, rows)} for name, rows in models.items()]
    known, strange = detectors(Uncertainty.of(outputs(test.images)[chosen])), []
    for name, make in STRANGE.items():
        strange += detected(name, known, detectors(Uncertainty.of(outputs(make(test.images))[chosen])))
    pairs = []
    for a, b in combinations(range(len(pool)), 2) if len(pool) > len(chosen) else ():
        both = np.concatenate(of_label[1:], 1)[[a, b]]
        member, pair = -np.log(both).mean(), -np.log(both.mean(0)).mean()
        shared = shared_edges(pool[a].genotype, pool[b].genotype)
        pairs.append({"shared": shared, "nll": float(pair), "gain": float(1 - pair / member)})
    return {"conditions": conditions, "strange": strange, "pairs": pairs, "note": f"{len(conditions)} scores"}


def quality(scores: ImageScores, models: slice) -> dict[str, float | None]:
    """NLL, error, and the AUROC with which confidence finds the errors, None without an error; means over models."""
    wrong = scores.correct[models] == 0
    both = [k for k, row in enumerate(wrong) if row.any() and not row.all()]
    found = [auroc(-scores.confidence[models][k], wrong[k]) for k in both]
    nll = float(scores.nll[models].mean())
    return {"nll": nll, "error": float(wrong.mean()), "auroc": float(np.mean(found)) if found else None}


def score_frame(conditions: pd.DataFrame, strange: pd.DataFrame) -> pd.DataFrame:
    """One row a method and search, with the columns of WORSE and KNOWN."""
    images = conditions["severity"].map(lambda severity: "corrupted" if severity else "clean").rename("images")
    groups = conditions.groupby(["method", "seed", images, "model"], sort=False)
    wide = groups[["nll", "error", "auroc"]].mean().unstack(["images", "model"])
    other = strange.set_index(["method", "seed", "data", "score"])["auroc"].unstack(["data", "score"])
    for each in (wide, other):
        each.columns = [", ".join(names) for names in each.columns]
    wide["gain"] = wide["nll, corrupted, mean member"] - wide["nll, corrupted, before calibration"]
    return wide.join(other).reset_index()


def findings(conditions: pd.DataFrame, strange: pd.DataFrame, pairs: pd.DataFrame) -> Findings:
    """Conclusions, tables and pictures of what `on_worse` found of all ensembles."""
    conditions = conditions.astype({"auroc": float})
    frame = score_frame(conditions, strange)
    calibrated = conditions[conditions["model"] == "ensemble"]
    severities = calibrated.groupby(["method", "seed", "severity"], sort=False, as_index=False).mean(numeric_only=True)
    panels = {"NLL": ("nll", AMOUNT), "error": ("error", SHARE), "AUROC of own errors": ("auroc", SHARE)}
    by_corruption = calibrated.pivot_table("nll", "corruption", "method", sort=False)
    by_shared = pairs.groupby(["method", "seed", "shared"], sort=False, as_index=False).mean()
    distance = {"share of the members' NLL gained": ("gain", AMOUNT), "NLL of the pair": ("nll", AMOUNT)}
    return Findings(
        "Corrupted and strange images",
        conclusions(frame, pairs),
        [
            Section(
                "Corrupted images",
                "Fifteen corruptions of the test images at five severities; means over the corruptions, over "
                "independent searches with their 95% interval. Ensembles are calibrated on V; not calibrated, they are "
                "compared with their members, by which they gain. Equal cost: the pool costs as much as EdgeNES.",
                lines_figure(severities, "severity", "method", panels, "severity, 0 is clean", "Against severity"),
                table(frame, WORSE),
            ),
            Section(
                "What it notices",
                "AUROC: how well confidence finds an ensemble's own errors, mean over corruptions. Then how well two "
                "scores tell strange images from test images: the members' disagreement (epistemic) and the entropy of "
                "their mean.",
                table=table(frame, KNOWN),
            ),
            Section(
                f"Differences to {REFERENCE}",
                "Paired by search; Holm's correction is over the methods, for each score by itself.",
                table=differences(frame),
            ),
            Section(
                "By corruption",
                "NLL of the ensemble, mean over severities and searches.",
                table=by_corruption.round(3).reset_index(),
            ),
            Section(
                "Shared edges",
                "Pairs of networks of a method's pool, on all corrupted images, by the edges that they share.",
                lines_figure(by_shared, "shared", "method", distance, "shared edges", "Does distance add robustness?"),
            ),
        ],
        {"scores": frame, "conditions": conditions, "strange": strange, "pairs": pairs},
    )


def table(frame: pd.DataFrame, scores: dict[str, tuple[str, tuple[float, float]]]) -> pd.DataFrame:
    """A row a method: means of these scores with intervals."""
    columns = {
        title: frame.groupby("method", sort=False)[name].agg(mean_text, within)
        for name, (title, within) in scores.items()
    }
    return pd.DataFrame(columns).reset_index()


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """All comparisons with the reference, a row a score and method."""
    tables = [
        comparison_table(method_comparisons(frame, name, REFERENCE), "method", places=4).assign(score=title)
        for name, (title, _) in (WORSE | KNOWN).items()
    ]
    found = pd.concat(tables, ignore_index=True)
    return found[["score", *found.columns.drop("score")]]


def conclusions(frame: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """What the comparisons with the deep ensemble say, and whether pairs gain more the fewer edges they share."""
    said = []
    for name, title in ANSWERS.items():
        said += verdicts(method_comparisons(frame, name, REFERENCE), REFERENCE, f"{title}: ", points=False)
    cost = {
        name: group["nll, corrupted, ensemble"] - group["nll, corrupted, before calibration"]
        for name, group in frame.groupby("method", sort=False)
    }
    for method, one in against_zero(cost).items():
        said.append(f"Calibrated on clean V, {sentence(one, 'no change', f'the NLL of corrupted images of {method}')}")
    for score, words in (("gain", "the share of the NLL that a pair gains"), ("nll", "the NLL of a pair")):
        slopes = slope_frame(pairs, ["method", "seed"], "shared", score)
        for method, one in against_zero({name: group["slope"] for name, group in slopes.groupby("method")}).items():
            said.append(f"Pool of {method}, for each further shared edge: {sentence(one, 'no change', words)}")
    return said


if __name__ == "__main__":
    sys.exit(experiment_main(RobustnessConfig, __doc__, study))
