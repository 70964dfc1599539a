"""Comparisons: two stores or two runs beside each other, as tables and as one page.

Nothing is computed but passes over stored results; `compare` says which rows are told how.
"""

from .changes import Changes
from .comparison import Comparison, compare, comparison_memory
from .rows import RowMap, match_rows
from .sides import Side, current_runs, run_words, sides

__all__ = [
    "Changes",
    "Comparison",
    "RowMap",
    "Side",
    "compare",
    "comparison_memory",
    "current_runs",
    "match_rows",
    "run_words",
    "sides",
]
