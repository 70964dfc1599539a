"""The decisions on a store's rows as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..declared_types import checked_arguments
from ..export import with_ids
from ..store import RELABEL, Decision, Store, open_store, read_decisions
from .labels import LabelNames

if TYPE_CHECKING:
    import pandas as pd


@checked_arguments()
def decisions(store: Store | str | Path, *, history: bool = False) -> pd.DataFrame:
    """Return what reviewers decided of a store's rows.

    Parameters
    ----------
    store : Store or str
    history : bool
        Every decision ever made, in the order of time, with those that were changed or taken back
        ("undo"); without it the one that holds of every row, by row number.

    Returns
    -------
    pandas.DataFrame
        ``row``, ``split`` (its group), ``decision`` ("keep", "relabel", "drop" or "unsure"),
        ``given_label`` and ``new_label`` by name (numbers in their own units), ``who``, ``when``
        (UTC) and ``comment``. Where rows have ids they are the index. Decisions on data that the
        store held before it was replaced are not in it; ``table.attrs["foreign"]`` counts them.

    Raises
    ------
    DamagedStoreError, StoreError
    """
    opened = open_store(store)
    log = read_decisions(opened)
    entries = log.entries if history else tuple(log.newest.values())
    table = with_ids(_table(opened, entries), opened.ids if opened.has_ids else None)
    table.attrs["foreign"] = log.foreign
    return table


def _table(store: Store, entries: Sequence[Decision]) -> pd.DataFrame:
    import pandas as pd

    names = LabelNames(store)
    rows = np.array([entry.row for entry in entries], np.int64)
    known, place = np.unique(rows, return_inverse=True)
    given = np.array(names.of_rows(known), object)[place]
    split = np.array(store.groups, object)[store.split_codes[known]][place]
    new = np.full(len(rows), None, object)
    changed = np.array([entry.decision == RELABEL for entry in entries], bool)
    if changed.any():
        new[changed] = names.names(np.array([e.label for e in entries if e.decision == RELABEL]))
    when = pd.to_datetime([entry.when for entry in entries], utc=True, format="ISO8601")
    return pd.DataFrame(
        {
            "row": rows,
            "split": pd.Series(split, dtype="string"),
            "decision": pd.Series([entry.decision for entry in entries], dtype="string"),
            "given_label": pd.Series(given, dtype="string"),
            "new_label": pd.Series(new, dtype="string"),
            "who": pd.Series([entry.who for entry in entries], dtype="string"),
            "when": pd.Series(when),
            "comment": pd.Series([entry.comment for entry in entries], dtype="string"),
        }
    )
