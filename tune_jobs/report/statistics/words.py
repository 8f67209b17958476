"""Comparisons in sentences, which are right whatever the numbers are."""

import math
from collections.abc import Mapping

from tune_jobs.report.statistics.comparison import Comparison
from tune_jobs.report.statistics.intervals import LEVEL, decimals, rounded


def sentence(comparison: Comparison, a: str, b: str, *, points: bool = False, unit: str = "") -> str:
    """What a comparison says of methods named a and b, with interval, n and p, and what it could have seen.

    points: the values are shares, written in percentage points. unit: otherwise, such as "edges".
    """
    scale, unit = (100, " points") if points else (1, f" {unit}" if unit else "")
    half = None if comparison.low is None else (comparison.high - comparison.low) / 2
    places = decimals(half or abs(comparison.difference), points)

    def number(value: float) -> str:
        return rounded(scale * value, places)

    n = _count(comparison)
    where = f"{number(abs(comparison.difference))}{unit} {'above' if comparison.difference > 0 else 'below'} {a}"
    if comparison.conclusion == "equal":
        return f"{b} and {a} are equal ({n})."
    if comparison.conclusion == "too little to tell":
        return f"{b} is {where} ({n}): too little to tell, since by how much that varies is not known."
    p = p_text(comparison)
    if comparison.distinguishable:
        low, high = sorted((comparison.low, comparison.high), key=abs)
        sign = 1 if comparison.difference > 0 else -1
        return f"{b} is {where} (95% interval {number(sign * low)} to {number(sign * high)}, {n}, {p})."
    could = detected(scale * comparison.detectable, places, 100 if points else math.inf)
    return (
        f"{b} is not distinguishable from {a} at this budget: difference {number(comparison.difference)}{unit} "
        f"[{number(comparison.low)}, {number(comparison.high)}], {p}; {n} could have detected {could}."
    )


def undecided(compared: Mapping[str, Comparison], opening: str, *, points: bool = False, unit: str = "") -> list[str]:
    """One sentence of those comparisons that show no difference, and what they could have detected; none, no sentence.

    opening: what the sentence says of them, such as "Not distinguishable from EdgeNES at this budget"; the rest as
    `sentence` takes it.
    """
    same = {name: one for name, one in compared.items() if not one.distinguishable}
    if not same:
        return []
    scale, unit, places = (100, "points", 1) if points else (1, unit, 2)
    halves = [(one.high - one.low) / 2 for one in same.values() if one.low is not None]
    if halves and not points:
        places = max(places, decimals(min(halves), points))
    seen = {name: round(scale * one.difference, places) + 0.0 for name, one in same.items()}  # never -0.0
    listed = ", ".join(f"{name} {difference:+.{places}f}" for name, difference in seen.items())
    effects = sorted(scale * one.detectable for one in same.values() if one.detectable is not None)
    could = "too little to tell what could have been detected"
    if effects:
        searches = sorted({number for one in same.values() for number in one.n})
        n = " to ".join(dict.fromkeys(str(number) for number in (searches[0], searches[-1])))
        least, most = (detected(effect, places, 100 if points else math.inf) for effect in (effects[0], effects[-1]))
        size = least if least == most else f"{least} to {most}, by the comparison"
        could = f"{n} searches could have detected {size}"
    return [f"{opening} (difference{f' in {unit}' if unit else ''}): {listed}; {could}."]


def detected(effect: float, places: int, most: float) -> str:
    """A detectable difference with so many decimals, where none can be larger than `most`."""
    return "none that can be" if effect > most else rounded(effect, places)


def p_text(comparison: Comparison) -> str:
    """Its p, after Holm where it is one of several, and by itself where only that is below 5%."""
    if comparison.p_holm is None:
        return f"p {_p(comparison.p)}"
    alone = comparison.p < 1 - LEVEL and not comparison.distinguishable
    by_itself = f" ({_p(comparison.p).removeprefix('= ')} by itself)" if alone else ""
    return f"p {_p(comparison.p_holm)} after Holm{by_itself}"


def one_test_set(accuracy: float, images: int) -> str:
    """What the intervals of test accuracies leave out: the choice of the test images, at a mean accuracy."""
    error = 100 * math.sqrt(accuracy * (1 - accuracy) / images)
    return (
        f"Intervals and tests are over searches, on one split of the data and one set of {images} test images: so "
        f"many give an accuracy of {100 * accuracy:.1f}% a standard error of {error:.1f} points by themselves, which "
        "more searches do not lessen; differences of methods, which see the same images, have less of it."
    )


def _count(comparison: Comparison) -> str:
    first, second = comparison.n
    if first != second:
        return f"n = {second} and {first} searches"
    return "n = 1" if first == 1 else f"n = {first} {'paired ' if comparison.paired else ''}searches"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
