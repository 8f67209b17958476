"""Study how EdgeNES anneals: sweep c, t, pivots and epsilon, and end with an ensemble.

python studies/anneal_sweep.py                       # digits, embedded: minutes on a laptop
python studies/anneal_sweep.py --dataset cifar100 --root DATA --channels 16 --gpus-per-trial 0.5
python studies/anneal_sweep.py --trials 24           # adds trials to the study of the first command
"""

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tune_jobs import run_sweep
from tune_jobs.cli import run_command
from tune_jobs.config.sweep import SweepConfig


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return run_command(SweepConfig, __doc__, run, arguments)


def run(config: SweepConfig) -> int:
    """Run the study, or measure what it would take; returns the exit status."""
    if config.dry_run:
        from tune_jobs.stages.estimate import estimate

        Console(emoji=False).print(estimate(config), markup=False, highlight=False)
        return 0
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _summary(config, run_sweep(config).values)
    return 0


def _summary(config: SweepConfig, result: dict) -> None:
    from tune_jobs.report.comparison import comparison
    from tune_jobs.study.saved import storage_url
    from tune_jobs.study.storage import storage_reference
    from tune_jobs.watch.names import optuna_command

    out = Console(emoji=False)
    folder = config.folder
    out.print()
    for row in comparison(result):
        text = f"  {row['name']:<38} test {row['test']:.3f} ± {row['test_standard_error']:.3f}"
        out.print(text, markup=False, highlight=False)
    chosen, best = result["chosen"]["number"], result["best_of_sweep"]["number"]
    out.print(
        f"  Chosen hypernetwork: trial {chosen}, control error {result['control_error']:.2f}; "
        + (f"best of the sweep: trial {best}" if result["feasible"] else "no trial was feasible: it has the least"),
        highlight=False,
    )
    storage = storage_url(replace(config, storage=storage_reference(config.storage, folder)))
    limits = {"hours": config.hours, "patience": config.patience} if result.get("ended") else {"trials": config.trials}
    doubled = {name: 2 * value for name, value in limits.items() if value is not None}
    commands = [
        ("the report", f"{folder / 'report' / 'index.html'}"),
        ("the ensemble", f"{folder / 'ensemble'}, for edgenes.Ensemble.load"),
        ("Optuna's dashboard", optuna_command(folder, storage)),
        ("more trials", more_trials(doubled)),
    ]
    if config.smoke_test:
        out.print("  A smoke test: its networks are hardly trained, so that its numbers mean nothing.")
    out.print("\nNext:")
    for what, command in commands:
        out.print(f"  {what + ':':<20} {command}", markup=False, highlight=False, soft_wrap=True)


def more_trials(limits: dict[str, float]) -> str:
    """What runs the study up to further limits: the same command."""
    here = Path(sys.executable)  # `python` alone may be another one than the environment's
    here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    command = f"{here} {shlex.join(sys.argv)}"
    for name, value in limits.items():  # each once, in the place of the earlier one
        command = re.sub(rf" --{name}[ =]\S+", "", command) + f" --{name} {value:g}"
    return command


if __name__ == "__main__":
    sys.exit(main())
