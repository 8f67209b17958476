"""Count the edges of the final ensemble that a weight step updates, beside what is promised (Theorem 1, eq. (2.5)).

python studies/speedup.py                            # digits, embedded: minutes on a laptop
python studies/speedup.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

The theorem has lambda drawn from U{1..Lambda}, the paper's experiments from U[-0.2, Lambda + 0.2]; it sums over the
members, and takes Lambda for DartsEns, the most that one search's step can update. Here all of these are computed,
and then counted on the paths of real searches: EdgeNES's hypernetwork and DartsEns's n searches.

A path is what a `sampled` forward pass follows. The paper's mixture updates every operation of every edge, so that
there is nothing to count: all presets are sampled here. The theorem has paths drawn from the architecture
(`architecture`); by default this project trains on `fair` paths, which come equally often whatever lambda is.
The ensemble is EdgeNES's, chosen on V among retrained networks. Test images are not read.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgenes.config import WEIGHT_PATHS
from edgenes.errors import ConfigError
from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class SpeedupConfig(ExperimentConfig):
    """Edges of the final ensemble updated a weight step: promised and counted."""

    NAME: ClassVar[str] = "speedup"
    OPTIONS: ClassVar[dict[str, Any]] = {"forward": "sampled"}

    weight_paths: tuple[Literal[*WEIGHT_PATHS], ...] = WEIGHT_PATHS
    """What weight steps follow: fair paths, this project's default, or those of the architecture, the theorem's."""

    def __post_init__(self):
        super().__post_init__()
        if self.search.forward != "sampled":
            raise ConfigError(
                "edges are counted on paths, which only forward=sampled has, got "
                f"{self.search.forward}: leave forward out."
            )
        object.__setattr__(self, "weight_paths", tuple(dict.fromkeys(self.weight_paths)))  # one named twice counts once
        if not self.weight_paths:
            raise ConfigError(f"weight_paths must name one or both of {', '.join(WEIGHT_PATHS)}.")
        check_at_least(self.budget, 2, "ensemble_size")


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(SpeedupConfig, __doc__)

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edgenes.methods.catalogue import best_ensemble, hypernetwork_pool
from edgenes.space.genotype import Genotype
from edgenes.space.theory import expected_edges, updated_edges
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import jobs_by_seed
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame, lines_figure
from tune_jobs.report.statistics import AMOUNT, mean_estimate, mean_text

EDGE, DARTS = "EdgeNES", "DartsEns"
MODELS = {
    (False, False): "U{1..Lambda}, the theorem",
    (True, False): "U[0, Lambda]",
    (False, True): "U{1..Lambda}, nested",
    (True, True): "U[0, Lambda], nested",
}
"""Whether p(lambda) is that of an interval, and whether edges come in one order as lambda grows."""


text = partial(mean_text, none="unknown")
"""Mean and interval in words."""


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """EdgeNES and DartsEns with one seed, all paths seen: counts of edges, means of each epoch."""
    setting, data = bench.of_seed(job["seed"]), bench.data
    paths_of = {"weight_paths": job["weight_paths"]}
    # The trainer's store keeps no paths, so that the searches are made here; they give what the store's do.
    own, found = [], []
    for run in range(setting.size):
        seen: list[Genotype] = []
        config = replace(setting.search_config(run), **paths_of)
        found.append(search_genotype(config, data, on_path=seen.append).genotype)
        own.append(by_epoch(updated_edges(seen, found[-1:]).summed, config.epochs))
    seen, optimal = [], found[0]
    config = setting.hypernetwork_config(**paths_of)
    hypernetwork = train_hypernetwork(config, data, optimal, on_path=seen.append).hypernetwork.cpu()
    pool, chosen = best_ensemble(hypernetwork_pool(hypernetwork, setting), setting, bench.trainer)
    counts = updated_edges(seen, [pool[k].genotype for k in chosen])
    return {
        EDGE: {name: by_epoch(getattr(counts, name), config.epochs) for name in ("summed", "distinct")},
        DARTS: {"summed": np.mean(own, axis=0).tolist()},
        "note": f"{counts.summed.mean():.2f} edges a step, {np.mean(own):.2f} of DartsEns",
    }


def by_epoch(values: NDArray, epochs: int) -> list[float]:
    """Means of each epoch of a number a step."""
    return values.reshape(epochs, -1).mean(1).tolist()


def study(experiment: Any) -> Findings:
    """Compute the theorem's numbers, then count with every seed and kind of paths."""
    config = experiment.config
    jobs = jobs_by_seed({f"{paths} paths": {"weight_paths": paths} for paths in config.weight_paths}, config.seeds)
    results = experiment.map("counts", one_run, jobs)
    return findings(counts_frame(jobs, results), config.budget.ensemble_size, config.space.max_edges)


def theory_frame(members: int, max_edges: int) -> pd.DataFrame:
    """One row a model: E[m] in closed form, summed over members and distinct, and its ratio to Lambda, eq. (2.5).

    Lambda is what a step of DartsEns updates at most: it trains one search at a time, so only one member's edges.
    """
    rows = []
    for (interval, nested), name in MODELS.items():
        edges = expected_edges(members, max_edges, interval, nested)
        rows.append((name, edges.summed, edges.distinct, edges.summed / max_edges))
    return pd.DataFrame(rows, columns=["lambda", "edges a step", "distinct", "edges / Lambda"])


