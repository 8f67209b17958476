"""The commands of the experiments as a person runs them, on few images and with tiny networks."""

from collections.abc import Callable
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"
SMALL = ("--smoke-test", "--images", "200", "--search-channels", "2", "--channels", "2", "--batch-size", "32")
SMALL += ("--retraining-batch-size", "32")


def refusal(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture, *arguments: object, status: int = 1
) -> str:
    """What a command, called in this process, says of a mistake, out of the box that it stands in."""
    try:
        found = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # tyro's own refusals
        found = stop.code
    printed = capsys.readouterr()
    assert found == status, printed
    assert "Traceback" not in printed.err and printed.out == ""
    return " ".join(printed.err.replace("│", " ").split())
