"""The review of a store's most suspicious rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .. import display
from ..declared_types import checked_arguments
from ..metrics import Metric
from ..runs import RunOptions
from ..store import DecisionWriter, Store, open_store
from .cases import CaseReader
from .decisions import decisions
from .labels import LabelNames
from .options import ReviewOptions
from .queue import make_queue
from .server import Server
from .session import Session
from .texts import texts_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Review:
    """A review that is being held: a page on this machine, until it is done or nobody asks.

    Leaving a ``with`` block ends it.

    Attributes
    ----------
    store : Store
    server : Server
    """

    store: Store
    server: Server

    @property
    def address(self) -> str:
        """Of the page, with its secret: whoever has it, on this machine, may decide."""
        return self.server.address

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.server.wait(0)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, or so many seconds; return whether it has."""
        return self.server.wait(seconds)

    def close(self) -> None:
        """End it; decisions are in the store, and a later review goes on."""
        self.server.close("closed")

    def decisions(self) -> pd.DataFrame:
        """Return the decisions on the store's rows so far; see `dskrobust.decisions`."""
        return decisions(self.store)

    def summary(self) -> dict[str, int]:
        """Return how many of the rows that are shown were decided how, by decision."""
        session = self.server.session
        known = session.decided
        made = [str(known[case.row].decision) for case in session.cases if case.row in known]
        counts = {decision: made.count(decision) for decision in dict.fromkeys(made)}
        return {**counts, "open": len(session.cases) - len(made)}

    def __enter__(self) -> Review:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "over" if self.is_over else f"at {self.address}"
        return f"<Review of {len(self.server.session.cases):,} rows, {state}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{count:,}", "") for name, count in self.summary().items()]
        where = "over" if self.is_over else self.address
        return display.card(f"Review of {self.store.spec.name}", where, display.facts(rows))


@checked_arguments()
def review(
    store: Store | str | Path,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    options: ReviewOptions | None = None,
    run: RunOptions | None = None,
) -> Review:
    """Show the most suspicious rows of a store in a local page, where a person decides on each.

    The rows are those of `find_label_issues`, the worst first; searches that the store lacks are
    made and kept. A sample, its witness and its nearest namesake stand side by side; of real
    labels the two nearest samples. Each is kept, relabelled, dropped or left as unsure; decisions
    are in the store at once, with who and when, and a later review goes on. `decisions` reads
    them, `apply_decisions` makes a cleaned store.

    Parameters
    ----------
    store : Store or str
        With categories or real numbers as labels.
    metric : str, Metric or callable
        As for `sample_robustness`.
    options : ReviewOptions, optional
    run : RunOptions, optional
        How to run what is searched; results do not depend on it.

    Returns
    -------
    Review
        Its page is there at once: open ``review.address``, or wait for its end with
        ``review.wait()``.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, OutputError, SourceFileError, StoreError
    """
    opened, options = open_store(store), options or ReviewOptions()
    cases = make_queue(opened, metric, options, run)
    texts = {}
    if options.texts is not None:
        rows = {case.row for case in cases} | {one.row for c in cases for one in c.neighbours}
        texts = texts_of(options.texts, rows, opened.rows)
    names = LabelNames(opened)
    _ = names.known  # found before there is a server, whose thread should wait for nothing
    reader = CaseReader(opened, names, texts)
    session = Session(cases, reader, DecisionWriter(opened, options.who))
    return Review(opened, Server(session, options.port, options.idle))
