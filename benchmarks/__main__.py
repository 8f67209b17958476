"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME` runs one, with `--help` for its options."""

import importlib
import sys
from pathlib import Path

import tyro

from edgenes.errors import EdgeNESError
from edgenes.validation import check_choice


def benchmarks() -> dict[str, str]:
    """The first line of each benchmark's docstring, by name; nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text()
        if "\nclass Options:\n" in text:
            found[path.stem] = text.partition("\n")[0].strip('"')
    return found


def main(arguments: list[str]) -> int:
    """Run the benchmark of the command line; returns the exit status."""
    known = benchmarks()
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, known))
        print(f"{__doc__}\n\n" + "\n".join(f"  {name:<{width}}  {line}" for name, line in known.items()))
        return 0
    name, *options = arguments
    try:
        check_choice("benchmark", name, tuple(known))
        module = importlib.import_module(f"benchmarks.{name}")
        module.main(tyro.cli(module.Options, args=options, prog=f"python -m benchmarks {name}"))
    except EdgeNESError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
