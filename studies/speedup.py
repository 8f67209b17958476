"""Count the edges of the final ensemble that a weight step updates, beside what is promised (Theorem 1, eq. (2.5)).

python studies/speedup.py                            # digits, embedded: minutes on a laptop
python studies/speedup.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

The theorem has lambda drawn from U{1..Lambda}, the paper's experiments from U[-0.2, Lambda + 0.2]; it sums over the
members, and takes Lambda for DartsEns, the most that one search's step can update. Here all of these are told, and
then counted on the paths of real searches: EdgeNES's hypernetwork and DartsEns's n searches.

A path is what a `sampled` forward pass follows. The paper's mixture updates every operation of every edge, so that
there is nothing to count: all presets are sampled here. The theorem has paths drawn from the architecture
(`architecture`); by default this project trains on `fair` paths, which come equally often whatever lambda is.
The ensemble is EdgeNES's, chosen on V among retrained networks. Test images are not read.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edgenes.config import WEIGHT_PATHS
from edgenes.errors import ConfigError
from edgenes.methods.catalogue import best_ensemble, hypernetwork_pool
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.theory import expected_edges, simulated_edges, speedup, updated_edges
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame, lines_figure
from tune_jobs.report.statistics import Estimate, mean_estimate

EDGE, DARTS = "EdgeNES", "DartsEns"
MODELS = {
    ("whole", False): "U{1..Lambda}, the theorem",
    ("interval", False): "U[0, Lambda]",
    ("whole", True): "U{1..Lambda}, nested",
    ("interval", True): "U[0, Lambda], nested",
}
"""What p(lambda) is, and whether edges come in one order as lambda grows."""
LATE = 0.2
"""Share of the epochs, the last ones, that is told apart: the control of lambda is learned by then."""
FAR = 4.0
"""Standard errors from a closed form beyond which a simulation contradicts it; by chance one in 16,000 numbers is."""


@dataclass(frozen=True, kw_only=True)
class SpeedupConfig(ExperimentConfig):
    """Edges of the final ensemble updated a weight step: promised, simulated, counted."""

    NAME: ClassVar[str] = "speedup"

    weight_paths: tuple[Literal[*WEIGHT_PATHS], ...] = WEIGHT_PATHS
    """What weight steps follow: fair paths, this project's default, or those of the architecture, the theorem's."""
    draws: int = 100_000
    """Draws of the Monte-Carlo simulation."""

    def __post_init__(self):
        if self.forward is None:
            object.__setattr__(self, "forward", "sampled")
        super().__post_init__()
        if self.forward != "sampled":
            raise ConfigError(
                f"edges are counted on paths, which only forward=sampled has, got {self.forward}: leave --forward out."
            )
        if not self.weight_paths or len(set(self.weight_paths)) < len(self.weight_paths):
            raise ConfigError(f"weight_paths names one or both of {', '.join(WEIGHT_PATHS)}, each once.")
        check_at_least(self, 2, "draws", "ensemble_size")
        check_at_most(self, 1_000_000, "draws")  # all of them are in memory at once


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """EdgeNES and DartsEns with one seed, all paths seen: counts of edges, means of each epoch."""
    setting, data = bench.of_seed(job["seed"]), bench.data
    paths_of = {"weight_paths": job["weight_paths"]}
    # The trainer's store keeps no paths, so that the searches are made here; they give what the store's do.
    own, members = [], []
    for run in range(setting.size):
        seen: list[Genotype] = []
        config = replace(setting.search_config(run), **paths_of)
        members.append(search_genotype(config, data, on_path=seen.append).genotype)
        own.append(by_epoch(updated_edges(seen, members[-1:]).summed, config.epochs))
    seen, optimal = [], members[0]
    config = setting.hypernetwork_config(**paths_of)
    hypernetwork = train_hypernetwork(config, data, optimal, on_path=seen.append).hypernetwork.cpu()
    pool, chosen = best_ensemble(hypernetwork_pool(hypernetwork, setting), setting, bench.trainer)
    ensemble = [pool[k].genotype for k in chosen]
    counts, within = updated_edges(seen, ensemble), updated_edges(seen, ensemble, optimal.edge_set)
    columns = {"summed": counts.summed, "distinct": counts.distinct, "within": within.summed}
    columns["path"] = np.array([shared_edges(path, optimal) for path in seen])
    return {
        EDGE: {name: by_epoch(values, config.epochs) for name, values in columns.items()},
        DARTS: {"summed": np.mean(own, axis=0).tolist()},
        "members": [shared_edges(genotype, optimal) for genotype in ensemble],
        "ensemble": [genotype.to_dict() for genotype in ensemble],
        "note": f"{counts.summed.mean():.2f} edges a step, {np.mean(own):.2f} of DartsEns",
    }


def by_epoch(values: NDArray, epochs: int) -> list[float]:
    """Means of each epoch of a number a step."""
    return values.reshape(epochs, -1).mean(1).tolist()


def study(experiment: Any) -> Findings:
    """Tell the theorem's numbers, then count with every seed and kind of paths."""
    config = experiment.config
    jobs = [
        {"name": f"{paths} paths seed {seed}", "weight_paths": paths, "seed": seed}
        for seed in range(config.seeds)
        for paths in config.weight_paths
    ]
    results = experiment.map("counts", one_run, jobs)
    theory = theory_frame(config.ensemble_size, config.space.max_edges, config.draws)
    return findings(theory, counts_frame(jobs, results), config.ensemble_size, config.space.max_edges)


