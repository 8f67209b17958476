"""Study how EdgeNES anneals: sweep c, t, pivots and epsilon, and end with an ensemble.

python studies/anneal_sweep.py                       # digits, embedded: minutes on a laptop
python studies/anneal_sweep.py --dataset cifar100 --root DATA --channels 16 --gpus-per-trial 0.5
python studies/anneal_sweep.py --trials 24           # goes on with the study of the first command
"""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import tyro
from rich.console import Console

from edgenes.errors import EdgeNESError
from tune_jobs.config import SweepConfig
from tune_jobs.progress import Progress
from tune_jobs.quiet import quiet_ray
from tune_jobs.storage import refuse_passwords, storage_reference
from tune_jobs.tools.display import lines


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    errors = Console(stderr=True, emoji=False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        refuse_passwords(sys.argv[1:] if arguments is None else arguments)
        config = tyro.cli(
            SweepConfig, args=arguments, description=__doc__.partition("\n")[0], config=(tyro.conf.OmitArgPrefixes,)
        )
        config = replace(config, storage=storage_reference(config.storage, config.folder))
    except EdgeNESError as error:
        errors.print(f"error: {lines(error)}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    quiet_ray(local=not (config.address or os.environ.get("RAY_ADDRESS")))
    # Ray is imported only now: it is silenced by what it finds while it is imported.
    from tune_jobs.run import Interrupted
    from tune_jobs.saved import storage_url
    from tune_jobs.sweep import run_study

    try:
        if config.dry_run:
            from tune_jobs.estimate import estimate

            Console(emoji=False).print(estimate(config), markup=False, highlight=False)
            return 0
        result = run_study(config, Progress())
    except (Interrupted, KeyboardInterrupt) as stop:
        text = str(stop) or "stopped; run the same command again to go on."
        errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        return 130
    except EdgeNESError as error:
        errors.print(f"error: {lines(error)}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    _summary(config, result, storage_url(config))
    return 0


def _summary(config: SweepConfig, result: dict, storage: str) -> None:
    from tune_jobs.report import comparison
    from tune_jobs.watch.watch import optuna_command

    out = Console(emoji=False)
    folder = config.folder
    out.print()
    for row in comparison(result):
        text = f"  {row['name']:<38} test {row['test']:.3f} ± {row['test_standard_error']:.3f}"
        out.print(text, markup=False, highlight=False)
    best = result["best_trial"]
    out.print(
        f"  Best hypernetwork: trial {best['number']}, control error {result['control_error']:.2f}"
        + ("" if result["feasible"] else " (no trial was feasible: the least control error was taken)"),
        highlight=False,
    )
    here = Path(sys.executable)  # `python` alone may be another one than the environment's
    here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    commands = [
        ("the report", f"{folder / 'report' / 'index.html'}"),
        ("Optuna's dashboard", optuna_command(folder, storage)),
        ("more trials", f"{here} {shlex.join(sys.argv)} --trials {2 * config.trials}"),
    ]
    out.print("\nNext:")
    for what, command in commands:
        out.print(f"  {what + ':':<20} {command}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
