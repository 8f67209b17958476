"""How fast the best ensemble is proven, and how often the fast methods miss it, on a pool of real candidates.

`python -m benchmarks selection --npz PATH --pool FOLDER` trains what the pool lacks (see `candidate_pool`) and prints
two tables. Times are wall-clock seconds of this process, predictions checked and copied included.

1. Exact selection beside the plain way: the mean of the members' probabilities and its score, subset by subset. Both
   are timed in turns; the plain way's whole time is the number of subsets by its rate on random ones.
2. Random parts of the pool of several sizes: how often each method misses the best ensemble, and what that costs on the
   images that choose (V) and on the test images (T).
"""

import os
import resource
import time
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from threadpoolctl import threadpool_limits

from benchmarks import candidate_pool
from benchmarks.candidate_pool import Pool, load_pool
from benchmarks.printing import machine, spread, table
from edgenes import metrics, select_ensemble
from edgenes.selection import CRITERIA, METHODS, exact_memory
from edgenes.selection.problem import Problem

HEURISTICS = tuple(name for name in METHODS if name not in ("exact", "auto"))
POOLS = {"nll": (10, 20, 40, 80), "accuracy": (10, 20, 40)}
UNIT = {"nll": (1e3, "1e-3 nats"), "accuracy": (1e2, "points")}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure exact selection, and what it is worth."""

    npz: Path
    """Images for the pool: x_train, y_train, x_test, y_test."""
    pool: Path
    """Folder of the pool; what it lacks is trained."""
    networks: int = 100
    """Networks of the pool."""
    tasks: tuple[tuple[int, int, Literal[*CRITERIA]], ...] = (
        (50, 5, "nll"),
        (40, 5, "accuracy"),
        (100, 5, "nll"),
        (100, 5, "accuracy"),
        (100, 20, "nll"),
        (100, 10, "accuracy"),
    )
    """What to time: candidates, members and criterion of each."""
    repeats: int = 5
    """Times that each exact selection is run."""
    max_seconds: float = 120.0
    """Time limit of each exact selection."""
    plain_seconds: float = 2.0
    """Seconds of the plain way after each."""
    draws: int = 40
    """Random parts of the pool of each size in the second table; 0 leaves it out."""
    threads: int = 2
    """Threads of the matrix products."""
    figure: Path | None = None
    """Page to write the second table to as a figure."""


def plain_rate(pool: Pool, candidates: int, size: int, criterion: str, seconds: float, seed: int) -> float:
    """Random subsets scored a second by the plain way."""
    rng = np.random.default_rng(seed)
    samples = np.arange(len(pool.labels))
    start, scored = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        mean = pool.predictions[rng.choice(candidates, size, replace=False)].mean(0)
        if criterion == "nll":
            -np.log(np.maximum(mean[samples, pool.labels], metrics.TINY)).mean()
        else:
            (mean.argmax(-1) == pool.labels).mean()
        scored += 1
    return scored / elapsed


def time_exact(pool: Pool, options: Options) -> str:
    """The first table."""
    rows = []
    for candidates, size, criterion in options.tasks:
        part = pool.predictions[:candidates]
        seconds, rates = [], []
        for repeat in range(options.repeats):
            start = time.perf_counter()
            found = select_ensemble(part, pool.labels, size, criterion, max_seconds=options.max_seconds)
            seconds.append(time.perf_counter() - start)
            rates.append(plain_rate(pool, candidates, size, criterion, options.plain_seconds, repeat))
        greedy = select_ensemble(part, pool.labels, size, criterion, "greedy").score
        subsets = comb(candidates, size)
        ratios = [subsets / rate / second for rate, second in zip(rates, seconds, strict=True)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        told = f"{subsets:,}" if subsets < 1e9 else f"{subsets:.1e}"
        rows.append(
            (
                f"{candidates} choose {size}, {criterion}",
                told,
                spread(seconds),
                spread(rates, 0),
                f"{np.median(ratios):,.0f} [{min(ratios):,.0f}, {max(ratios):,.0f}]" if found.proven_optimal else "-",
                f"{found.score:.5f}",
                "proven" if found.proven_optimal else f"{found.gap:.5f}",
                f"{abs(greedy - found.score):.5f}",
                f"{exact_memory(part.shape, size, criterion) / 2**30:.2f}",
                f"{peak:.2f}",
            )
        )
        print(f"  {rows[-1][0]}: {rows[-1][2]} s", flush=True)
    header = ["task", "subsets", "exact, s", "plain, subsets/s", "ratio", "score", "gap", "greedy misses by"]
    return table([*header, "GiB said beforehand", "GiB, process so far"], rows)


def regrets(validation: Pool, test: Pool, size: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """What each method's choice lacks to the best ensemble: a row a random part of the pool, criterion and method.

    Columns pool (candidates), draw, criterion, method, validation and test: the losses above the best ensemble's.
    """
    rng, rows = np.random.default_rng(seed), []
    for criterion, sizes in POOLS.items():
        for candidates in [s for s in sizes if s <= len(validation.predictions)]:
            for draw in range(draws):
                part = np.sort(rng.choice(len(validation.predictions), candidates, replace=False))
                problem = Problem.checked(validation.predictions[part], validation.labels, size, criterion)
                found = {name: METHODS[name](problem) for name in METHODS}
                losses = {}
                for name, selection in found.items():
                    members = part[list(selection.members)]
                    weights = selection.weights or np.full(len(members), 1 / len(members))
                    mean = np.tensordot(weights, test.predictions[members].astype(np.float64), 1)
                    sign = 1 if criterion == "nll" else -1
                    value = getattr(metrics, criterion)(mean, test.labels)
                    losses[name] = sign * np.array([selection.score, value])
                for name in HEURISTICS:
                    on_v, on_t = losses[name] - losses["exact"]
                    rows.append((candidates, draw, criterion, name, on_v, on_t))
            print(f"  {criterion}, pools of {candidates}", flush=True)
    return pd.DataFrame(rows, columns=["pool", "draw", "criterion", "method", "validation", "test"])


def regret_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a criterion, pool size and method: share of draws `missed`, means, and the standard error on T."""
    frame = frame.assign(missed=frame.validation > 1e-9)
    grouped = frame.groupby(["criterion", "pool", "method"], sort=False)
    return grouped.agg(
        missed=("missed", "mean"),
        validation=("validation", "mean"),
        worst=("validation", "max"),
        test=("test", "mean"),
        error=("test", "sem"),
    ).reset_index()