def theory_frame(members: int, max_edges: int, draws: int) -> pd.DataFrame:
    """One row a model: E[m] in closed form and by Monte-Carlo with its standard error, summed and distinct."""
    rows = []
    for (lambdas, nested), name in MODELS.items():
        exact = expected_edges(members, max_edges, lambdas, nested)
        drawn = simulated_edges(members, max_edges, lambdas, nested, draws=draws)
        row = {"lambda": name}
        for what in ("summed", "distinct"):
            row[what] = getattr(exact, what)
            row[f"simulated_{what}"] = getattr(drawn.mean, what)
            row[f"error_{what}"] = getattr(drawn.standard_error, what)
        rows.append({**row, "ratio": speedup(exact.summed, max_edges)})
    return pd.DataFrame(rows)


def counts_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a seed, kind of paths, method and epoch: edges updated a step.

    `summed` over the members and `distinct`; `within`, only those of the optimal architecture, as the theorem counts;
    `path` and `member`, how many of its edges a path and, on average, a member has.
    """
    rows = []
    for job, result in zip(jobs, results, strict=True):
        for method in (EDGE, DARTS):
            columns = pd.DataFrame(result[method])
            columns.insert(0, "epoch", range(1, len(columns) + 1))
            columns = columns.assign(paths=job["weight_paths"], seed=job["seed"], method=method)
            rows.append(columns.assign(member=np.mean(result["members"])) if method == EDGE else columns)
    return pd.concat(rows, ignore_index=True)


def ratios_frame(counts: pd.DataFrame, max_edges: int, share: float = 1.0) -> pd.DataFrame:
    """One row a seed and kind of paths: means over the last `share` of the epochs, and ratios to DartsEns.

    `ratio` is to DartsEns as counted, `promised` to Lambda as in eq. (2.5), `distinct_ratio` that of distinct edges to
    DartsEns as counted, where summed and distinct are the same.
    """
    rows = []
    for (paths, seed), run in counts.groupby(["paths", "seed"], sort=False):
        mean = {}
        for method, epochs in run.groupby("method"):
            late = epochs[epochs["epoch"] > (1 - share) * epochs["epoch"].max()]
            mean[method] = late.mean(numeric_only=True)
        edge, darts = mean[EDGE], mean[DARTS]["summed"]
        row = {"paths": paths, "seed": seed, "edges": edge["summed"], "distinct": edge["distinct"]}
        row |= {"within": edge["within"], "path": edge["path"], "member": edge["member"], "darts": darts}
        row["promised"] = edge["summed"] / max_edges
        # A search whose paths never met its genotype has no ratio; a few steps of a smoke test may be so.
        row["ratio"] = edge["summed"] / darts if darts else np.nan
        row["distinct_ratio"] = edge["distinct"] / darts if darts else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def findings(theory: pd.DataFrame, counts: pd.DataFrame, members: int, max_edges: int) -> Findings:
    """Conclusions, tables and pictures of a `theory_frame` and a `counts_frame`."""
    ratios, late = ratios_frame(counts, max_edges), ratios_frame(counts, max_edges, LATE)
    dots = dots_frame(theory, ratios)
    lines = counts.assign(line=counts["method"] + ", " + counts["paths"] + " paths")
    figure = lines_figure(
        {"edges a step, summed": interval_frame(lines, ["line", "epoch"], "summed")},
        "epoch",
        "line",
        {"epoch": "epoch of the hypernetwork, or of each search"},
        "Edges of the ensemble updated a step",
    )
    figure.update_layout(margin={"t": 140}, height=figure.layout.height + 40)  # a narrow page has four rows of names
    return Findings(
        "Speed-up (Theorem 1)",
        conclusions(theory, ratios, late, members, max_edges),
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
                table=theory_table(theory),
            ),
            Section(
                "Counted",
                "An edge is a node's input with its operation; pools and skips count, though they have no weights. "
                f"All steps of the hypernetwork, and the last {LATE:.0%} of its epochs. Of the optimal one: only "
                "edges of the optimal architecture, all that the theorem counts.",
                figure,
                counted_table({"all": ratios, f"last {LATE:.0%}": late}),
            ),
        ],
        {"theory": theory, "counts": counts, "ratios": ratios, "late": late},
    )


def dots_frame(theory: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """The promised ratios, which have no interval, and the counted ones."""
    rows = [{"what": row["lambda"], "mean": row["ratio"]} for _, row in theory.iterrows()]
    titles = {"promised": "to Lambda", "ratio": "to DartsEns", "distinct_ratio": "distinct, to DartsEns"}
    for paths, group in ratios.groupby("paths", sort=False):
        for column, title in titles.items():
            found = known(group[column])
            if found is not None:
                row = {"what": f"{paths} paths, {title}", "mean": found.value, "low": found.low, "high": found.high}
                rows.append(row)
    return pd.DataFrame(rows, columns=["what", "mean", "low", "high"]).astype({"low": float, "high": float})


def known(values: Sequence[float]) -> Estimate | None:
    """The mean of those that are numbers, if any is."""
    values = pd.Series(values).dropna()
    return mean_estimate(values) if len(values) else None


def told(values: Sequence[float]) -> str:
    """Mean and interval in words."""
    found = known(values)
    return "unknown" if found is None else found.told()


def conclusions(
    theory: pd.DataFrame, ratios: pd.DataFrame, late: pd.DataFrame, members: int, max_edges: int
) -> list[str]:
    """What the theorem promises, what was counted, and what that does not say."""
    first, *others = [(row["lambda"], row["ratio"]) for _, row in theory.iterrows()]
    sentences = [
        f"For {members} members and Lambda = {max_edges}, Theorem 1 promises that a weight step updates "
        f"{first[1]:.2f} times as many edges of the final ensemble as DartsEns's at most; with other assumptions: "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in others)
        + f". {simulation_told(theory)}"
    ]
    for paths, group in ratios.groupby("paths", sort=False):
        end = late[late["paths"] == paths]
        sentences.append(
            f"Counted on {paths} paths: {told(group['edges'])} edges a step, summed over members "
            f"({told(group['distinct'])} distinct); DartsEns {told(group['darts'])}. That is "
            f"{told(group['ratio'])} times DartsEns as counted, and {told(group['promised'])} times Lambda, which "
            f"eq. (2.5) puts at {first[1]:.2f}: {beside(group['promised'], first[1])}. In the last {LATE:.0%} of the "
            f"epochs: {told(end['ratio'])} and {told(end['promised'])}."
        )
        if paths == "fair":
            sentences.append(
                "Fair paths do not follow lambda, so that the theorem is not about them: every choice of a node comes "
                f"equally often, and summed over members the ratio to DartsEns is their number, {members}, whatever "
                "the hypernetwork does."
            )
    return [
        *sentences,
        "An updated edge is not yet accuracy: an edge of several members has one set of weights, which the sum counts "
        "for each of them, and retraining begins with new weights. What the iterations are worth in accuracy is what "
        "convergence.py compares.",
    ]


def simulation_told(theory: pd.DataFrame) -> str:
    """Whether the simulation has the closed forms' numbers: with an error it is near them, without one just there."""
    quantities = ("summed", "distinct")
    off = np.array([abs(theory[f"simulated_{what}"] - theory[what]) for what in quantities])
    errors = np.array([theory[f"error_{what}"] for what in quantities])
    spread = errors > 0
    far = max(off[spread] / errors[spread], default=0.0)
    if far > FAR or (off[~spread] > 1e-9).any():
        return f"A simulation does not agree with these numbers: it is up to {off.max():.3f} edges away."
    if not spread.any():
        return "A simulation gives just the same, without a spread."
    return f"A simulation agrees, at most {far:.1f} standard errors away."


