"""What can be noticed of a store's data in one pass over it: scale, identifiers, equal rows, …

What the pass found is kept (`..looked`), so that one over appended rows has the notes of all.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ...errors import DamagedStoreError, StoreError
from ..dataset import SourceAddress, Store, open_anew, open_store
from ..looked import Looked, Run, keep_looked, read_looked
from ..notes import Note, keep_notes
from ..writing import UNITS_PER_WRITE, StorageOptions
from .classes import ClassCounts, class_counts
from .columns import ColumnState, column_state
from .equal_rows import EqualRows, Left, Meeting, gathered, row_records
from .words import Found, is_id_name, notes_of

__all__ = ["diagnose", "diagnose_more", "is_id_name"]

RANGE_BYTES, RANGE_ROWS = 256 << 20, 1 << 19  # of features, and rows, that one task looks at
LARGE = 1e100  # values beyond have squares whose sums may overflow
FAN_IN = 16  # states that one task merges
KEPT_BYTES = 20  # of a row's record in the store, about
KEPT_SHARE, KEPT_AT_LEAST = 0.1, 16 << 20  # of the features' bytes, or so many bytes
SHORT = 12  # characters of a digest in the names of runs
VERSION = "1"  # of what is kept


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
        rare classes, whole numbers that may not be classes, and names of classes or groups that
        differ only in case or blanks.

    Raises
    ------
    DamagedStoreError
        Where a chunk is not what was written.
    """
    return _noted(open_store(store, storage_options), None, scheduler)


def diagnose_more(store: Store, *, scheduler: str | None = None) -> tuple[Note, ...]:
    """Look at those rows of a store that no look has seen; return the notes of `diagnose`."""
    known = None
    with suppress(StoreError, OSError, ValueError, LookupError):  # then it is made again
        known = _known(store)
    if known is not None:
        with suppress(DamagedStoreError):
            return _noted(store, known, scheduler)
    return _noted(store, None, scheduler)


def _noted(store: Store, known: _Known | None, scheduler: str | None) -> tuple[Note, ...]:
    """Look at the rows behind what is known, write down what is found, and say it."""
    meeting = Meeting.of(store.rows, store.address, kept=_keeps(store))
    look = _Look(store, meeting, _unit(store))
    found = look.look(known, scheduler)
    runs = [left.run for left in found.left]
    if not meeting.kept:
        meeting.drop(run for run in runs if run is not None)
    notes = notes_of(store.spec, _found(store, look.unit, found))
    with suppress(StoreError, OSError, ValueError):  # of what may only be read, notes are said only
        keep_notes(store.address, store.segments, notes)
        if meeting.kept and None not in runs:
            _keep(store, look.unit, found)
    return notes


def _keeps(store: Store) -> bool:
    """Whether records of rows stay: those of few columns would take more room than they spare."""
    row = store.columns * store.row_shape("features")[1].itemsize
    kept = KEPT_BYTES * store.rows
    return not store.state.links and kept <= max(KEPT_SHARE * row * store.rows, KEPT_AT_LEAST)


def _unit(store: Store) -> float:
    """Return what values are multiplied by, so that their squares are finite."""
    largest = store.summary.largest_feature
    return LARGE / largest if largest > LARGE else 1.0


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

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything by name."""
        named = {f"columns.{name}": value for name, value in vars(self.columns).items()}
        if self.classes is not None:
            named |= {f"classes.{name}": value for name, value in vars(self.classes).items()}
        return {name: np.asarray(value) for name, value in named.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> _State:
        """Return the state of what `arrays` gave."""
        columns, classes = _fields(arrays, "columns."), _fields(arrays, "classes.")
        columns["rows"] = int(columns["rows"])
        if classes:
            classes["too_many"] = bool(classes["too_many"])
        return cls(ColumnState(**columns), ClassCounts(**classes) if classes else None)


def _fields(arrays: Mapping[str, NDArray[Any]], of: str) -> dict[str, Any]:
    return {name.removeprefix(of): a for name, a in arrays.items() if name.startswith(of)}


class _Range(NamedTuple):
    """Rows lo:hi, and what the run of their records is called."""

    run: str
    lo: int
    hi: int


class _Known(NamedTuple):
    """What is known of the first rows of a store."""

    segments: int
    state: _State
    equal: EqualRows
    runs: tuple[Run, ...]


class _Seen(NamedTuple):
    """What is known of all rows once the last ones were looked at, and what these left."""

    state: _State
    equal: EqualRows
    before: tuple[Run, ...]
    left: list[Left]


def _known(store: Store) -> _Known | None:
    """Return what earlier looks have kept of a store's first segments, None where that is nothing.

    Sums of values in another unit, or of labels of another kind, are of no use.
    """
    looked = read_looked(store.address, store.segments)
    if looked is None or looked.arrays["facts"].tolist() != _facts(store, _unit(store)):
        return None
    rows, repeats, contradictory = looked.arrays["equal"].tolist()
    shared = {(a, b): count for a, b, count in looked.arrays["shared"].tolist()}
    equal = EqualRows(rows, repeats, contradictory, shared)
    return _Known(len(looked.segments), _State.of(looked.arrays), equal, looked.runs)


def _keep(store: Store, unit: float, seen: _Seen) -> None:
    """Keep what is known of a store for the next look."""
    shared = [[a, b, rows] for (a, b), rows in seen.equal.shared.items()]
    arrays = {
        "facts": np.array(_facts(store, unit)),
        "equal": np.array([seen.equal.rows, seen.equal.repeats, seen.equal.contradictory]),
        "shared": np.array(shared, np.int64).reshape(-1, 3),
        **seen.state.arrays(),
    }
    runs = (*seen.before, *(left.run for left in seen.left if left.run is not None))
    keep_looked(store.address, Looked(tuple(d for _, d in store.segments), runs, arrays))


def _facts(store: Store, unit: float) -> list[str]:
    """Return what kept sums depend on besides the rows."""
    return [VERSION, store.spec.label_kind, repr(unit)]


def _found(store: Store, unit: float, seen: _Seen) -> Found:
    """Return what notes are made of, in the store's scale."""
    columns, scale = seen.state.columns, np.asarray(store.spec.scale, np.float64)
    return Found(
        columns.rows,
        columns,
        columns.variance * scale**2,
        np.sqrt(columns.variance) / unit * scale,
        seen.state.classes,
        seen.equal,
    )


