"""What the studies measure, as frames, tables and sentences."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from tune_jobs.report.statistics import Comparison, compare, corrected, sentence, undecided

Name = TypeVar("Name", bound=Hashable)


def slope_frame(frame: pd.DataFrame, by: Sequence[str], x: str, y: str) -> pd.DataFrame:
    """One row a group of `by`: the least-squares slope of y over x; groups with a single x are left out."""
    rows = [
        (*key, float(np.polyfit(group[x], group[y], 1)[0]))
        for key, group in frame.groupby(list(by), sort=False)
        if group[x].nunique() > 1
    ]
    return pd.DataFrame(rows, columns=[*by, "slope"])


def against_zero(samples: Mapping[Name, pd.Series]) -> dict[Name, Comparison]:
    """Each sample, one value a search, compared with 0, corrected together; samples without a value are left out."""
    known = {name: values for name, values in samples.items() if len(values)}
    return corrected({name: compare(np.zeros(len(values)), values, paired=True) for name, values in known.items()})


def verdicts(
    compared: Mapping[str, Comparison], reference: str, opening: str = "", *, points: bool = True
) -> list[str]:
    """A sentence for each value that differs from the reference's, then one for all that cannot be told apart.

    With `points` the values are shares.
    """
    said = [
        opening + sentence(one, reference, name, points=points) for name, one in compared.items() if one.distinguishable
    ]
    return said + undecided(compared, f"{opening}Not distinguishable from {reference} at this budget", points=points)


def comparison_table(
    compared: Mapping[str, Comparison], title: str, *, points: bool = False, places: int = 2
) -> pd.DataFrame:
    """A row a comparison, named in the column `title`: difference, p after Holm, detectable difference, searches."""
    scale, rows = 100 if points else 1, []
    for name, one in compared.items():
        interval = "" if one.low is None else f" [{scale * one.low:.{places}f}, {scale * one.high:.{places}f}]"
        p = "" if one.p_holm is None else f"{one.p_holm:.2g}"
        detectable = "" if one.detectable is None else f"{scale * one.detectable:.{places}f}"
        rows.append((name, f"{scale * one.difference:+.{places}f}{interval}", p, detectable, one.n[1]))
    return pd.DataFrame(rows, columns=[title, "difference", "p (Holm)", "detectable", "searches"])
