"""Moments of a study at which tests inject faults: `reached` does nothing by itself."""


def reached(moment: str) -> None:
    """Mark that the study is at the named moment; tests/faults/injection.py wraps this function."""
