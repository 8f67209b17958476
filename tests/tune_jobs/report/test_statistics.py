"""What a study says of several searches: against scipy on fixed data, and by simulation at n = 5 to 10."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from edgenes.errors import ConfigError
from tune_jobs.report.statistics import (
    SHARE,
    Estimate,
    against,
    area,
    bootstrap,
    common_range,
    compare,
    consistency,
    corrected,
    holm,
    known_errors,
    mean_estimate,
    one_test_set,
    permutation_p,
    sentence,
    spearman,
    undecided,
)

paired, unpaired = partial(compare, paired=True), partial(compare, paired=False)
REFERENCE = [0.412, 0.431, 0.405, 0.422, 0.418]
BETTER = [0.425, 0.439, 0.421, 0.431, 0.437]
SAME = [0.409, 0.440, 0.401, 0.430, 0.415]


class TestMeanEstimate:
    @pytest.mark.parametrize(
        "n, draw, mean, covered",
        [
            (5, lambda rng, n: rng.normal(2, 3, n), 2, 0.95),
            (7, lambda rng, n: rng.normal(2, 3, n), 2, 0.95),
            (10, lambda rng, n: rng.normal(2, 3, n), 2, 0.95),
            (5, lambda rng, n: rng.uniform(0, 1, n), 0.5, 0.94),
            (5, lambda rng, n: rng.binomial(360, 0.95, n) / 360, 0.95, 0.94),  # accuracies on few images: ties
            (5, lambda rng, n: -rng.gamma(2, 1, n), -2, 0.91),
            (10, lambda rng, n: -rng.gamma(2, 1, n), -2, 0.925),
            (5, lambda rng, n: rng.exponential(1, n), 1, 0.88),
            (10, lambda rng, n: rng.exponential(1, n), 1, 0.905),
        ],
    )
    def test_it_covers_the_mean(self, n, draw, mean, covered):
        rng, held, draws = np.random.default_rng(n), 0, 2000
        for _ in range(draws):
            found = mean_estimate(draw(rng, n), resamplings=500)
            held += found.low is not None and found.low <= mean <= found.high
        assert abs(held / draws - covered) < 0.022  # four standard errors

    def test_a_seed_decides_it(self):
        values = np.random.default_rng(0).normal(size=8)
        assert mean_estimate(values, seed=1) == mean_estimate(values, seed=1) != mean_estimate(values, seed=2)

    def test_it_is_close_to_students_interval_where_values_are_symmetric(self):
        found, reference = mean_estimate(SAME), stats.ttest_1samp(SAME, 0).confidence_interval()
        assert found.value == pytest.approx(np.mean(SAME))
        assert [found.low, found.high] == pytest.approx([reference.low, reference.high], abs=2e-3)

    def test_it_leans_where_values_are_skewed(self):
        found = mean_estimate([0, 0, 0, 0, 1])
        assert found.high - found.value > found.value - found.low

    def test_without_a_spread_there_is_no_interval_and_words_say_so(self):
        assert mean_estimate([0.5]) == Estimate(0.5, None, None, 1)
        assert mean_estimate([0.98, 1.0, 0.9], within=SHARE).high == 1 < mean_estimate([0.98, 1.0, 0.9]).high
        assert mean_estimate([0.5]).told() == "0.500 (n = 1)"
        assert mean_estimate([0.1 + 0.2, 0.3, 0.3]).told(points=True) == "30.0 (no spread, n = 3)"

    def test_decimals_follow_the_interval(self):
        assert Estimate(0.4234, 0.4012, 0.4466, 5).told() == "0.423 [0.401, 0.447]"
        assert Estimate(0.4234, 0.4012, 0.4466, 5).told(points=True) == "42.3 [40.1, 44.7]"
        assert Estimate(0.42341, 0.4231, 0.4237, 5).told(points=True) == "42.34 [42.31, 42.37]"


class TestBootstrap:
    def test_an_interval_of_a_rank_correlation_covers_it(self):
        rng, held, true = np.random.default_rng(0), 0, 6 / math.pi * math.asin(0.6 / 2)
        for _ in range(100):
            pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 30)
            found = bootstrap(spearman, pairs, resamplings=150)
            assert found.value == spearman(pairs) and found.n == 30
            held += found.low <= true <= found.high
        assert 0.86 < held / 100 < 0.99

    def test_several_samples_are_resampled_each(self):
        rng = np.random.default_rng(1)
        a, b = rng.normal(size=40), rng.normal(1, 1, size=60)
        found = bootstrap(lambda x, y: y.mean() - x.mean(), a, b)
        reference = unpaired(a, b)
        assert [found.low, found.high] == pytest.approx([reference.low, reference.high], abs=0.06)
        assert found.n == 40

    def test_what_never_varies_has_no_interval(self):
        assert bootstrap(spearman, [[1, 2], [2, 3], [3, 4]]) == Estimate(1.0, None, None, 3)
        assert bootstrap(spearman, [[1, 2], [2, 2]]).low is None


class TestCorrelations:
    def test_spearman_is_that_of_scipy_with_ties(self):
        pairs = np.random.default_rng(0).integers(0, 6, (40, 2)).astype(float)
        assert spearman(pairs) == pytest.approx(stats.spearmanr(*pairs.T).statistic)
        assert math.isnan(spearman([[1, 2], [1, 3]]))

    def test_consistency_is_the_share_of_signal(self):
        rng = np.random.default_rng(0)
        signal, noise = rng.normal(0, 2, (20_000, 1)), rng.normal(0, 1, (20_000, 2))
        assert consistency(signal + noise + [0, 5]) == pytest.approx(0.8, abs=0.01)
        assert consistency(noise) == pytest.approx(0, abs=0.03)
        assert math.isnan(consistency([[1, 2], [1, 2]]))


class TestArea:
    def test_a_broken_line_by_hand(self):
        assert area([0, 1, 3], [0, 2, 2], 0, 3) == pytest.approx(5 / 3)
        assert area([0, 1, 3], [0, 2, 2], 0.5, 2) == pytest.approx((0.75 + 2) / 1.5)
        assert area([10, 20], [7, 7], 12, 13) == pytest.approx(7)

    def test_the_range_that_all_curves_cover(self):
        assert common_range([[0, 5, 9], [1, 12], [0.5, 2, 8]]) == (1, 8)

    @pytest.mark.parametrize(
        "call, why",
        [
            (lambda: common_range([[0, 1], [2, 3]]), "no range of x in common"),
            (lambda: common_range([]), "at least one curve"),
            (lambda: area([0, 1], [1, 2], 0, 2), "common_range gives one"),
            (lambda: area([0, 1, 2], [1, 2], 0, 1), "as many x as y"),
            (lambda: area([0, 0], [1, 2], 0, 1), "its x increase"),
            (lambda: area([0, 1], [1, math.nan], 0, 1), "y holds nan at position 1"),
        ],
    )
    def test_what_is_no_curve(self, call, why):
        with pytest.raises(ConfigError, match=why):
            call()


class TestCompare:
    def test_pairs_are_tested_as_by_scipy(self):
        found, reference = paired(REFERENCE, SAME), stats.ttest_rel(SAME, REFERENCE)
        interval = reference.confidence_interval(0.95)
        assert found.p == pytest.approx(reference.pvalue)
        assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
        assert found.difference == pytest.approx(np.mean(SAME) - np.mean(REFERENCE))
        assert (found.n, found.freedom, found.conclusion) == ((5, 5), 4, "not distinguishable")

    def test_groups_are_tested_as_by_scipy(self):
        rng = np.random.default_rng(1)
        a, b = rng.normal(size=5), rng.normal(0.4, 2, size=8)
        found, reference = unpaired(a, b), stats.ttest_ind(b, a, equal_var=False)
        interval = reference.confidence_interval(0.95)
        assert (found.p, found.freedom) == (pytest.approx(reference.pvalue), pytest.approx(reference.df))
        assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
        assert found.n == (5, 8)

    def test_measurements_with_errors(self):
        found, reach = known_errors(0.5, 0.03, 0.6, 0.04), stats.norm.ppf(0.975) * 0.05
        assert found.standard_error == pytest.approx(0.05)
        assert (found.low, found.high) == (pytest.approx(0.1 - reach), pytest.approx(0.1 + reach))
        assert found.p == pytest.approx(2 * stats.norm.sf(2))
        assert found.detectable == pytest.approx(0.05 * (1.959964 + 0.841621), rel=1e-5)

    def test_the_direction_is_said(self):
        assert paired(REFERENCE, BETTER).conclusion == "B higher"
        assert paired(BETTER, REFERENCE).conclusion == "B lower"

    @pytest.mark.parametrize(
        "difference, a, b, conclusion",
        [
            (paired, [0.5], [0.75], "too little to tell"),
            (paired, [0.5, 0.25], [0.75, 0.5], "too little to tell"),
            (paired, [0.1 + 0.2, 0.25], [0.3, 0.25], "equal"),
            (unpaired, [0.5], [0.75, 0.8], "too little to tell"),
            (unpaired, [0.5, 0.5], [0.75, 0.75], "too little to tell"),
            (unpaired, [0.5, 0.5], [0.5, 0.5], "equal"),
        ],
    )
    def test_without_a_spread_nothing_is_claimed(self, difference, a, b, conclusion):
        found = difference(a, b)
        assert (found.conclusion, found.low, found.standard_error) == (conclusion, None, None)
        assert (found.p, found.detectable, found.distinguishable) == (None, None, False)

    @pytest.mark.parametrize(
        "difference, shape",
        [(paired, 5), (paired, 10), (unpaired, 5), (unpaired, 10)],
    )
    @pytest.mark.parametrize("spread", [1, 4])
    def test_the_level_holds_and_the_interval_covers(self, difference, shape, spread):
        rng, false, held, draws = np.random.default_rng(2), 0, 0, 1000
        for _ in range(draws):
            a, b = rng.normal(0, 1, shape), rng.normal(0, spread, shape)
            false += difference(a, b).distinguishable
            shifted = difference(a, b + 3)
            held += shifted.low <= 3 <= shifted.high
        assert 0.025 < false / draws < 0.075
        assert 0.925 < held / draws < 0.975

    @pytest.mark.parametrize("difference", [paired, unpaired])
    def test_the_detectable_difference_is_detected_in_four_of_five(self, difference):
        rng, draws, seen = np.random.default_rng(3), 1000, 0
        unit = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2.5)  # standard deviation 1
        size = difference(0 * unit if difference is paired else unit, unit).detectable
        for _ in range(draws):
            a = np.zeros(5) if difference is paired else rng.normal(size=5)
            seen += difference(a, rng.normal(size, 1, 5)).distinguishable
        assert abs(seen / draws - 0.8) < 0.045

    @pytest.mark.parametrize(
        "call, why",
        [
            (lambda: paired([], []), "sample A is empty"),
            (lambda: unpaired([1, 2], []), "sample B is empty"),
            (lambda: unpaired([1, math.nan], [1, 2]), "sample A holds nan at position 1"),
            (lambda: unpaired([1, 2], [math.inf, 2]), "sample B holds inf at position 0"),
            (lambda: paired([1, 2, 3], [1, 2]), "got 3 and 2 values. Keep the seeds that both have"),
            (lambda: unpaired([[1, 2]], [1, 2]), "one a search; got an array of shape"),
            (lambda: unpaired(["many"], [1, 2]), "sample A holds numbers; got"),
            (lambda: mean_estimate([]), "is empty"),
            (lambda: bootstrap(spearman, [[1, math.nan]]), "holds nan at position 0, 1"),
            (lambda: holm([0.1, 1.5]), "a p-value lies in 0..1"),
        ],
    )
    def test_what_is_no_sample(self, call, why):
        with pytest.raises(ConfigError, match=why):
            call()


class TestFamilies:
    def test_holm_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.7]) == [1, 1]
        assert holm([0.02]) == [0.02]

    def test_each_is_compared_with_the_reference_and_corrected(self):
        others = {"better": BETTER, "same": SAME, "equal": REFERENCE}
        found = against(REFERENCE, others, paired=True)
        assert list(found) == list(others)
        raw = [stats.ttest_rel(values, REFERENCE).pvalue for values in (BETTER, SAME)]
        assert [found[name].p for name in ("better", "same")] == pytest.approx(raw)
        assert [found[name].p_holm for name in ("better", "same")] == pytest.approx([2 * raw[0], raw[1]])
        assert (found["equal"].p_holm, found["equal"].conclusion) == (None, "equal")
        assert [one.comparisons for one in found.values()] == [2, 2, 1]
        assert found["same"].detectable > paired(REFERENCE, SAME).detectable
        assert corrected({"equal": found["equal"]}) == {"equal": found["equal"]}

    @pytest.mark.parametrize("in_pairs", [True, False])
    def test_false_claims_in_a_family_are_as_rare_as_in_one(self, in_pairs):
        rng, draws, plain, after = np.random.default_rng(4), 600, 0, 0
        for _ in range(draws):
            reference, *others = rng.normal(size=(5, 5))
            found = against(reference, dict(zip("abcd", others, strict=True)), paired=in_pairs)
            plain += any(one.p < 0.05 for one in found.values())
            after += any(one.distinguishable for one in found.values())
        assert plain / draws > 0.09
        assert 0.005 < after / draws < 0.07


class TestPermutation:
    @pytest.mark.parametrize("kind, in_pairs", [("samples", True), ("independent", False)])
    def test_it_counts_what_scipy_counts(self, kind, in_pairs):
        rng = np.random.default_rng(5)
        for n in (5, 7):
            a, b = rng.normal(size=n), rng.normal(1, 1, size=n)
            reference = stats.permutation_test(
                (b - a,) if in_pairs else (b, a),
                (lambda d: d.mean()) if in_pairs else (lambda x, y: x.mean() - y.mean()),
                permutation_type=kind,
                n_resamples=np.inf,
            )
            assert permutation_p(a, b, paired=in_pairs) == pytest.approx(reference.pvalue)

    def test_five_pairs_cannot_show_anything(self):
        assert permutation_p([0] * 5, [1, 2, 3, 4, 5], paired=True) == 0.0625
        assert permutation_p([0] * 6, [1, 2, 3, 4, 5, 6], paired=True) == 0.03125

    @pytest.mark.parametrize("in_pairs", [True, False])
    def test_many_are_drawn_at_random(self, in_pairs):
        rng = np.random.default_rng(6)
        a, b = rng.normal(size=20), rng.normal(0.5, 1, size=20)
        found = permutation_p(a, b, paired=in_pairs)
        assert found == permutation_p(a, b, paired=in_pairs) != permutation_p(a, b, paired=in_pairs, seed=1)
        assert found == pytest.approx(compare(a, b, paired=in_pairs).p, abs=0.02)


class TestSentence:
    def test_above(self):
        said = sentence(paired(REFERENCE, BETTER), "Random-NES", "EdgeNES", points=True)
        low, high = (100 * x for x in stats.ttest_rel(BETTER, REFERENCE).confidence_interval())
        assert said == (
            f"EdgeNES is 1.3 points above Random-NES "
            f"(95% interval {low:.1f} to {high:.1f}, n = 5 paired searches, p = 0.0033)."
        )

    def test_below_and_a_unit(self):
        said = sentence(unpaired([3.1, 3.2, 3.0], [1.0, 1.2, 1.1, 1.3]), "c 0.1", "c 1", unit="edges", what="seeds")
        assert said.startswith("c 1 is 1.950 edges below c 0.1 (95% interval 1.7")
        assert said.endswith(", n = 4 and 3 seeds, p < 0.001).")

    def test_not_distinguishable_says_what_could_have_been_seen(self):
        found = paired(REFERENCE, SAME)
        said = sentence(found, "Random-NES", "EdgeNES", points=True)
        assert said == (
            f"EdgeNES is not distinguishable from Random-NES at this budget: difference 0.1 points "
            f"[{100 * found.low:.1f}, {100 * found.high:.1f}], p = {found.p:.2g}; "
            f"n = 5 paired searches could have detected {100 * found.detectable:.1f}."
        )

    def test_two_searches_could_have_detected_nothing_that_shares_can_have(self):
        few = paired([0.5, 0.7], [0.6, 0.65])
        assert few.detectable > 1
        assert sentence(few, "r", "b", points=True).endswith(
            "n = 2 paired searches could have detected none that can be."
        )
        (said,) = undecided({"b": few}, TestUndecided.OPENING, points=True)
        assert said.endswith("2 searches could have detected none that can be.")

    def test_after_holm(self):
        family = against(REFERENCE, {"b": BETTER, "s": SAME}, paired=True)
        assert "p = 0.0066 after Holm)" in sentence(family["b"], "r", "b")
        rng = np.random.default_rng(0)
        crowd = {"b": np.add(REFERENCE, [0.001, 0.01, 0.004, 0.008, 0.002])}
        crowd |= {str(k): np.add(REFERENCE, rng.normal(0, 0.01, 5)) for k in range(9)}
        found = against(REFERENCE, crowd, paired=True)["b"]
        assert found.p < 0.05 < found.p_holm
        said = sentence(found, "r", "b", points=True)
        assert (
            said.startswith("b is not distinguishable from r") and "after Holm (0.0" in said and " by itself);" in said
        )

    def test_too_little_and_equal(self):
        assert sentence(paired([0.5], [0.6]), "r", "b", points=True) == (
            "b is 10.0 points above r (n = 1): too little to tell, since by how much that varies is not known."
        )
        assert sentence(paired(SAME, SAME), "r", "b") == "b and r are equal (n = 5 paired searches)."

    def test_zero_has_no_sign(self):
        said = sentence(paired([0.5, 0.6, 0.55], [0.5, 0.59999, 0.55]), "r", "b", points=True)
        assert "-0.0 " not in said and "-0.0]" not in said


class TestUndecided:
    OPENING = "Not distinguishable from r"

    def test_those_that_differ_are_left_out(self):
        family = against(REFERENCE, {"better": BETTER, "same": SAME, "equal": REFERENCE}, paired=True)
        could = 100 * family["same"].detectable
        assert undecided(family, self.OPENING, points=True) == [
            f"{self.OPENING} (difference in points): same +0.1, equal +0.0; 5 searches could have detected {could:.1f}."
        ]
        assert undecided({"better": family["better"]}, self.OPENING) == []
        assert undecided({}, self.OPENING) == []

    def test_several_could_show_different_sizes_and_have_other_numbers(self):
        family = {"a": paired([1, 2, 3], [1.1, 1.9, 3.2]), "b": unpaired([1, 2], [2, 1, 3])}
        sizes = [one.detectable for one in family.values()]
        (said,) = undecided(family, self.OPENING, unit="edges", what="seeds")
        assert said.startswith(f"{self.OPENING} (difference in edges): a +0.07, b +0.50; 2 to 3 seeds could")
        assert said.endswith(f" detected {min(sizes):.2f} to {max(sizes):.2f}, by the comparison.")

    def test_what_has_no_spread_could_have_shown_nothing(self):
        (said,) = undecided({"a": paired([0.5], [0.4999])}, self.OPENING, points=True)
        assert said.endswith("(difference in points): a +0.0; too little to tell what could have been detected.")


def test_one_test_set_has_the_binomials_error():
    said = one_test_set(0.9, 400)
    assert "400 test images" in said and "accuracy of 90.0% a standard error of 1.5 points" in said
