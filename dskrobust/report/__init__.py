"""Reports: tidy tables of a store's results, the paper's figures, one self-contained HTML page.

Nothing is computed here but for Figure 13, which scores one's own samples.
"""

from .catalogue import Entry, catalogue
from .drawing import Wishes, draw
from .own import score_own
from .page import ReportOptions, write_report
from .results import StoredResults
from .trials import ModelTrials, StoredEvaluation, stored_evaluations

__all__ = [
    "Entry",
    "ModelTrials",
    "ReportOptions",
    "StoredResults",
    "StoredEvaluation",
    "Wishes",
    "catalogue",
    "draw",
    "score_own",
    "stored_evaluations",
    "write_report",
]
