"""Two stores, or two runs, side by side: what changed in the data, and what that does to R."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ..credentials import without_credentials
from ..declared_types import checked_arguments
from ..display import Html, caption, card, shown_name, table
from ..label_counts import NAME_BYTES
from ..label_fit import most_labels
from ..memory import tasks_at_once
from ..ranking import sorting_memory
from ..report.headlines import Headline
from ..report.results import FIGURES
from ..show.overview import overview_memory
from ..whole_numbers import check_whole
from .changes import Changes
from .headlines import headlines
from .joined import RECORD, joining_memory
from .page import write_page
from .rows import RowMap, match_rows
from .sides import Given, Side, sides

TOP = 50
NAME = 60  # characters of a name
SHOWN_ROWS = 8  # of a table in a notebook


class Comparison(Changes):
    """What changed between two stores, or between two runs of one.

    Attributes
    ----------
    differences : DataFrame
        Facts of data and run that differ: name, before, after.
    rows : RowMap or None
        Which row is which; None where nothing tells, so that only distributions are compared.
    counts : dict of str to int
        Of rows that both sides have: relabelled, changed, rising and falling (R), and those whose
        witness is another row ("other witness"); and how many rows are "suspicious" and
        "contradictory" before and after, and of these how many were dropped, are no longer, or
        are newly so.
    groups : DataFrame
        R of every group: samples, least and median, before and after, and the median's change.
    apart : dict of str to Apart
        How far the distributions of R before and after are apart, by group.
    classes : DataFrame or None
        Of every class rows, mean R, suspicious and contradictory rows before and after; the
        largest change of R first. None of labels that are no classes.
    relabelled : DataFrame
        Labels before and after of relabelled rows, and how many: before, after, rows.
    dropped : DataFrame
        The least robust rows that only the first side has.
    samples : DataFrame
        The rows whose R changed most: R, label and witness before and after.
    models : DataFrame
        Evaluations of both sides, cell by cell: before, after, change and its 95 % interval.
    before, after : Side
        The two stores and runs.
    found : Found
        What passes over the rows of both found.
    """

    @cached_property
    def headlines(self) -> tuple[Headline, ...]:
        """What changed, in words with numbers, the data first."""
        return tuple(headlines(self))

    def write(
        self, out: str | Path, *, overwrite: bool = False, anonymous: bool = False
    ) -> Path | str:
        """Write all of it as one HTML page that needs no network; return where it is.

        Parameters
        ----------
        out : str or Path
            A path or an fsspec URL.
        overwrite : bool
            Replace a page that is there.
        anonymous : bool
            Leave folders, hosts and users out: of addresses the last part is shown.

        Raises
        ------
        InvalidOptionError
            Where a file is there already, or matplotlib or Jinja is not installed.
        """
        return write_page(self, self.headlines, out, overwrite=overwrite, anonymous=anonymous)

    def _repr_html_(self) -> str:
        title = " and ".join(dict.fromkeys(
            shown_name(side.store.spec.name) for side in (self.before, self.after)
        ))  # fmt: skip
        addresses = [without_credentials(side.store.url) for side in (self.before, self.after)]
        parts: list[Html | str] = [line.words for line in self.headlines]
        for name, made in (("R by group", self.groups.reset_index()),
                           ("Rows whose R changed most", self.samples),
                           ("Models", self.models)):  # fmt: skip
            if len(made):
                parts += [caption(name), _small_table(made)]
        return card(f"Comparison of {title}", " → ".join(dict.fromkeys(addresses)), *parts)

    def __repr__(self) -> str:
        return "\n".join(line.words for line in self.headlines)


def _small_table(made: pd.DataFrame) -> Html:
    names = [" ".join(filter(None, n)) if isinstance(n, tuple) else str(n) for n in made.columns]
    rows = [[cell_text(value) for value in row] for row in made.head(SHOWN_ROWS).to_numpy(object)]
    text = [k for k, kind in enumerate(made.dtypes) if not is_numeric_dtype(kind)]
    return table(names, rows, text)


def cell_text(value: Any) -> str:
    """Return a cell of a table in words."""
    if value is pd.NA or value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return shown_name(value, NAME) if value != "" else ""


@checked_arguments()
def compare(before: Given, after: Given | None = None, *, top: int = TOP) -> Comparison:
    """Compare the robustness of two stores, or of two runs: before and after cleaning, say.

    Nothing is computed but what passes over the stored results tell. Rows are told by what is
    known: data that is equal or was appended to, what `apply_decisions` made of decisions,
    embeddings, ids, or else equal numbers, groups and labels of all rows.

    Parameters
    ----------
    before, after : Scores, Store or str
        Scores of a store say which run is meant. Of stores the newest runs of the same parameters
        are taken, without such the newest of each. Without `after` the two runs of one store.
    top : int
        Rows whose R changed most, and dropped rows, at most.

    Returns
    -------
    Comparison
        Tables, which a notebook shows; `Comparison.write` makes a page.

    Raises
    ------
    InvalidOptionError
        Where the runs are not told apart, are the same one, or the first store was made of the
        second.
    StaleResultsError
        Where a store has no results for its data.
    MemoryPlanError
        Where rows are told by ids that do not fit into this process.

    Examples
    --------
    >>> dr.compare("mnist.zarr", "mnist-cleaned.zarr").write("cleaning.html")  # doctest: +SKIP
    >>> dr.compare(scores, dr.sample_robustness(store, metric="cityblock"))  # doctest: +SKIP
    """
    check_whole("top", top, of="samples")
    one, other = sides(before, after)
    return Comparison.between(one, other, match_rows(one.store, other.store), top)


def comparison_memory(before: Side, after: Side, rows: RowMap | None, tasks: int) -> int:
    """Return how many bytes a comparison and its page hold at most.

    tasks: that run in this process at once; 0 where workers have them.
    """
    here = tasks or tasks_at_once()
    held = FIGURES
    for side in (before, after):
        store, labels = side.store, most_labels(side.store)
        held += overview_memory(store.rows, len(side.results.result.groups), here)
        held += labels * (2 * NAME_BYTES + 8 * RECORD)  # names, and sums block by block
        held += 3 * TOP * 2 * 8 * store.columns  # rows whose features are shown, as read
    if tasks:
        held += sorting_memory(before.store.rows + after.store.rows, tasks)
    if rows is not None:
        held += joining_memory(rows, here)
        held += 0 if rows.source is None else 8 * (rows.after + rows.before)
    return held