def regret_table(summary: pd.DataFrame) -> str:
    """The second table."""
    rows = []
    for row in summary.itertuples():
        unit, name = UNIT[row.criterion]
        plain, worst = f"{unit * row.validation:+.2f}", f"{unit * row.worst:+.2f}"
        on_test = f"{unit * row.test:+.2f} ({unit * row.error:.2f})"
        rows.append((row.criterion, str(row.pool), row.method, f"{row.missed:.0%}", plain, worst, on_test, name))
    return table(["criterion", "pool", "method", "misses", "on V", "worst on V", "on T (s.e.)", "unit"], rows)


def regret_figure(summary: pd.DataFrame) -> go.Figure:
    """How often greedy and beam miss the best ensemble, and by how much on V and T, against the pool's size."""
    shown = {"missed": "share of pools missed", "validation": "worse than the best on V", "test": "and on T"}
    titles = [f"{c}: {text}" + ("" if q == "missed" else f", {UNIT[c][1]}") for c in UNIT for q, text in shown.items()]
    figure = make_subplots(2, 3, subplot_titles=titles, vertical_spacing=0.16)
    for i, criterion in enumerate(UNIT):
        for (method, colour), (j, quantity) in [
            (m, q) for m in zip(("greedy", "beam"), ("#d95f02", "#1b9e77"), strict=True) for q in enumerate(shown)
        ]:
            one = summary[(summary.criterion == criterion) & (summary.method == method)]
            unit = 1 if quantity == "missed" else UNIT[criterion][0]
            bars = {"type": "data", "array": unit * one.error} if quantity == "test" else None
            line = go.Scatter(x=one["pool"], y=unit * one[quantity], error_y=bars, name=method, marker_color=colour)
            figure.add_trace(line.update(showlegend=i == j == 0), i + 1, j + 1)
    figure.update_xaxes(title_text="candidates in the pool", row=2)
    figure.update_annotations(font_size=12)
    return figure.update_layout(template="plotly_white", width=1000, height=560, margin={"t": 40, "r": 10, "b": 50})


def main(options: Options) -> None:
    """Print both tables."""
    if len(list(options.pool.glob("network-*.npz"))) < options.networks:
        candidate_pool.main(candidate_pool.Options(npz=options.npz, out=options.pool, networks=options.networks))
    with threadpool_limits(options.threads):
        validation = load_pool(options.pool, "validation", options.networks)
        print(
            f"Pool {validation.predictions.shape}, float32; {options.repeats} repeats, median [smallest, largest]; "
            f"{options.threads} threads of the matrix products; {machine('numpy')}\n"
        )
        print(time_exact(validation, options), flush=True)
        if options.draws:
            frame = regrets(validation, load_pool(options.pool, "test", options.networks), 5, options.draws)
            summary = regret_summary(frame)
            print(f"\n5 members, {options.draws} random pools of each size.\n\n{regret_table(summary)}")
            if options.figure is not None:
                regret_figure(summary).write_html(options.figure, config={"displayModeBar": False})
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
