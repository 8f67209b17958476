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
    compare,
    corrected,
    holm,
    known_errors,
    mean_estimate,
    mean_text,
    one_test_set,
    sentence,
    undecided,
)

paired, unpaired = partial(compare, paired=True), partial(compare, paired=False)
REFERENCE = [0.412, 0.431, 0.405, 0.422, 0.418]
BETTER = [0.425, 0.439, 0.421, 0.431, 0.437]
SAME = [0.409, 0.440, 0.401, 0.430, 0.415]


def family(reference, others):
    """Each of `others` less the reference, corrected together."""
    return corrected({name: compare(reference, values, paired=True) for name, values in others.items()})


class TestMeanEstimate:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "n, draw, mean, covered",
        [
            (5, lambda rng, n: rng.normal(2, 3, n), 2, 0.95),
            (5, lambda rng, n: rng.binomial(360, 0.95, n) / 360, 0.95, 0.94),  # accuracies on few images: ties
            (5, lambda rng, n: -rng.gamma(2, 1, n), -2, 0.91),
            (10, lambda rng, n: rng.exponential(1, n), 1, 0.905),
        ],
    )
    def test_it_covers_the_mean(self, n, draw, mean, covered):
        rng, held, draws = np.random.default_rng(n), 0, 1000
        for _ in range(draws):
            found = mean_estimate(draw(rng, n), resamplings=500)
            held += found.low is not None and found.low <= mean <= found.high
        assert abs(held / draws - covered) < 0.031  # four standard errors

    def test_it_is_close_to_students_interval_where_values_are_symmetric(self):
        found, reference = mean_estimate(SAME), stats.ttest_1samp(SAME, 0).confidence_interval()
        assert found.value == pytest.approx(np.mean(SAME))
        assert [found.low, found.high] == pytest.approx([reference.low, reference.high], abs=2e-3)

    def test_without_a_spread_there_is_no_interval_and_words_say_so(self):
        assert mean_estimate([0.5]) == Estimate(0.5, None, None, 1)
        assert mean_estimate([0.98, 1.0, 0.9], within=SHARE).high == 1 < mean_estimate([0.98, 1.0, 0.9]).high
        assert mean_estimate([0.5]).text() == "0.500 (n = 1)"
        assert mean_estimate([0.1 + 0.2, 0.3, 0.3]).text(points=True) == "30.0 (no spread, n = 3)"

        assert mean_text([0.25, math.nan], none="unknown") == "0.250 (n = 1)"
        assert mean_text([math.nan], none="unknown") == "unknown"

    def test_decimals_follow_the_interval(self):
        assert Estimate(0.4234, 0.4012, 0.4466, 5).text() == "0.423 [0.401, 0.447]"
        assert Estimate(0.4234, 0.4012, 0.4466, 5).text(points=True) == "42.3 [40.1, 44.7]"
        assert Estimate(0.42341, 0.4231, 0.4237, 5).text(points=True) == "42.34 [42.31, 42.37]"


class TestCompare:
    @pytest.mark.parametrize(
        "difference, other, test",
        [
            (paired, SAME, stats.ttest_rel),
            (unpaired, [*SAME, 0.39, 0.52, 0.45], partial(stats.ttest_ind, equal_var=False)),
        ],
    )
    def test_samples_are_tested_as_by_scipy(self, difference, other, test):
        found, reference = difference(REFERENCE, other), test(other, REFERENCE)
        interval = reference.confidence_interval(0.95)
        expected = (reference.pvalue, reference.df, interval.low, interval.high, np.mean(other) - np.mean(REFERENCE))
        assert (found.p, found.freedom, found.low, found.high, found.difference) == pytest.approx(expected)
        assert (found.n, found.conclusion) == ((5, len(other)), "not distinguishable")

    def test_measurements_with_errors(self):
        found, reach = known_errors(0.5, 0.03, 0.6, 0.04), stats.norm.ppf(0.975) * 0.05
        assert found.standard_error == pytest.approx(0.05)
        assert (found.low, found.high) == (pytest.approx(0.1 - reach), pytest.approx(0.1 + reach))
        assert found.p == pytest.approx(2 * stats.norm.sf(2))
        assert found.detectable == pytest.approx(0.05 * (1.959964 + 0.841621), rel=1e-5)

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

    @pytest.mark.slow
    @pytest.mark.parametrize("difference", [paired, unpaired])
    def test_the_detectable_difference_is_detected_in_four_of_five(self, difference):
        rng, draws, seen = np.random.default_rng(3), 600, 0
        unit = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2.5)  # standard deviation 1
        size = difference(0 * unit if difference is paired else unit, unit).detectable
        for _ in range(draws):
            a = np.zeros(5) if difference is paired else rng.normal(size=5)
            seen += difference(a, rng.normal(size, 1, 5)).distinguishable
        assert abs(seen / draws - 0.8) < 0.06

    @pytest.mark.parametrize(
        "call, why",
        [
            (lambda: unpaired([1, 2], []), "sample B"),
            (lambda: unpaired([1, math.nan], [1, 2]), "sample A"),
            (lambda: paired([1, 2, 3], [1, 2]), "3 and 2 values"),
            (lambda: mean_estimate([]), "finite numbers"),
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
        found = family(REFERENCE, others)
        assert list(found) == list(others)
        raw = [stats.ttest_rel(values, REFERENCE).pvalue for values in (BETTER, SAME)]
        assert [found[name].p for name in ("better", "same")] == pytest.approx(raw)
        assert [found[name].p_holm for name in ("better", "same")] == pytest.approx([2 * raw[0], raw[1]])
        assert (found["equal"].p_holm, found["equal"].conclusion) == (None, "equal")
        assert [one.comparisons for one in found.values()] == [2, 2, 1]
        assert found["same"].detectable > paired(REFERENCE, SAME).detectable
        assert corrected({"equal": found["equal"]}) == {"equal": found["equal"]}


class TestSentence:
    def test_above(self):
        said = sentence(paired(REFERENCE, BETTER), "Random-NES", "EdgeNES", points=True)
        low, high = (100 * x for x in stats.ttest_rel(BETTER, REFERENCE).confidence_interval())
        assert said == (
            f"EdgeNES is 1.3 points above Random-NES "
            f"(95% interval {low:.1f} to {high:.1f}, n = 5 paired searches, p = 0.0033)."
        )

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
        found = family(REFERENCE, {"b": BETTER, "s": SAME})
        assert "p = 0.0066 after Holm)" in sentence(found["b"], "r", "b")
        rng = np.random.default_rng(0)
        crowd = {"b": np.add(REFERENCE, [0.001, 0.01, 0.004, 0.008, 0.002])}
        crowd |= {str(k): np.add(REFERENCE, rng.normal(0, 0.01, 5)) for k in range(9)}
        found = family(REFERENCE, crowd)["b"]
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


class TestUndecided:
    OPENING = "Not distinguishable from r"

    def test_those_that_differ_are_left_out(self):
        found = family(REFERENCE, {"better": BETTER, "same": SAME, "equal": REFERENCE})
        could = 100 * found["same"].detectable
        assert undecided(found, self.OPENING, points=True) == [
            f"{self.OPENING} (difference in points): same +0.1, equal +0.0; 5 searches could have detected {could:.1f}."
        ]
        assert undecided({"better": found["better"]}, self.OPENING) == []
        assert undecided({}, self.OPENING) == []


def test_one_test_set_has_the_binomials_error():
    said = one_test_set(0.9, 400)
    assert "400 test images" in said and "accuracy of 90.0% a standard error of 1.5 points" in said
