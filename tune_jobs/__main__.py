"""Commands on a study's folder: python -m tune_jobs status runs/anneal-digits."""

import json
import math
import sys
from typing import Any

import tyro

from tune_jobs.progress.text import lines, reader_may_leave
from tune_jobs.tools.commands import COMMANDS


def main(
    arguments: list[str] | None = None, program: str = "python -m tune_jobs", description: str | None = __doc__
) -> int:
    """Run the command of the command line; returns the exit status."""
    words = (tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName)
    with reader_may_leave():
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=arguments, prog=program, description=description, config=words
        )
    # Only now: torch and Optuna take seconds, which --help need not.
    import optuna
    from rich.console import Console

    from edgenes.errors import EdgeNESError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    errors = Console(stderr=True, emoji=False)
    try:
        answer = command.run()
        said = json.dumps(_finite(answer), indent=2, allow_nan=False) if command.json else lines(command.text(answer))
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


def _finite(value: Any) -> Any:
    """Plain values for JSON, which has no word for NaN and infinities: they become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_finite, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # of a terminal that knows no ±
    sys.exit(main())
