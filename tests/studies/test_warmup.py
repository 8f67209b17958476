"""The study of the warm-up: its conclusions from numbers that are known."""

import pandas as pd
import pytest

from edgenes.config import HypernetworkConfig
from studies.warmup import (
    EQUAL_C,
    EQUAL_CONTROL,
    ON,
    WarmupConfig,
    comparisons,
    conclusions,
    control_sentence,
    findings,
    in_control,
    schedule,
    table,
)

OFF = "c and t at end"
MIXED, LARGE = [0.01, -0.02, 0.015, -0.01, 0.0], [0.05, 0.06, 0.05, 0.06, 0.05]


def rows(differences: list[float], c_end: float = 1.0) -> pd.DataFrame:
    """Accuracies of OFF that differ from ON's by so much, seed by seed."""
    return pd.DataFrame(
        {
            "condition": name,
            "c_end": c_end,
            "seed": seed,
            "lambda": lam,
            "shared": lam,
            "accuracy": 0.8 + seed / 50 + lam / 100 + (difference if name == OFF else 0.0),
        }
        for name in (ON, OFF)
        for seed, difference in enumerate(differences)
        for lam in (1, 2, 3)
    )


def errors(by: dict[str, dict[float, float]]) -> pd.DataFrame:
    """Control errors by condition and c_end, of five seeds."""
    return pd.DataFrame(
        {"condition": name, "c_end": c_end, "seed": seed, "error": error + (seed - 2) / 100}
        for name, found in by.items()
        for c_end, error in found.items()
        for seed in range(5)
    )


@pytest.mark.parametrize(
    ("name", "c", "t"),
    [
        (ON, (0.1, 1), (1, 0.2)),
        ("c at end", (1, 1), (1, 0.2)),
        ("t at end", (0.1, 1), (0.2, 0.2)),
        ("c and t at end", (1, 1), (0.2, 0.2)),
        ("c at mean", (0.55, 0.55), (1, 0.2)),
        ("t at mean", (0.1, 1), (0.6, 0.6)),
        ("c and t at mean", (0.55, 0.55), (0.6, 0.6)),
    ],
)
def test_constants_are_the_end_or_the_mean(name, c, t):
    config = HypernetworkConfig(c_start=0.1, c_end=1.0, t_start=1.0, t_end=0.2)
    wanted = {"c_start": c[0], "c_end": c[1], "t_start": t[0], "t_end": t[1]}
    assert schedule(config, name, 1.0) == pytest.approx(wanted)
    assert schedule(config, name, 0.5)["c_start"] == pytest.approx(c[0] / 2)  # the start keeps its share of the end


def test_the_smallest_c_end_in_control_counts_and_a_condition_without_one_is_named():
    frame = errors({ON: {0.1: 0.9, 0.3: 0.2, 1.0: 0.0}, OFF: {0.1: 0.2, 0.3: 0.4, 1.0: 0.0}})
    assert in_control(frame) == {ON: 0.3, OFF: 0.1}
    frame = errors({ON: {0.3: 0.2, 1.0: 0.0}, OFF: {0.3: 0.7, 1.0: 0.5}})
    said = control_sentence(frame, in_control(frame), 1.0)
    assert f"{ON} 0.3;" in said and f"at no c_end that was tried: {OFF}" in said and "0.00 to 0.50" in said


def test_a_difference_is_said_with_its_sign():
    first, second = conclusions({EQUAL_C: rows(LARGE), EQUAL_CONTROL: rows(MIXED, 0.3)})
    assert first.startswith(f"At {EQUAL_C}: {OFF} is 5.4 points above {ON}")
    assert second.startswith(f"At {EQUAL_CONTROL}: Not distinguishable")


def test_both_questions_are_one_family():
    one = comparisons({EQUAL_C: rows(LARGE), EQUAL_CONTROL: rows(LARGE, 0.3)})[EQUAL_C, OFF]
    assert one.comparisons == 2 and one.p_holm == pytest.approx(2 * one.p)


def test_a_missing_reference_is_no_trouble():
    frame = rows(MIXED)
    (only,) = conclusions({EQUAL_CONTROL: frame[frame["condition"] == OFF]})
    assert "nothing can be compared" in only


def test_a_report_is_whole_even_if_nothing_is_in_control():
    frame = rows([0.01, 0.0, 0.02, 0.0, 0.01])
    shown = table(frame, errors({ON: {1.0: 0.1}, OFF: {1.0: 0.2}}))
    assert list(shown["condition"]) == [ON, OFF] and shown["mean"][0].startswith("86.0 [")
    assert shown["2 shared"][0].startswith("86.0 [") and shown["control error"][1].startswith("0.200 [")
    found = findings(errors({ON: {1.0: 0.9}, OFF: {1.0: 0.8}}), frame, 1.0)
    assert len(found.sections) == 3 and found.sections[1].table is None


def test_options_are_kept_in_order_and_checked():
    config = WarmupConfig.of(c_ends=(3, 0.1), c_end=0.5)
    assert config.c_ends == (0.1, 0.5, 3.0) and config.search.estimator == "gumbel"
    assert WarmupConfig.of(c_ends=()).c_ends == (1.0,) and WarmupConfig.of(edges=(2, 1, 2)).edges == (2, 1)