def beside(values: Sequence[float], promised: float) -> str:
    """Where a promised number lies beside the interval of the counted ones."""
    found = known(values)
    if found is None or found.low is None:
        return "too little to tell whether it is met"
    if found.low <= promised <= found.high:
        return "within the interval"
    return "fewer than promised" if found.high < promised else "more than promised"


def theory_table(theory: pd.DataFrame) -> pd.DataFrame:
    """Closed form and simulation side by side."""

    def simulated(what: str) -> list[str]:
        means, errors = theory[f"simulated_{what}"], theory[f"error_{what}"]
        return [f"{mean:.3f} ({error:.3f})" for mean, error in zip(means, errors, strict=True)]

    return pd.DataFrame(
        {
            "lambda": theory["lambda"],
            "edges a step": theory["summed"].map("{:.3f}".format),
            "simulated (s.e.)": simulated("summed"),
            "distinct": theory["distinct"].map("{:.3f}".format),
            "distinct, simulated (s.e.)": simulated("distinct"),
            "edges / Lambda": theory["ratio"].map("{:.2f}".format),
        }
    )


def counted_table(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Means and intervals of what was counted, a row a kind of paths and part of the epochs."""
    titles = {
        "edges": "edges a step",
        "within": "of the optimal one",
        "distinct": "distinct",
        "darts": "DartsEns",
        "path": "path shares",
        "member": "a member shares",
    }
    rows = []
    for part, frame in frames.items():
        for paths, group in frame.groupby("paths", sort=False):
            row = {"paths": paths, "epochs": part}
            rows.append(row | {title: told(group[column]) for column, title in titles.items()})
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(SpeedupConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
