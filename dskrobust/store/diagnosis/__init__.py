"""What can be noticed of a store's data in one pass over it: scale, identifiers, equal rows, …"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ...errors import StoreError
from ..blobs import Blobs
from ..dataset import SourceAddress, Store, open_store
from ..notes import Note, keep_notes
from ..writing import UNITS_PER_WRITE, StorageOptions
from .classes import ClassCounts, class_counts
from .columns import ColumnState, column_state
from .equal_rows import Parts, gathered, row_records
from .words import Found, is_id_name, notes_of

__all__ = ["diagnose", "is_id_name"]

RANGE_BYTES, RANGE_ROWS = 256 << 20, 1 << 19  # of features, and rows, that one task looks at
SCRATCH = "diagnosis"  # where records of large stores lie meanwhile
LARGE = 1e100  # values beyond have squares whose sums may overflow
FAN_IN = 16  # states that one task merges


def diagnose(
    store: str | Path | Store,
    *,
    storage_options: StorageOptions = None,
    scheduler: str | None = None,
) -> tuple[Note, ...]:
    """Look at a store's data for what spoils distances, and keep the notes in the store.

    One pass over the rows, in tasks of at most 256 MiB on the current client (in threads without
    one). It is part of making a store and of appending to it; `Store.notes` has what it found.

    Parameters
    ----------
    store : str or Store
    storage_options : mapping, optional
        Options for fsspec.
    scheduler : str, optional
        Dask's, where it is not to be the current one.

    Returns
    -------
    tuple of Note
        On columns that decide distances by their scale, columns that number the rows, constant
        columns, equal rows (also with different labels, and in different groups), class sizes,
        rare classes, and whole numbers that may not be classes.

    Raises
    ------
    DamagedStoreError
        Where a chunk is not what was written.
    """
    opened = open_store(store, storage_options)
    address = opened.address
    parts = Parts.of(opened.rows, Blobs(address, f"{SCRATCH}/{uuid.uuid4().hex}"))
    try:
        found = _look(opened, address, parts, scheduler)
    finally:
        if parts.bits:
            parts.blobs.drop()
    notes = notes_of(opened.spec, found)
    with suppress(StoreError, OSError, ValueError):  # of what may only be read, notes are said only
        keep_notes(address, opened.segments, notes)
    return notes


@dataclass(frozen=True)
class _State:
    """What is kept of a range of rows besides the records of its hashes."""

    columns: ColumnState
    classes: ClassCounts | None

    def merge(self, other: _State) -> _State:
        classes = self.classes or other.classes
        if self.classes is not None and other.classes is not None:
            classes = self.classes.merge(other.classes)
        return _State(self.columns.merge(other.columns), classes)


def _look(store: Store, address: SourceAddress, parts: Parts, scheduler: str | None) -> Found:
    """Go through all rows, range by range."""
    largest = store.summary.largest_feature
    unit = LARGE / largest if largest > LARGE else 1.0
    ranges = _ranges(store)
    as_tasks = len(ranges) > 1 or scheduler is None  # threads: it is done here
    steps: tuple[Callable[..., Any], ...] = (_look_at_range, _pick, _merged, parts.meet)
    look, pick, join, meet = map(delayed, steps) if as_tasks else steps
    looked = [look(address, parts, k, rows, unit) for k, rows in enumerate(ranges)]
    left = [pick(one, 1) for one in looked]
    state = _tree([pick(one, 0) for one in looked], join)
    equal = _tree([meet(part, left) for part in range(parts.count)], join)
    if as_tasks:
        state, equal = compute(state, equal, scheduler=scheduler)
    columns, scale = state.columns, np.asarray(store.spec.scale, np.float64)
    return Found(
        columns.rows,
        columns,
        columns.variance * scale**2,
        np.sqrt(columns.variance) / unit * scale,
        state.classes,
        equal,
    )


def _ranges(store: Store) -> list[tuple[int, int]]:
    """Cut all rows into ranges of whole units."""
    row = store.columns * store.row_shape("features")[1].itemsize
    most = max(store.unit_rows, min(RANGE_ROWS, RANGE_BYTES // row))
    ranges: list[tuple[int, int]] = []
    for lo, hi, _ in store.units(0, store.rows):
        if ranges and hi - ranges[-1][0] <= most:
            ranges[-1] = ranges[-1][0], hi
        else:
            ranges.append((lo, hi))
    return ranges


def _tree(values: Sequence[Any], join: Callable[[list[Any]], Any]) -> Any:
    """Merge values in their order, a few at a time."""
    while len(values) > 1:
        values = [join(list(values[k : k + FAN_IN])) for k in range(0, len(values), FAN_IN)]
    return values[0]


def _merged(states: Sequence[Any]) -> Any:
    return reduce(lambda a, b: a.merge(b), states)


def _pick(looked: Sequence[Any], place: int) -> Any:
    return looked[place]


def _look_at_range(
    address: SourceAddress, parts: Parts, number: int, rows: tuple[int, int], unit: float
) -> tuple[_State, NDArray[Any]]:
    """Look at rows lo:hi; return what is kept of them, and what was left for the parts."""
    # not from the cache, which would hide from later tasks that the store was replaced
    store = open_store(address.url, address.storage_options)
    step = store.unit_rows * UNITS_PER_WRITE
    states, records = [], []
    for lo in range(*rows, step):
        hi = min(lo + step, rows[1])
        labels, split = store.read("labels", lo, hi), store.read("split", lo, hi)
        classes = None
        if store.spec.label_kind == "categorical":
            classes = class_counts(labels)
        for a in range(lo, hi, store.unit_rows):
            b = min(a + store.unit_rows, hi)
            some = store.read("features", a, b), labels[a - lo : b - lo], split[a - lo : b - lo]
            states.append(_State(column_state(some[0], unit), None if a > lo else classes))
            records.append(row_records(*some))
    return _merged(states), parts.leave(number, gathered(records))
