"""The study of the warm-up: its conclusions from numbers that are known, and the command as a person runs it."""

import pandas as pd
import pytest

from edgenes.config import HypernetworkConfig
from studies.warmup import (
    CONDITIONS,
    EQUAL_C,
    EQUAL_CONTROL,
    ON,
    WarmupConfig,
    at,
    comparisons,
    conclusions,
    control_sentence,
    findings,
    in_control,
    main,
    schedule,
    table,
)
from tests.support.small_study import refusal, run

OFF = "c and t at end"


def rows(differences: dict[str, list[float]], c_end: float = 1.0) -> pd.DataFrame:
    """Accuracies of conditions that differ from ON's by so much, seed by seed."""
    seeds = len(next(iter(differences.values())))
    return pd.DataFrame(
        {
            "condition": name,
            "c_end": c_end,
            "seed": seed,
            "asked": asked,
            "shared": asked,
            "accuracy": 0.8 + seed / 50 + asked / 100 + less[seed],
        }
        for name, less in {ON: [0.0] * seeds, **differences}.items()
        for seed in range(seeds)
        for asked in (1, 2, 3)
    )


def errors(by: dict[str, dict[float, float]]) -> pd.DataFrame:
    """Control errors by condition and c_end, of five seeds."""
    return pd.DataFrame(
        {"condition": name, "c_end": c_end, "seed": seed, "error": error + (seed - 2) / 100}
        for name, found in by.items()
        for c_end, error in found.items()
        for seed in range(5)
    )


class TestSchedules:
    config = HypernetworkConfig(c_start=0.1, c_end=1.0, t_start=1.0, t_end=0.2)

    def test_the_annealed_one_is_the_default(self):
        assert schedule(self.config, ON, 1.0) == {"c_start": 0.1, "c_end": 1.0, "t_start": 1.0, "t_end": 0.2}

    def test_its_start_keeps_its_share_of_the_end(self):
        assert schedule(self.config, ON, 0.5)["c_start"] == pytest.approx(0.05)

    @pytest.mark.parametrize(
        ("name", "c", "t"),
        [
            ("c at end", (1, 1), (1, 0.2)),
            ("t at end", (0.1, 1), (0.2, 0.2)),
            ("c and t at end", (1, 1), (0.2, 0.2)),
            ("c at mean", (0.55, 0.55), (1, 0.2)),
            ("t at mean", (0.1, 1), (0.6, 0.6)),
            ("c and t at mean", (0.55, 0.55), (0.6, 0.6)),
        ],
    )
    def test_constants_are_the_end_or_the_mean(self, name, c, t):
        found = schedule(self.config, name, 1.0)
        assert (found["c_start"], found["c_end"]) == pytest.approx(c)
        assert (found["t_start"], found["t_end"]) == pytest.approx(t)


class TestControl:
    def test_the_smallest_c_end_in_control_is_taken(self):
        frame = errors({ON: {0.1: 0.6, 0.3: 0.2, 1.0: 0.0}, OFF: {0.1: 0.2, 0.3: 0.4, 1.0: 0.0}})
        assert in_control(frame) == {ON: 0.3, OFF: 0.1}

    def test_a_condition_that_never_is_in_control_is_named(self):
        frame = errors({ON: {0.3: 0.2, 1.0: 0.0}, OFF: {0.3: 0.7, 1.0: 0.5}})
        told = control_sentence(frame, in_control(frame), 1.0)
        assert f"within 0.25 edges): {ON} 0.3;" in told and f"at no c_end that was tried: {OFF}" in told
        assert "0.00 edges with both annealed, and 0.00 to 0.50" in told


