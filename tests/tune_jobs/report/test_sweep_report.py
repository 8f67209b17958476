"""The rows of the report's final comparison."""

import pytest

from tune_jobs.report.comparison import NAMES, comparison


def scores(k):
    """Scores in which every number is another one."""
    names = ("accuracy", "nll", "ece", "standard_error")
    return {
        part: {name: k + i + j / 10 for j, name in enumerate(names)} for i, part in enumerate(("validation", "test"))
    }


def test_a_row_tells_the_scores_of_its_rival():
    row = comparison({**scores(10), "baseline": {}})
    assert row == [
        {
            "name": "EdgeNES ensemble",
            "validation": 10,
            "test": 11,
            "test_nll": 11.1,
            "test_ece": 11.2,
            "test_standard_error": 11.3,
        }
    ]


@pytest.mark.parametrize("keys", [["mean_member", "best_member"], list(NAMES)[:0:-1]])
def test_rivals_come_in_one_order_and_those_that_are_missing_are_left_out(keys):
    baseline = {key: scores(20 + 10 * k) for k, key in enumerate(keys)}
    rows = comparison({**scores(10), "baseline": baseline})
    wanted = ["ensemble", *[key for key in NAMES if key in keys]]
    assert [row["name"] for row in rows] == [NAMES[key] for key in wanted]
    assert [row["validation"] for row in rows[1:]] == [baseline[key]["validation"]["accuracy"] for key in wanted[1:]]
