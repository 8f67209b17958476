"""The command line of an experiment: its arguments, its errors, and what it says at the end."""

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro
from rich.console import Console

from edgenes.errors import EdgeNESError
from tune_jobs.experiment_config import ExperimentConfig
from tune_jobs.progress import Progress
from tune_jobs.quiet import quiet_ray
from tune_jobs.tools.display import lines


def experiment_main(
    kind: type[ExperimentConfig], description: str, study: Callable[[Any], Any], arguments: list[str] | None = None
) -> int:
    """Run the experiment of the command line; returns the exit status."""
    errors = Console(stderr=True, emoji=False)

    def tell(error: Exception) -> None:
        errors.print(f"error: {lines(error)}", style="red", markup=False, highlight=False, soft_wrap=True)

    try:
        config = tyro.cli(
            kind, args=arguments, description=description.partition("\n")[0], config=(tyro.conf.OmitArgPrefixes,)
        )
    except EdgeNESError as error:
        tell(error)
        return 2
    quiet_ray(local=not (config.address or os.environ.get("RAY_ADDRESS")))
    # Ray is imported only now: it is silenced by what it finds while it is imported.
    from tune_jobs.experiment import run_experiment
    from tune_jobs.run import Interrupted

    try:
        findings, page = run_experiment(config, study, Progress())
    except (Interrupted, KeyboardInterrupt) as stop:
        text = str(stop) or "stopped; run the same command again to go on."
        errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        return 130
    except EdgeNESError as error:
        tell(error)
        return 1
    out = Console(emoji=False, file=sys.stdout)
    out.print()
    for sentence in findings.conclusions:
        out.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"\nThe report: {page}", markup=False, highlight=False, soft_wrap=True)
    return 0
