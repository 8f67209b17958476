"""Test the method's premise: do architectures that differ in more edges answer more differently?

python studies/diversity.py                            # digits, embedded: minutes on a laptop
python studies/diversity.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

Pairs of networks are retrained shortly on W and compared on H; neither V nor T is read.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class DiversityConfig(ExperimentConfig):
    """What a pair of networks gains over its mean member, by the edges that its genotypes share."""

    NAME: ClassVar[str] = "diversity"
    SMOKE: ClassVar[dict[str, Any]] = {**ExperimentConfig.SMOKE, "bases": 1, "partners": 1}

    bases: int = 3
    """Random genotypes of each search from which pairs are made."""
    partners: int = 2
    """Partners of each of them, at each number of shared edges."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 1, "bases", "partners")


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(DiversityConfig, __doc__)

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from edgenes.methods.trainer import Member
from edgenes.metrics import ensemble_probabilities, nll
from edgenes.space.genotype import deviate
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import jobs_by_seed, result_frame
from tune_jobs.experiments.tables import against_zero, slope_frame
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import lines_figure
from tune_jobs.report.statistics import AMOUNT, SHARE, Comparison, compare, mean_text, sentence

OWN, EQUAL = "different training seeds", "equal training seeds"


def measure_pairs(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """The pairs of one search: a base genotype with partners at each number of shared edges, 0 to Lambda.

    At Lambda the partner is the base itself, trained from another seed.
    """
    setting = bench.of_seed(job["seed"])
    most, rows = setting.space.max_edges, []
    for k, base in enumerate(setting.random_genotypes(job["bases"])):
        config = setting.training_config(base, epochs=setting.survey_epochs)
        pairs: list[tuple[int, str, Member]] = []
        for shared in range(most):
            generator = setting.generator("partners", k, shared)
            for _ in range(job["partners"]):
                partner = deviate(base, most - shared, generator)
                own = replace(config, seed=setting.training_config(partner).seed)
                pairs += [(shared, OWN, Member(partner, own)), (shared, EQUAL, Member(partner, config))]
        for repeat in range(1, job["partners"] + 1):
            again = replace(config, seed=setting.training_config(base, repeat).seed)
            pairs.append((most, OWN, Member(base, again)))
        first, *others = bench.trainer.survey([Member(base, config), *(member for _, _, member in pairs)])
        for (shared, seeds, _), other in zip(pairs, others, strict=True):
            gain = _gain(first.probabilities, other.probabilities, bench.data.architecture.labels)
            rows.append({"shared": shared, "seeds": seeds, **gain})
    return {"pairs": rows, "note": f"{len(rows)} pairs"}


def _gain(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What the pair's mean gains over its mean member in NLL, and how often the two answer differently."""
    pair = np.stack([first, second])
    member = float(np.mean([nll(each, labels) for each in pair]))
    gain = member - nll(ensemble_probabilities(pair), labels)
    different = float((first.argmax(1) != second.argmax(1)).mean())
    return {"member": member, "gain": gain, "share": gain / member, "disagreement": different}


def study(experiment: Any) -> Findings:
    """Measure the pairs of every search."""
    config = experiment.config
    jobs = jobs_by_seed({"pairs": {"bases": config.bases, "partners": config.partners}}, config.seeds)
    return findings(result_frame(jobs, experiment.map("pairs", measure_pairs, jobs), "pairs", ["seed"]))


def findings(pairs: pd.DataFrame) -> Findings:
    """Conclusions, table and picture of a frame of pairs: seed, shared, seeds, gain, share, disagreement."""
    panels = {"share of the members' NLL gained": ("share", AMOUNT), "disagreement": ("disagreement", SHARE)}
    means = pairs.groupby(["seed", "shared", "seeds"], sort=False, as_index=False).mean()
    return Findings(
        "Diversity",
        conclusions(means),
        [
            Section(
                "Gain and disagreement by shared edges",
                "Pairs of networks, retrained shortly on W and compared on H. Gain: by how much the NLL of their mean "
                "is lower than that of the mean member, as a share of it. Disagreement: share of images on which they "
                "differ. "
                "Mean over searches with its 95% interval. At the right end both are the same genotype, from two "
                "seeds.",
                lines_figure(means, "shared", "seeds", panels, "shared edges", "Does distance in edges add diversity?"),
                table(means),
            )
        ],
        {"pairs": pairs},
    )


def table(means: pd.DataFrame) -> pd.DataFrame:
    """A row a number of shared edges and kind of seeds: mean gain, its share and disagreement, with intervals."""
    amount = partial(mean_text, within=AMOUNT)
    columns = {
        "gain (nats)": ("gain", amount),
        "share of the members' NLL": ("share", amount),
        "disagreement": ("disagreement", partial(mean_text, within=SHARE, points=True)),
    }
    named = means.rename(columns={"shared": "shared edges"})
    return named.groupby(["shared edges", "seeds"], sort=False, as_index=False).agg(**columns)


def comparison(means: pd.DataFrame) -> Comparison:
    """The share that pairs that share no edge gain, less that of one genotype from two seeds, by search."""
    own = means[means["seeds"] == OWN]
    most = own["shared"].max()
    same = own[own["shared"] == most].set_index("seed")["share"]
    apart = own[own["shared"] == 0].set_index("seed")["share"].loc[same.index]
    return compare(same, apart, paired=True)


def conclusions(means: pd.DataFrame) -> list[str]:
    """Whether distance in edges gains anything, against two seeds of one genotype, and along the shared edges."""
    apart = sentence(comparison(means), "one genotype from two seeds", "Pairs that share no edge")
    said = [f"Share of the members' NLL that a pair gains: {apart}"]
    slopes = slope_frame(means[means["shared"] < means["shared"].max()], ["seed", "seeds"], "shared", "share")
    for seeds, one in against_zero({seeds: group["slope"] for seeds, group in slopes.groupby("seeds")}).items():
        said.append(f"With {seeds}, for each further shared edge: {sentence(one, 'no change', 'the gained share')}")
    return said


if __name__ == "__main__":
    sys.exit(experiment_main(DiversityConfig, __doc__, study))
