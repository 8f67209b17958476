"""Choosing an ensemble from cached predictions: the best `size` of the candidates on given images.

A subset is scored by its own criterion: the NLL (least is best) or the accuracy (most is best) of the mean
of its members' probabilities. It works on predictions (candidates, samples, classes) and never on networks.

Ties: with s* the best score of all subsets, every subset within `TIE` (relative above 1) of s* is as good as
the best, and of those the lexicographically smallest tuple of members wins. The tie is with the optimum and
not between neighbours, so it needs no transitivity and does not depend on the order of the enumeration; the
float noise of adding the same predictions in another order, 1e-16, is far below it.

`METHODS` names the methods; `exact` proves what it finds, with the bounds of `nll_bound` and `accuracy_bound`.
"""

from edgenes.selection.branch_and_bound import exact_memory
from edgenes.selection.calibration import CALIBRATIONS, Calibration, calibrate
from edgenes.selection.cross_fit import CrossFit, cross_fitted
from edgenes.selection.methods import METHODS, exact_seconds, register_selection, select_ensemble
from edgenes.selection.problem import CRITERIA, TIE, Selection

__all__ = [
    "CALIBRATIONS",
    "CRITERIA",
    "METHODS",
    "TIE",
    "Calibration",
    "CrossFit",
    "Selection",
    "calibrate",
    "cross_fitted",
    "exact_memory",
    "exact_seconds",
    "register_selection",
    "select_ensemble",
]
