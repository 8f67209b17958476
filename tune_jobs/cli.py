"""What the commands of `studies/` have in common: arguments, and errors in a line, each kind with its exit status."""

import argparse
import dataclasses
import os
import sys
import typing
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console

from edgenes.errors import EdgeNESError
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.passwords import refuse_passwords
from tune_jobs.config.presets import PRESETS
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import Interrupted
from tune_jobs.execution.quiet import quiet_ray
from tune_jobs.progress.text import lines, reader_may_leave

Config = TypeVar("Config", SweepConfig, ExperimentConfig)

MARKS = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
"""How tyro reads a configuration: no prefixes of the pieces, and options without a value are left out, not None."""
STOPPED = "stopped; run the same command again to resume."
HELP, HELP_ALL = ("-h", "--help"), "--help-all"
RARE = frozenset(
    [
        "hours",
        "patience",
        "enqueue",
        "warm_start",
        "seeds_per_candidate",
        "value",
        "pruner",
        "prune_infeasible",
        "flip",
        "nodes",
        "inputs_per_node",
        "cell_types",
        "operations",
        "search_channels",
        "partial_channels",
        "search_cells",
        "batch_size",
        "retraining_batch_size",
        "drop_path",
        "auxiliary",
        "search_epochs",
        "hypernetwork_epochs",
        "survey_epochs",
        "estimator",
        "penalty_lambdas",
        "either_input",
        "forward",
        "gradient",
        "second_order",
        "search_warmup",
        "search_weight_decay",
        "max_parameter_free",
        "stop_parameter_free",
        "storage_path",
        "wait_for_nodes",
    ]
)
"""Options that only --help-all shows."""


def run_command(
    kind: type[Config], description: str, run: Callable[[Config], int], arguments: list[str] | None = None
) -> int:
    """`run(config)` of the command line, whose first line of `description` is its help; returns the exit status.

    Ray is silenced by what it finds while it is imported: `run` imports what imports it.
    """
    errors = Console(stderr=True, emoji=False)

    def tell(text: str, style: str) -> None:
        errors.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    status = 2  # of what the command line says
    try:
        given = sys.argv[1:] if arguments is None else arguments
        refuse_passwords(given)
        config = parsed(kind, given, description=description.partition("\n")[0])
        status = 1
        quiet_ray(local=not (config.execution.address or os.environ.get("RAY_ADDRESS")))
        return run(config)
    except (Interrupted, KeyboardInterrupt) as stop:
        tell(str(stop) or STOPPED, "yellow")
        return 130
    except EdgeNESError as error:
        tell(f"error: {lines(error)}", "red")
        return status


def check_command_line(kind: type[Config], description: str) -> None:
    """End the process where the command line asks for help or has a mistake: a study then imports nothing more.

    Ctrl-C is a line from here on, while the study imports the rest: a traceback would not say what to do.
    """
    if status := run_command(kind, description, lambda config: 0):
        sys.exit(status)
    sys.excepthook = _in_a_line


def _in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(STOPPED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def parsed(kind: type[Config], arguments: list[str], **options: Any) -> Config:
    """The configuration of a command line; `options` are those of `tyro.cli`.

    Raises ConfigError for options that do not fit together; one that there is not ends the process with a message.
    """
    shown, default = kind, kind.of(**_preset(arguments))
    if HELP_ALL in arguments:
        arguments = ["--help"]
    elif not set(HELP).isdisjoint(arguments):
        shown, default = _common(kind, default)
        options["description"] = f"{options.get('description', '')} {HELP_ALL} shows rare options too."
    with reader_may_leave():
        return tyro.cli(shown, args=arguments, default=default, config=MARKS, **options)


def _common(kind: type, default: Any) -> tuple[type, Any]:
    """A configuration and its defaults, for the help alone, in which tyro does not see the rare options."""
    hints, values = {}, {}
    for each in dataclasses.fields(kind):
        hint, value = typing.get_type_hints(kind)[each.name], getattr(default, each.name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            hint, value = _common(hint, value)
        hints[each.name] = Annotated[hint, tyro.conf.Suppress] if each.name in RARE else hint
        values[each.name] = value
    shown = dataclasses.make_dataclass(kind.__name__, hints.items(), bases=(kind,), kw_only=True, frozen=True)
    return shown, shown(**values)


def _preset(arguments: list[str]) -> dict[str, Any]:
    """The options that decide the defaults of all others: the help then shows those of the preset."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?", default="laptop")
    parser.add_argument("--smoke-test", "--smoke_test", action="store_true")
    known, _ = parser.parse_known_args(arguments)
    return vars(known) if known.preset in PRESETS else {}  # else tyro says which there are
