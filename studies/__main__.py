"""Studies, and tools for their folders: edgenes study --trials 24, edgenes status runs/anneal-digits."""

import os
import sys
from pathlib import Path

from tune_jobs.__main__ import main as tools

STUDIES = {"study": "anneal_sweep"} | {
    path.stem: path.stem for path in sorted(Path(__file__).parent.glob("[!_]*.py")) if path.stem != "anneal_sweep"
}
"""Each study's file, by the name of its command."""


def main(arguments: list[str] | None = None) -> int:
    """Become the study that the command line names, or run a tool; returns the tool's exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in STUDIES:
        os.execv(sys.executable, [sys.executable, "-m", f"studies.{STUDIES[given[0]]}", *given[1:]])  # noqa: S606
    return tools(given, "edgenes", f"{__doc__} Studies, each with its own --help: {', '.join(STUDIES)}.")


if __name__ == "__main__":
    sys.exit(main())
