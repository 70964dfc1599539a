"""A person's eye on suspicious labels: pairs in a local page, decisions, a cleaned store."""

from .applying import Cleaning, apply_decisions
from .decisions import decisions
from .options import ReviewOptions
from .review import Review, review

__all__ = ["Cleaning", "Review", "ReviewOptions", "apply_decisions", "decisions", "review"]
