"""What several independent searches can say: means with intervals, comparisons, corrections, and their sentences."""

from tune_jobs.report.statistics.comparison import Comparison, compare, corrected, holm, known_errors
from tune_jobs.report.statistics.intervals import AMOUNT, SHARE, Estimate, mean_estimate, mean_text
from tune_jobs.report.statistics.words import one_test_set, sentence, undecided

__all__ = [
    "AMOUNT",
    "SHARE",
    "Comparison",
    "Estimate",
    "compare",
    "corrected",
    "holm",
    "known_errors",
    "mean_estimate",
    "mean_text",
    "one_test_set",
    "sentence",
    "undecided",
]
