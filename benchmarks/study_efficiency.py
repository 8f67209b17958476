"""How fast a study finds a good trial: samplers, start-up trials and pruners, simulated on one measured table.

`python -m benchmarks study_efficiency` reads benchmarks/efficiency/ (see `benchmarks.trial_table` and
`benchmarks.measured`) and prints, with 95% intervals:

1. how much of what trials differ by is noise,
2. regret against trial-seconds (see `benchmarks.simulate`), each policy with the same seeds,
3. how short a retraining ranks how well,
4. steps until the control error is at most 0.25, for both estimators of the penalty.

Every other simulated study sees the first retraining seed and is scored by the second, the others the reverse: the
best of noisy values would flatter itself. The intervals are over seeds of the simulation; the table is given.
"""

import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from benchmarks.measured import HERE, Row, numbers, read_table
from benchmarks.printing import table
from benchmarks.simulate import Policy, best_so_far, regret, simulate
from edgenes.checkpoint import read_json
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.report.statistics import Estimate, bootstrap, consistency, mean_estimate, spearman
from tune_jobs.report.style import BLUE, GREY, INK, VERMILLION, style
from tune_jobs.study.space import search_space

RANDOM = Policy("random")
SAMPLERS = (RANDOM, *(Policy("tpe", startup) for startup in (5, 10, 20, 40)))
PRUNED = (
    *(Policy("tpe", 10, pruner) for pruner in ("median", "percentile", "hyperband", "successive-halving")),
    Policy("random", prune_infeasible=True),
    Policy("tpe", 10, prune_infeasible=True),
)
MEANS = (Policy("random", value="mean"), Policy("tpe", 10, value="mean"))
SHOWN = {
    "samplers": {RANDOM: GREY, SAMPLERS[1]: BLUE, SAMPLERS[3]: VERMILLION},
    "pruning, beside random": {RANDOM: GREY, PRUNED[0]: BLUE, PRUNED[2]: VERMILLION, PRUNED[5]: INK},
}
"""What the figure shows, in two halves; random is in both."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Simulate studies on the measured table."""

    table: Path = HERE
    """Folder of the table."""
    seeds: int = 200
    """Simulated studies of each policy."""
    seconds: tuple[float, ...] = (144, 288, 768)
    """Trial-seconds after which the regret is told."""
    processes: int = 1
    """Simulations at once."""
    figure: Path | None = None
    """Page to write the regret to as a figure."""


def simulated(policy: Policy, seed: int, rows: list[Row], grid: list[float]) -> list[tuple]:
    """(policy, seed, seconds, regret, trials begun, trials complete) at each point of the grid."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    seen = seed % 2
    steps = list(simulate(policy, rows, search_space(SweepConfig.estimator), seconds=max(grid), seed=seed, seen=seen))
    found = []
    for seconds, row in zip(grid, best_so_far(policy, steps, rows, grid, seen), strict=True):
        ended = [step for step in steps if step.seconds <= seconds]
        lacks = regret(row, rows, seen)
        found.append((policy.name, seed, seconds, lacks, len(ended), sum(step.complete for step in ended)))
    return found


def regrets(rows: list[Row], grid: list[float], seeds: Iterable[int], processes: int) -> pd.DataFrame:
    """A row a policy, seed and number of seconds: regret as a fraction, trials, complete trials."""
    tasks = [(policy, seed) for seed in seeds for policy in (*SAMPLERS, *PRUNED, *MEANS)]
    run = partial(simulated, rows=rows, grid=grid)
    with ProcessPoolExecutor(processes) as pool:
        found = list(pool.map(run, *zip(*tasks, strict=True), chunksize=10))
    columns = ["policy", "seed", "seconds", "regret", "trials", "complete"]
    return pd.DataFrame([row for rows in found for row in rows], columns=columns)


def regret_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a policy and number of seconds: mean regret and its difference to random's, paired by seed, and that
    difference in words for each retraining seed that was seen."""
    random = frame[frame.policy == RANDOM.name].set_index(["seed", "seconds"]).regret
    rows = []
    for (policy, seconds), group in frame.groupby(["policy", "seconds"], sort=False):
        paired = group.set_index(["seed", "seconds"]).regret
        mean, less = _mean(group.regret), paired - random.loc[paired.index]
        role = less.index.get_level_values("seed") % 2
        apart = [_points(*_mean(less[role == seen])) for seen in (0, 1)]
        rows.append((policy, seconds, *mean, *_mean(less), *apart, group.trials.mean(), group.complete.mean()))
    names = ["mean", "low", "high", "difference", "difference_low", "difference_high"]
    names += ["first_seen", "second_seen", "trials", "complete"]
    return pd.DataFrame(rows, columns=["policy", "seconds", *names])


def _mean(values: pd.Series) -> tuple[float, float, float]:
    """Mean of the values that are there with its interval; nan for what there is not."""
    there = values.dropna()
    if there.empty:
        return np.nan, np.nan, np.nan
    found = mean_estimate(there)
    return found.value, *(np.nan if end is None else end for end in (found.low, found.high))


