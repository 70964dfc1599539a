"""Reductions: what the pairs of a row come to, one module each (`base` says how)."""

from .base import NOBODY, Reduction, State, Twins, beside, copy_of, part_of
from .both_labels import BothLabels, BothLabelsState
from .count_within import CountState, CountWithin
from .k_nearest import KNearest, NearestState
from .largest_quotient import LargestQuotient, QuotientState

__all__ = [
    "NOBODY",
    "BothLabels",
    "BothLabelsState",
    "CountState",
    "CountWithin",
    "KNearest",
    "LargestQuotient",
    "NearestState",
    "QuotientState",
    "Reduction",
    "State",
    "Twins",
    "beside",
    "copy_of",
    "part_of",
]
