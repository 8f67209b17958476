"""The study of control: its conclusions from numbers that are known."""

import pandas as pd
import pytest

from studies.control import (
    ControlConfig,
    conditions,
    control_sentence,
    distance_slopes,
    effect_sentences,
    effect_table,
    effects,
    error_frame,
    findings,
    ignorant,
    slope_sentences,
)

DEFAULT = {"estimator": "exact", "pivots": "fixed", "interpolation": "corrected", "epsilon": 0.2, "Lambda": 4}
CHANGED = {"estimator": "gumbel", "pivots": "trainable", "interpolation": "as_printed", "epsilon": 0.0, "Lambda": 8}


def curve(levels: dict, seed: int, off: float = 0.0) -> list[dict]:
    """Rows of a hypernetwork whose genotypes share lambda - off edges."""
    grid = [step / 2 for step in range(2 * levels["Lambda"] + 1)]
    return [{**levels, "seed": seed, "lambda": lam, "shared": lam - off} for lam in grid]


def curves(off: dict[str, list[float]], seeds: int = 5) -> pd.DataFrame:
    """The default condition, without an error, and changes of one factor with errors by seed."""
    rows = [row for seed in range(seeds) for row in curve(DEFAULT, seed)]
    for factor, errors in off.items():
        for seed in range(seeds):
            rows += curve(DEFAULT | {factor: CHANGED[factor]}, seed, errors[seed])
    return pd.DataFrame(rows)


def accuracies(slopes: list[float]) -> pd.DataFrame:
    """Genotypes that lose so much accuracy with each edge that differs, a number a seed."""
    return pd.DataFrame(
        {
            **DEFAULT,
            "condition": "exact penalty",
            "seed": seed,
            "lambda": lam,
            "shared": lam,
            "genotype": f"{seed}-{lam}",
            "accuracy": 0.9 + seed / 100 - slope * (4 - lam),
        }
        for seed, slope in enumerate(slopes)
        for lam in range(5)
    )


def test_all_conditions_are_every_combination_once_the_default_first():
    default = ControlConfig.of(preset="paper").default
    every, single = conditions(default, "all"), conditions(default, "one-at-a-time")
    assert len(every) == 32 == len({tuple(one.values()) for one in every})
    assert every[:6] == single and conditions(default, "default") == [default] == every[:1]
    assert all(sum(one[name] != default[name] for name in default) == 1 for one in single[1:])


def test_expensive_presets_do_not_run_all():
    assert ControlConfig.of().conditions == "all" and ControlConfig.of(smoke_test=True).conditions == "one-at-a-time"
    assert ControlConfig.of(preset="darts").conditions == "one-at-a-time"


class TestEffects:
    def test_a_factor_that_harms_or_helps_is_named_with_its_size(self):
        frame = curves({"estimator": [0.5, 0.6, 0.5, 0.6, 0.5], "pivots": [0.1, 0.0, 0.0, 0.3, 0.0]})
        errors = error_frame(frame)
        first, second = effect_sentences(effects(errors, DEFAULT), DEFAULT)
        assert first.startswith("Control error: gumbel penalty is 0.540 edges above exact penalty") and "n = 5" in first
        assert second.startswith("No effect") and "trainable pivots +0.08" in second and "detected" in second
        worse = {**DEFAULT, "estimator": "gumbel"}
        assert "exact penalty is 0.540 edges below gumbel" in effect_sentences(effects(errors, worse), worse)[0]

    def test_a_main_effect_is_averaged_over_the_other_factors(self):
        rows = []
        for seed in range(5):
            for pivots, estimator, off in [
                ("fixed", "exact", 0.0),
                ("trainable", "exact", 0.2),
                ("fixed", "gumbel", 0.5),
                ("trainable", "gumbel", 0.9 + seed / 100),
            ]:
                rows += curve(DEFAULT | {"pivots": pivots, "estimator": estimator}, seed, off)
        errors = error_frame(pd.DataFrame(rows))
        main = effects(errors, DEFAULT)
        assert main["pivots", "trainable"].difference == pytest.approx((0.2 + 0.42) / 2)
        assert main["estimator", "gumbel"].difference == pytest.approx((0.5 + 0.72) / 2)
        assert effect_table(main, DEFAULT)["difference"][1].startswith("+0.31 [")

    def test_searches_of_another_lambda_do_not_pair(self):
        found = effects(error_frame(curves({name: [0.5, 0.6, 0.5, 0.6, 0.5] for name in CHANGED})), DEFAULT)
        assert {name for name, _ in found if not found[name, CHANGED[name]].paired} == {"Lambda"}

    def test_whoever_ignores_lambda(self):
        assert ignorant(4) == pytest.approx(1.2) and ignorant(8) == pytest.approx(20 / 9)

    def test_only_whole_lambdas_are_errors(self):
        frame = curves({})
        frame.loc[frame["lambda"] % 1 != 0, "shared"] = 100
        assert (error_frame(frame)["error"] == 0).all()
        said = control_sentence(frame, error_frame(frame), DEFAULT)
        assert "0.00 edges on average at lambda 0, and 4.00 at lambda 4" in said


class TestSlopes:
    def test_the_claim_is_judged(self):
        slopes = [0.02, 0.03, 0.02, 0.03, 0.025]
        frame = distance_slopes(accuracies(slopes))
        assert frame["slope"].tolist() == pytest.approx([-slope for slope in slopes])
        (only,) = slope_sentences(frame)
        assert "2.5 points below 0" in only

    def test_a_genotype_counts_once_and_equal_distances_have_no_slope(self):
        frame = accuracies([0.02, 0.03])
        twice = distance_slopes(pd.concat([frame, frame.assign(accuracy=0)]))
        assert twice["slope"].tolist() == pytest.approx([-0.02, -0.03])
        none = distance_slopes(frame[frame["shared"] == 4])
        assert none.empty and "cannot explain" in slope_sentences(none)[0]


def test_a_report_has_all_sections_whatever_was_run():
    frame = curves({name: [0.5, 0.6, 0.5, 0.6, 0.5] for name in CHANGED})
    whole = findings(frame, accuracies([0.02] * 5), DEFAULT)
    assert len(whole.sections) == 5 and list(whole.sections[3].table["worst"]) == [0] + [0.6] * 5
    assert len(findings(curves({}, 1), accuracies([0.02]), DEFAULT).sections) == 3
