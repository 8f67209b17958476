"""How a benchmark prints: Markdown tables, spreads, and what it ran on."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version

import numpy as np
import torch

from tune_jobs.files.environment import commit


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median [smallest, largest]: for a handful of values."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} [{low}, {high}]"


def quantiles(values: Sequence[float]) -> str:
    """Median [5%, 95%]: for many values."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def machine(*packages: str) -> str:
    """Load, processors, threads, versions and commit, in a line; `packages` beside Python and torch."""
    code = commit() or "unknown"  # with a + at its end where files differ
    versions = "".join(f", {name} {version(name)}" for name in ("torch", *packages))
    return (
        f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores, {torch.get_num_threads()} thread(s); Python "
        f"{platform.python_version()}{versions}, {platform.machine()}; commit {code[:10]}{'+' * code.endswith('+')}"
    )
