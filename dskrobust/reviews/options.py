"""How a review is held."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Any

from ..declared_types import check_types
from ..errors import InvalidOptionError
from ..whole_numbers import check_whole
from .texts import check_texts

MOST_NAME = 100  # characters of a reviewer's name


@dataclass(frozen=True)
class ReviewOptions:
    """How a review is held.

    Attributes
    ----------
    top : int
        Samples that are shown at most, the worst first.
    threshold : float, optional
        Largest score of an issue, as for `find_label_issues`.
    texts : str, Path or array_like (n,), optional
        What is shown of every row beside its features, such as the text that they were made of:
        in the order of the rows, or a .csv or .parquet file with a row per sample.
    reviewer : str, optional
        Who decides, kept with every decision: the user's login name by default, "" for nobody.
    idle : float
        Seconds without a request after which the review ends.
    port : int
        Where the page is served on this machine; 0 takes a free one.
    """

    top: int = 100
    threshold: float | None = None
    texts: Any = None
    reviewer: str | None = None
    idle: float = 3600.0
    port: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_whole("top", self.top, of="samples")
        if not 0 <= self.port <= 65_535:
            raise InvalidOptionError(f"port must lie between 0 and 65535, but is {self.port!r}")
        if not self.idle > 0:
            raise InvalidOptionError(f"idle must be seconds, more than 0, not {self.idle!r}")
        if self.texts is not None:
            check_texts(self.texts)
        if self.reviewer is not None and len(self.reviewer) > MOST_NAME:
            raise InvalidOptionError(f"a reviewer's name has at most {MOST_NAME} characters")

    @property
    def who(self) -> str:
        """Who decides."""
        if self.reviewer is not None:
            return self.reviewer
        try:
            return getpass.getuser()
        except (OSError, KeyError, ImportError):  # a user without a name, as in some containers
            return ""