def counts_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a seed, kind of paths, method and epoch: edges updated a step, summed over the members and distinct."""
    parts = [
        pd.DataFrame(result[method]).assign(paths=job["weight_paths"], seed=job["seed"], method=method)
        for job, result in zip(jobs, results, strict=True)
        for method in (EDGE, DARTS)
    ]
    return pd.concat([part.assign(epoch=range(1, len(part) + 1)) for part in parts], ignore_index=True)


def ratios_frame(counts: pd.DataFrame, max_edges: int) -> pd.DataFrame:
    """One row a seed and kind of paths: means over the epochs, and ratios to DartsEns.

    `ratio` is to DartsEns as counted, `promised` to Lambda as in eq. (2.5), `distinct_ratio` that of distinct edges to
    DartsEns as counted, where summed and distinct are the same. A search whose paths never met its genotype has no
    ratio; a few steps of a smoke test may be so.
    """
    means = counts.pivot_table(index=["paths", "seed"], columns="method", values=["summed", "distinct"], sort=False)
    edge, distinct, darts = means["summed", EDGE], means["distinct", EDGE], means["summed", DARTS]
    some = darts.where(darts > 0)
    ratios = {"promised": edge / max_edges, "ratio": edge / some, "distinct_ratio": distinct / some}
    return pd.DataFrame({"edges": edge, "distinct": distinct, "darts": darts, **ratios}).reset_index()


def findings(counts: pd.DataFrame, members: int, max_edges: int) -> Findings:
    """Conclusions, tables and pictures of a `counts_frame`, beside the theorem's numbers."""
    theory = theory_frame(members, max_edges)
    ratios = ratios_frame(counts, max_edges)
    dots = dots_frame(theory, ratios)
    lines = counts.assign(line=counts["method"] + ", " + counts["paths"] + " paths")
    panels = {"edges a step, summed": ("summed", AMOUNT)}
    axis = "epoch of the hypernetwork, or of each search"
    figure = lines_figure(lines, "epoch", "line", panels, axis, "Edges of the ensemble updated a step")
    return Findings(
        "Speed-up (Theorem 1)",
        conclusions(theory, ratios, members, max_edges),
        [
            Section(
                "Edges of the ensemble updated a step, against DartsEns",
                "Promised: the expected number, summed over members, divided by Lambda, the most of DartsEns. "
                "Counted: divided by Lambda as well, and by what DartsEns's steps update of their own member; means "
                "over independent searches with 95% intervals.",
                dots_figure(dots, "what", "times DartsEns", "Speed-up", dots["what"].iloc[0]),
            ),
            Section(
                "In theory",
                f"{members} members, Lambda = {max_edges} edges. Nested: edges are shared in one order as lambda "
                "grows, and not any of them. Distinct edges count once, however many members have them.",
                table=theory.round(3),
            ),
            Section(
                "Counted",
                "An edge is a node's input with its operation; pools and skips count, though they have no weights. The "
                "table has the means over all epochs.",
                figure,
                counted_table(ratios),
            ),
        ],
        {"theory": theory, "counts": counts, "ratios": ratios},
    )


def dots_frame(theory: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """The promised ratios, which have no interval, and the counted ones."""
    promised = theory.rename(columns={"lambda": "what", "edges / Lambda": "mean"})
    titles = {"promised": "to Lambda", "ratio": "to DartsEns", "distinct_ratio": "distinct, to DartsEns"}
    long = ratios.melt(["paths", "seed"], list(titles), "quantity")
    long["what"] = long["paths"] + " paths, " + long["quantity"].map(titles)
    return pd.concat([promised, interval_frame(long.sort_values("paths", kind="stable"), ["what"], "value")])[
        ["what", "mean", "low", "high"]
    ]


def conclusions(theory: pd.DataFrame, ratios: pd.DataFrame, members: int, max_edges: int) -> list[str]:
    """What the theorem promises, what was counted, and what that does not say."""
    promise, *others = theory["edges / Lambda"]
    models = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(theory["lambda"][1:], others, strict=True))
    sentences = [
        f"For {members} members and Lambda = {max_edges}, Theorem 1 promises that a weight step updates "
        f"{promise:.2f} times as many edges of the final ensemble as DartsEns's at most; with other assumptions: "
        f"{models}."
    ]
    for paths, group in ratios.groupby("paths", sort=False):
        sentences.append(
            f"Counted on {paths} paths: {text(group['edges'])} edges a step, summed over members "
            f"({text(group['distinct'])} distinct); DartsEns {text(group['darts'])}. That is "
            f"{text(group['ratio'])} times DartsEns as counted, and {text(group['promised'])} times Lambda, which "
            f"eq. (2.5) puts at {promise:.2f}: {beside(group['promised'], promise)}."
        )
        if paths == "fair":
            sentences.append(
                "Fair paths do not follow lambda, so that the theorem is not about them: summed over members the ratio "
                f"to DartsEns is their number, {members}, whatever the hypernetwork does."
            )
    caution = "An updated edge is not yet accuracy: convergence.py compares what the iterations do for the accuracy."
    return [*sentences, caution]


def beside(values: pd.Series, promised: float) -> str:
    """Where a promised number lies beside the interval of the counted ones."""
    found = mean_estimate(values)
    if found.low is None:
        return "too little to tell whether it is met"
    if found.low <= promised <= found.high:
        return "within the interval"
    return "fewer than promised" if found.high < promised else "more than promised"


def counted_table(ratios: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals of what was counted, a row a kind of paths."""
    columns = {"edges": "edges a step", "distinct": "distinct", "darts": "DartsEns"}
    columns |= {"ratio": "EdgeNES / DartsEns", "promised": "EdgeNES / Lambda"}
    groups = ratios.groupby("paths", sort=False, as_index=False)
    return groups.agg(**{title: (name, text) for name, title in columns.items()})


if __name__ == "__main__":
    sys.exit(experiment_main(SpeedupConfig, __doc__, study))
