"""What several independent searches can say: intervals, comparisons, corrections, areas, correlations."""

from edgenes.statistics.comparison import (
    Comparison,
    against,
    compare,
    corrected,
    holm,
    known_errors,
    permutation_p,
    sentence,
)
from edgenes.statistics.estimate import (
    Estimate,
    area,
    bootstrap,
    common_range,
    consistency,
    mean_estimate,
    spearman,
)

__all__ = [
    "Comparison",
    "Estimate",
    "against",
    "area",
    "bootstrap",
    "common_range",
    "compare",
    "consistency",
    "corrected",
    "holm",
    "known_errors",
    "mean_estimate",
    "permutation_p",
    "sentence",
    "spearman",
]