@dataclass(frozen=True)
class _Look:
    """A look at rows of a store: how they meet, and in which unit they are summed up."""

    store: Store
    meeting: Meeting
    unit: float

    def look(self, known: _Known | None, scheduler: str | None) -> _Seen:
        """Go through the rows behind what is known, range by range.

        States of segments are merged one by one, so that it is the same, to the last bit, which
        of them were looked at before.
        """
        segments = self._ranges()[known.segments if known else 0 :]
        ranges = [one for some in segments for one in some]
        as_tasks = len(ranges) > 1 or scheduler is None  # threads: it is done here
        steps: tuple[Callable[..., Any], ...] = _look_at_range, _pick, _merged, self.meeting.meet
        look, pick, join, meet = map(delayed, steps) if as_tasks else steps
        before = known.runs if known else ()
        shared = delayed(before, traverse=False) if as_tasks else before
        looked = {one: look(self.store.address, self.meeting, one, self.unit) for one in ranges}
        states = [_tree([pick(looked[one], 0) for one in some], join) for some in segments]
        state = _in_order(([known.state] if known else []) + states, join)
        left = [pick(one, 1) for one in looked.values()]
        parts = [meet(part, left, shared) for part in range(self.meeting.parts if left else 0)]
        equal = _tree(([known.equal] if known else []) + parts, join)
        runs = [pick(one, 2) for one in looked.values()]
        if as_tasks:
            state, equal, runs = compute(state, equal, runs, scheduler=scheduler)
        return _Seen(state, equal, before, runs)

    def _ranges(self) -> list[list[_Range]]:
        """Cut the rows of every segment into ranges of whole units.

        Runs that stay are called by what they hold: who looks again writes the same.
        """
        store, segments, start = self.store, [], 0
        own = "" if self.meeting.kept else f"{uuid.uuid4().hex}-"
        row = store.columns * store.row_shape("features")[1].itemsize
        most = max(store.unit_rows, min(RANGE_ROWS, RANGE_BYTES // row))
        for count, digest in store.segments:
            cuts = [start]
            for lo, hi, _ in store.units(start, start + count):
                if hi - cuts[-1] > most and lo > cuts[-1]:
                    cuts.append(lo)
            edges = pairwise([*cuts, start + count])
            name = f"{own}{digest[:SHORT]}"
            segments.append([_Range(f"{name}-{a - start}-{b - start}", a, b) for a, b in edges])
            start += count
        return segments


def _tree(values: Sequence[Any], join: Callable[[list[Any]], Any]) -> Any:
    """Merge values in their order, a few at a time."""
    while len(values) > 1:
        values = [join(list(values[k : k + FAN_IN])) for k in range(0, len(values), FAN_IN)]
    return values[0]


def _in_order(values: Sequence[Any], join: Callable[[list[Any]], Any]) -> Any:
    """Merge values one after another, a few in a task."""
    first, *rest = values
    for k in range(0, len(rest), FAN_IN):
        first = join([first, *rest[k : k + FAN_IN]])
    return first


def _merged(states: Sequence[Any]) -> Any:
    return reduce(lambda a, b: a.merge(b), states)


def _pick(looked: Sequence[Any], place: int) -> Any:
    return looked[place]


def _look_at_range(
    address: SourceAddress, meeting: Meeting, rows: _Range, unit: float
) -> tuple[_State, Left, Left]:
    """Look at some rows; return what is kept of them, and what they left, then without records."""
    store = open_anew(address)
    step = store.unit_rows * UNITS_PER_WRITE
    found: _State | None = None  # of many columns a state is as large as the rows it is of
    records = []
    for lo in range(rows.lo, rows.hi, step):
        hi = min(lo + step, rows.hi)
        labels, split = store.read("labels", lo, hi), store.read("split", lo, hi)
        classes = None
        if store.spec.label_kind == "categorical":
            classes = class_counts(labels)
        for a in range(lo, hi, store.unit_rows):
            b = min(a + store.unit_rows, hi)
            some = store.read("features", a, b), labels[a - lo : b - lo], split[a - lo : b - lo]
            state = _State(column_state(some[0], unit), None if a > lo else classes)
            found = state if found is None else found.merge(state)
            records.append(row_records(*some))
    left = meeting.leave(rows.run, gathered(records))
    assert found is not None  # no range is empty
    return found, left, left._replace(records=None)