def _points(mean: float, low: float, high: float) -> str:
    """Points of accuracy; without an interval where nothing varies, as of random less itself."""
    return f"{100 * mean:.2f}" + ("" if np.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]")


def _told(estimate: Estimate) -> str:
    return estimate.told(places=2)


def regret_table(summary: pd.DataFrame, seconds: tuple[float, ...]) -> str:
    """Regret in points of accuracy, a line a policy."""
    rows = []
    for policy, group in summary.groupby("policy", sort=False):
        cells = [policy]
        for one in group[group.seconds.isin(seconds)].itertuples():
            cells.append(_points(one.mean, one.low, one.high))
        for one in group[group.seconds.isin(seconds)].itertuples():
            cells.append(_points(one.difference, one.difference_low, one.difference_high))
        last = group[group.seconds == max(seconds)].iloc[0]
        rows.append((*cells, last.first_seen, last.second_seen, f"{last.trials:.0f} ({last.complete:.0f})"))
    less = [f"less random's, {s:g} s" for s in seconds]
    header = ["policy", *(f"{s:g} s" for s in seconds), *less, "first seed seen", "second seen", "trials (complete)"]
    return table(header, rows)


def regret_figure(summary: pd.DataFrame) -> go.Figure:
    """Mean regret against trial-seconds with its interval, samplers on the left, pruning on the right."""
    figure = make_subplots(1, 2, subplot_titles=list(SHOWN), shared_yaxes=True, horizontal_spacing=0.05)
    for column, policies in enumerate(SHOWN.values(), 1):
        for policy, colour in policies.items():
            one = summary[summary.policy == policy.name]
            x, band = one.seconds, pd.concat([one.high, one.low[::-1]])
            edge = {"x": pd.concat([x, x[::-1]]), "y": 100 * band, "fill": "toself", "line": {"width": 0}}
            figure.add_scatter(
                **edge,
                fillcolor=colour,
                opacity=0.15,
                hoverinfo="skip",
                showlegend=False,
                mode="lines",
                col=column,
                row=1,
            )
            line = {"color": colour, "width": 2}
            shown = policy != RANDOM or column == 1
            figure.add_scatter(
                x=x, y=100 * one["mean"], name=policy.name, mode="lines", line=line, showlegend=shown, col=column, row=1
            )
    style(figure, "Regret of the trial a study would choose", 460)
    figure.update_xaxes(title_text="trial-seconds (CPU)")
    figure.update_yaxes(title_text="points of accuracy", col=1)
    legend = {"y": -0.22, "yanchor": "top"}  # below: the titles of the halves are where it stands else
    return figure.update_layout(margin={"t": 80, "b": 120}, legend=legend, width=1000)


def excess(values: ArrayLike, noise: ArrayLike) -> float:
    """Share of the variance of `values` that repetitions at one point, `noise`, do not have; below 0 by chance."""
    return float(1 - np.var(noise, ddof=1) / np.var(values, ddof=1))


def noise_table(rows: list[Row], trials: pd.DataFrame) -> str:
    """How much of the variance between feasible trials is there again with another seed."""
    allowed = [row for row in rows if row.feasible]
    pairs = np.array([row.values for row in allowed])
    means = np.array([[np.mean(accuracies) for accuracies in row.accuracies] for row in allowed])
    nlls = trials[(trials.kind == "row") & (trials.control_error <= CONTROL_LIMIT)][["nll", "nll_b"]].dropna()
    repeats = trials[(trials.kind == "default") & (trials.status == "complete")].value
    singles = {digest: pair for row in allowed for digest, *pair in zip(row.digests, *row.accuracies, strict=True)}
    described = [
        ("trials complete, feasible", f"{len(rows)}, {len(allowed)}"),
        ("value, first seed: mean, standard deviation", f"{pairs[:, 0].mean():.4f}, {pairs[:, 0].std(ddof=1):.4f}"),
        ("value, second seed: mean, standard deviation", f"{pairs[:, 1].mean():.4f}, {pairs[:, 1].std(ddof=1):.4f}"),
        ("ICC of the value over two retraining seeds", _told(bootstrap(consistency, pairs))),
        ("ICC of the ensemble's NLL over two retraining seeds", _told(bootstrap(consistency, nlls))),
        ("ICC of the mean accuracy over two retraining seeds", _told(bootstrap(consistency, means))),
        (f"standard deviation of {len(repeats)} trials at the defaults", f"{repeats.std(ddof=1):.4f}"),
        ("share of variance that those do not have", _told(bootstrap(excess, pairs[:, 0], repeats))),
    ]
    what = f"Spearman of the accuracy of {len(singles)} distinct candidates over two retraining seeds"
    described.append((what, _told(bootstrap(spearman, list(singles.values())))))
    log_c = np.log([row.params["c_end"] for row in allowed])
    described.append(
        ("Spearman of c_end and value", _told(bootstrap(spearman, np.column_stack([log_c, pairs.mean(1)]))))
    )
    for k in (1, 2, 4, 8):
        early = [np.mean(row.accuracies[0][:k]) for row in allowed]
        triple = [bootstrap(spearman, np.column_stack([early, pairs[:, seen]])) for seen in (0, 1)]
        what = f"Spearman of the mean of {k} candidates and the value, same seed; other seed"
        described.append((what, "; ".join(_told(one) for one in triple)))
    return table(["feasible trials", "[95%]"], described)


