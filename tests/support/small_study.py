"""The commands of the experiments as a person runs them, on few images and with tiny networks."""

from collections.abc import Callable
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"
SMALL = ("--smoke-test", "--images", "200", "--search-channels", "2", "--channels", "2", "--batch-size", "32")
SMALL += ("--retraining-batch-size", "32")


def refusal(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture, out: Path, *options: str) -> str:
    """What a study's `main`, called in this process, says of a mistake, out of the box that it stands in."""
    try:
        status = main([*SMALL, *options, "--out", str(out)])
    except SystemExit as stop:  # tyro's own refusals
        status = stop.code
    said = capsys.readouterr().err
    assert status and "Traceback" not in said, said
    return " ".join(said.replace("│", " ").split())
