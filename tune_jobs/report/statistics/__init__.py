"""What several independent searches can say: intervals, comparisons, corrections, areas, correlations."""

from tune_jobs.report.statistics.comparison import (
    Comparison,
    against,
    compare,
    corrected,
    holm,
    known_errors,
    permutation_p,
)
from tune_jobs.report.statistics.intervals import (
    AMOUNT,
    SHARE,
    Estimate,
    area,
    bootstrap,
    common_range,
    consistency,
    mean_estimate,
    spearman,
)
from tune_jobs.report.statistics.words import detected, one_test_set, sentence, undecided

__all__ = [
    "AMOUNT",
    "SHARE",
    "Comparison",
    "Estimate",
    "against",
    "area",
    "bootstrap",
    "common_range",
    "compare",
    "consistency",
    "corrected",
    "detected",
    "holm",
    "known_errors",
    "mean_estimate",
    "one_test_set",
    "permutation_p",
    "sentence",
    "spearman",
    "undecided",
]
