"""The command line of an experiment: what it says at the end."""

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from tune_jobs.cli import run_command
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.progress.display import Progress


def experiment_main(
    kind: type[ExperimentConfig], description: str, study: Callable[[Any], Any], arguments: list[str] | None = None
) -> int:
    """Run the experiment of the command line; returns the exit status."""

    def run(config: ExperimentConfig) -> int:
        from tune_jobs.experiments.experiment import run_experiment

        findings, page = run_experiment(config, study, Progress())
        out = Console(emoji=False, file=sys.stdout)
        out.print()
        for sentence in findings.conclusions:
            out.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"\nThe report: {page}", markup=False, highlight=False, soft_wrap=True)
        return 0

    return run_command(kind, description, run, arguments)