class TestConclusions:
    @pytest.mark.parametrize(("sign", "word"), [(1, "above"), (-1, "below")])
    def test_what_is_better_or_worse_is_said_to_be(self, sign, word):
        first, second = conclusions(
            {
                EQUAL_C: rows({OFF: [sign * 0.05, sign * 0.06, sign * 0.05, sign * 0.06, sign * 0.05]}),
                EQUAL_CONTROL: rows({OFF: [0.01, -0.02, 0.015, -0.01, 0.0]}, 0.3),
            }
        )
        assert first.startswith(f"At {EQUAL_C}: {OFF} is 5.4 points {word} {ON}") and "after Holm" in first
        assert second.startswith(f"At {EQUAL_CONTROL}, not distinguishable") and "5 searches could have" in second

    def test_both_questions_are_one_family(self):
        several = [0.01, 0.03, 0.005, 0.035, 0.01]
        by = {EQUAL_C: rows({OFF: several}), EQUAL_CONTROL: rows({OFF: several}, 0.3)}
        one = comparisons(by)[EQUAL_C, OFF]
        assert one.comparisons == 2 and one.p_holm == pytest.approx(2 * one.p)

    @pytest.mark.parametrize("seeds", [1, 2])
    def test_few_seeds_are_no_trouble(self, seeds):
        (only,) = conclusions({EQUAL_C: rows({OFF: [0.01, 0.03][:seeds]})})
        assert "not distinguishable" in only and ("searches could have" in only) == (seeds == 2)

    def test_without_the_annealed_one_nothing_is_compared(self):
        frame = rows({OFF: [0.01] * 5})
        (only,) = conclusions({EQUAL_CONTROL: frame[frame["condition"] == OFF]})
        assert "nothing can be compared" in only


def test_tables_have_a_row_a_condition_and_a_column_a_number_of_edges():
    shown = table(rows({OFF: [0.01, 0.0, 0.02, 0.0, 0.01]}), errors({ON: {1.0: 0.1}, OFF: {1.0: 0.2}}))
    assert list(shown["condition"]) == [ON, OFF]
    assert {"1 shared", "2 shared", "3 shared", "mean", "control error"} <= set(shown)
    assert shown["mean"][0].startswith("86.0 [")


def test_a_report_is_whole_even_if_nothing_is_in_control():
    frame = rows({OFF: [0.01, 0.0, 0.02, 0.0, 0.01]})
    loose = errors({ON: {1.0: 0.9}, OFF: {1.0: 0.8}})
    found = findings(loose, frame, 1.0)
    assert len(found.sections) == 4 and "none" in found.conclusions[0] and found.sections[2].figure is None
    assert at(frame, {}).empty


def test_options_are_checked_and_kept_in_order():
    config = WarmupConfig(c_ends=(3, 0.1), c_end=0.5)
    assert config.c_ends == (0.1, 0.5, 3.0) and config.estimator == "gumbel"
    assert WarmupConfig(c_ends=()).c_ends == (1.0,) and WarmupConfig(edges=(2, 1, 2)).edges == (2, 1)
    assert WarmupConfig(estimator="exact").setting("cpu").hypernetwork.estimator == "exact"


@pytest.mark.e2e
def test_the_command_ends_with_conclusions_and_a_report(tmp_path):
    out = tmp_path / "study"
    done = run("warmup", out, "--edges", "1", "2", "--seeds", "1")
    assert done.status == 0, done.errors
    assert "At c_end 1 the control error is" in done.output
    assert len(pd.read_csv(out / "report" / "errors.csv")) == len(CONDITIONS)
    tested = pd.read_csv(out / "report" / "accuracy.csv")
    assert len(tested) == 2 * len(CONDITIONS) and tested["accuracy"].between(0, 1).all()
    assert "Warm-up (Table 1)" in (out / "report" / "index.html").read_text()
    assert not (out / "test_reads.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--c-ends", "0.1", "-1"), "c_ends must be numbers above 0"),
        (("--c-ends", "0.1", "0.10000001"), "c_ends and c_end must differ in six digits"),
        (("--edges", "5"), "edges must be numbers from 0 to 4"),
        (("--c-end", "0"), "c_end must be a number above 0"),
    ],
)
def test_a_mistake_is_told_at_once(tmp_path, capsys, options, said):
    assert said in refusal(main, capsys, tmp_path / "study", *options)
