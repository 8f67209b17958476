"""Commands on a study's folder: python -m tune_jobs status runs/anneal-digits."""

import json
import sys

import optuna
import tyro
from rich.console import Console

from edgenes.errors import EdgeNESError
from tune_jobs.progress.text import lines
from tune_jobs.tools.archive import Export, Import
from tune_jobs.tools.cache import CacheCommand
from tune_jobs.tools.clean import Clean
from tune_jobs.tools.cluster_file import ClusterFile
from tune_jobs.tools.compare import Compare
from tune_jobs.tools.display import finite
from tune_jobs.tools.doctor import Doctor
from tune_jobs.tools.replay import Replay
from tune_jobs.tools.reselect import Reselect
from tune_jobs.tools.status import Status
from tune_jobs.tools.submit import Submit

COMMANDS = {
    "status": Status,
    "doctor": Doctor,
    "clean": Clean,
    "cache": CacheCommand,
    "export": Export,
    "import": Import,
    "replay": Replay,
    "ensemble": Reselect,
    "compare": Compare,
    "submit": Submit,
    "cluster-file": ClusterFile,
}
"""What can be asked, in the order of the help."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command of the command line; returns the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    errors = Console(stderr=True, emoji=False)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=arguments, prog="python -m tune_jobs", description=__doc__
        )
        answer = command.run()
        said = json.dumps(finite(answer), indent=2, allow_nan=False) if command.json else lines(command.text(answer))
        # rich knows what to do where a reader such as `head` has gone
        Console(emoji=False).print(said, markup=False, highlight=False, soft_wrap=True)
        return command.status(answer)
    # OSError: a file that is a folder, a full disk, a folder that others may not read
    except (EdgeNESError, OSError) as error:
        errors.print(f"error: {lines(error)}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print("stopped", style="yellow")
        return 130


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that knows no ±
    sys.exit(main())