def ranking_table(retrainings: pd.DataFrame, full: int) -> str:
    """Spearman of a short retraining with the full one of another seed."""
    rows = []
    for epochs in sorted(retrainings.epochs.unique()):
        cells = [str(epochs)]
        for score in ("accuracy", "nll"):
            wide = retrainings.pivot(index="digest", columns=["epochs", "repeat"], values=score)
            pairs = wide[[(epochs, 0), (full, 1)]].dropna().to_numpy()
            cells.append(_told(bootstrap(spearman, pairs)))
        seconds = retrainings[(retrainings.epochs == epochs) & (retrainings.repeat == 0)].seconds
        rows.append((*cells, str(len(pairs)), "from the store" if seconds.isna().all() else f"{seconds.median():.2f}"))
    return table(["epochs", "by accuracy", "by NLL", "candidates", "CPU s, median"], rows)


def steps_until(errors: tuple[float, ...], limit: float, steps_an_epoch: int) -> float:
    """Steps until the control error is first at most `limit`; infinite where that was not seen."""
    return next((steps_an_epoch * (k + 1) for k, error in enumerate(errors) if error <= limit), float("inf"))


def control_table(control: pd.DataFrame, steps_an_epoch: int) -> str:
    """Steps until control, censored at the last epoch, for both estimators at the same points and seeds."""
    control = control.assign(
        steps=[steps_until(numbers(text), CONTROL_LIMIT, steps_an_epoch) for text in control.control_errors]
    )
    last = steps_an_epoch * control.control_errors.map(lambda text: len(numbers(text))).max()
    keys, rows = ["kind", "index"], []
    wide = control.pivot(index=[*keys, "c_end"], columns="estimator", values="steps").dropna().reset_index()
    groups = {
        "defaults, over seeds": wide[wide.kind == "default"],
        "sampled points": wide[wide.kind == "row"],
        "sampled points, c_end >= 0.1": wide[(wide.kind == "row") & (wide.c_end >= 0.1)],
    }
    for what, group in groups.items():
        for estimator in ("exact", "gumbel"):
            steps = np.sort(group[estimator])
            five = [f"{v:.0f}" if np.isfinite(v) else f"> {last}" for v in _quantiles(steps, (0.5, 0.05, 0.95))]
            reached = f"{np.isfinite(steps).sum()} of {len(steps)}"
            sooner = (group.exact < group.gumbel).sum(), (group.exact > group.gumbel).sum()
            told_sooner = f"{sooner[estimator == 'gumbel']} of {len(group)}"
            rows.append((what, estimator, reached, f"{five[0]} [{five[1]}, {five[2]}]", told_sooner))
    return table(["points", "estimator", f"reached in {last} steps", "steps, median [5%, 95%]", "sooner"], rows)


def _quantiles(ordered: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Quantiles that are members of the sample: censored values are infinite and have no average."""
    return [
        float(ordered[min(int(share * len(ordered)), len(ordered) - 1)]) if len(ordered) else float("nan")
        for share in shares
    ]


def main(options: Options) -> None:
    """Print the tables."""
    rows, about = read_table(options.table), read_json(options.table / "table.json")
    trials, retrainings, control = (
        pd.read_csv(options.table / f"{name}.csv") for name in ("trials", "retrainings", "control")
    )
    versions = about["environment"]["versions"]
    made = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "optuna"))
    costs = [row.hypernetwork + sum(row.candidates) for row in rows]
    print(
        f"Table of {about['config']['dataset']}, seed {about['config']['seed']}, "
        f"commit {about['environment']['commit']}, "
        f"{made}, one thread; CPU seconds of a trial, median [5%, 95%]: "
        f"{np.median(costs):.1f} [{np.quantile(costs, 0.05):.1f}, {np.quantile(costs, 0.95):.1f}]\n"
    )
    print(noise_table(rows, trials), flush=True)
    print("\n" + ranking_table(retrainings, about["config"]["final_epochs"]), flush=True)
    print("\n" + control_table(control, about["steps_an_epoch"]), flush=True)
    grid = sorted({*options.seconds, *np.arange(24, max(options.seconds) + 1, 12).tolist()})
    summary = regret_summary(regrets(rows, grid, range(options.seeds), options.processes))
    blindly = [
        f"{100 * np.mean([regret(k, rows, seen) for k, row in enumerate(rows) if row.feasible]):.2f}" for seen in (0, 1)
    ]
    print(f"\n{options.seeds} simulated studies a policy, load {os.getloadavg()[0]:.1f}; regret in points of accuracy")
    print(f"A feasible trial taken blindly: {' and '.join(blindly)}, the first and the second seed seen")
    print("\n" + regret_table(summary, options.seconds))
    if options.figure is not None:
        page = regret_figure(summary)
        page.write_html(options.figure, config={"displayModeBar": False})
