"""Which row of one store is which row of another.

Told by what is known: equal data, rows that were appended, what `apply` made of reviewers'
decisions, what was embedded, ids, and at last equal numbers, groups and labels of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..display import counted
from ..errors import Hint, InvalidOptionError
from ..ids import NUMBERS
from ..memory import check_memory
from ..records import BLOCK_ROWS
from ..store import DROP, SourceAddress, Store, dropped_rows, read_decisions

ID_BYTES = 64  # of a row: two numbers of ids, in order and with their places, and its partner
READ_ROWS = 2**20  # of ids at once
REVIEWED = "reviewed"
FINGERPRINT = "source_fingerprint"
_INSTEAD = Hint(
    "compare stores of which one was made of the other, whose rows are known without their ids",
    "compare stores of which one was made of the other, or use a machine with more memory",
)


class RowNumbers(NamedTuple):
    """The numbers that rows lo:hi of the second store have in the first one.

    Attributes
    ----------
    lo, hi : int
    before : int
        Dropped rows that surely lie before.
    shift : ndarray (k,) int64
        Of the next dropped rows, from which row of the second store on they lie before.
    end : int
        From this row on the second store's are new.
    source : ndarray (hi - lo,) int64, optional
        The numbers themselves, -1 of a new row; then nothing else counts.
    """

    lo: int
    hi: int
    before: int
    shift: NDArray[np.int64]
    end: int
    source: NDArray[np.int64] | None = None

    def all(self) -> NDArray[np.int64]:
        """Return the numbers, (hi - lo,) int64; -1 of new rows."""
        if self.source is not None:
            return self.source
        rows = np.arange(self.lo, self.hi)
        old = rows + self.before + np.searchsorted(self.shift, rows, side="right")
        return np.where(rows < self.end, old, -1)


@dataclass(frozen=True)
class RowMap:
    """Which row of a first store is which row of a second one.

    Attributes
    ----------
    how : str
        How that is known, in words.
    before, after : int
        Rows of the stores.
    dropped : ndarray (k,) int64
        Rows of the first store that the second one lacks, rising.
    source : ndarray (after,) int64, optional
        The number in the first store of every row of the second one, -1 of a new row. Without it
        the rows have kept their order, and new ones are the last.
    """

    how: str
    before: int
    after: int
    dropped: NDArray[np.int64]
    source: NDArray[np.int64] | None = None

    @property
    def shared(self) -> int:
        """Number of rows that both stores have."""
        return self.before - len(self.dropped)

    @property
    def new(self) -> int:
        """Number of rows that only the second store has."""
        return self.after - self.shared

    @property
    def same(self) -> bool:
        """Whether every row has the same number in both."""
        if len(self.dropped) or self.new:
            return False
        return self.source is None or bool((np.diff(self.source) == 1).all())

    def numbers(self, lo: int, hi: int) -> RowNumbers:
        """Return the numbers that rows lo:hi of the second store have in the first one."""
        if self.source is not None:
            return RowNumbers(lo, hi, 0, self.dropped[:0], self.after, self.source[lo:hi])
        shift = self.dropped - np.arange(len(self.dropped))
        first, last = np.searchsorted(shift, (lo, hi))
        return RowNumbers(lo, hi, int(first), shift[first:last], self.shared)

    def old_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers that some rows of the second store have in the first one, or -1."""
        if self.source is not None:
            return np.where(rows < 0, -1, self.source[rows])
        shift = self.dropped - np.arange(len(self.dropped))
        old = rows + np.searchsorted(shift, rows, side="right")
        return np.where((rows >= 0) & (rows < self.shared), old, -1)


def match_rows(before: Store, after: Store) -> RowMap | None:
    """Return which row of a store is which of another; None where nothing tells.

    Raises
    ------
    InvalidOptionError
        Where the first store was made of the second one.
    MemoryPlanError
        Where ids would tell, and do not fit into this process.
    """
    if _is_cleaned(before, after) and digests(before) != digests(after):
        raise InvalidOptionError(
            f"{before.url} was made of {after.url} by `apply`; give the older store first"
        )
    for look in (_of_data, _of_cleaning, _of_embedding, _of_ids, _of_labels):
        found = look(before, after)
        if found is not None:
            return found
    return None


def digests(store: Store) -> tuple[str, ...]:
    """Return what tells a store's data from other data."""
    return tuple(digest for _, digest in store.segments)


def _kept(how: str, before: Store, after: Store, dropped: Any = ()) -> RowMap:
    return RowMap(how, before.rows, after.rows, np.array(dropped, np.int64))


def _of_data(before: Store, after: Store) -> RowMap | None:
    """Rows of equal data, or of data that was appended to."""
    old, new = digests(before), digests(after)
    if new[: len(old)] != old:
        return None
    if new == old:
        return _kept("both are of the same data", before, after)
    more = counted(after.rows - before.rows, "row")
    return _kept(f"{more} appended to the same data", before, after)


def _is_cleaned(made: Store, source: Store) -> bool:
    done = made.spec.provenance.get(REVIEWED)
    return done is not None and tuple(done[FINGERPRINT]) == digests(source)


def _of_cleaning(before: Store, after: Store) -> RowMap | None:
    """Rows of a cleaned store; those that it lacks are kept with it, or told by the decisions."""
    if not _is_cleaned(after, before):
        return None
    count = int(after.spec.provenance[REVIEWED]["dropped"])
    gone = dropped_rows(after, before) if count else np.empty(0, np.int64)
    if gone is None:
        held = read_decisions(before).newest
        gone = np.array([row for row, made in held.items() if made.decision == DROP], np.int64)
    if len(gone) != count or after.rows < before.rows - count:
        return None  # decided on since
    return _kept("the second is the first one, cleaned", before, after, gone)


def _of_embedding(before: Store, after: Store) -> RowMap | None:
    """Rows that were embedded, as they are or by two networks."""
    if before.rows != after.rows:
        return None
    own, other = (tuple(s.spec.provenance.get(FINGERPRINT, ())) for s in (before, after))
    if other == digests(before) or own == digests(after) or (own and own == other):
        return _kept("one shows the rows of the other as a network sees them", before, after)
    return None


def _of_labels(before: Store, after: Store) -> RowMap | None:
    """Rows that are as many, of the same groups and labels, one after the other."""
    kinds = [(s.rows, s.groups, s.spec.label_kind, s.spec.classes) for s in (before, after)]
    if kinds[0] != kinds[1] or before.row_shape("labels")[0] != after.row_shape("labels")[0]:
        return None
    equal = delayed(_are_equal, pure=True)
    starts = range(0, before.rows, BLOCK_ROWS)
    ends = (min(lo + BLOCK_ROWS, before.rows) for lo in starts)
    parts = [
        equal(before.address, after.address, lo, hi) for lo, hi in zip(starts, ends, strict=True)
    ]
    if not all(compute(parts)[0]):
        return None
    return _kept("both have as many rows, of the same groups and labels in turn", before, after)


def _are_equal(before: SourceAddress, after: SourceAddress, lo: int, hi: int) -> bool:
    one, other = before.open(), after.open()
    return all(
        np.array_equal(one.read(name, lo, hi), other.read(name, lo, hi))
        for name in ("split", "labels")
    )


# -- ids ---------------------------------------------------------------------------------------


def _of_ids(before: Store, after: Store) -> RowMap | None:
    """Rows of the same ids, where no two rows of a store have the same."""
    if not (before.has_ids and after.has_ids):
        return None
    check_memory("what tells rows by their ids", before.rows + after.rows, ID_BYTES, _INSTEAD)
    alike = before.row_shape("ids")[1] == after.row_shape("ids")[1] == NUMBERS
    old, new = (_id_numbers(store, as_text=not alike) for store in (before, after))
    order = np.argsort(old, kind="stable")
    ordered = old[order]
    if (ordered[1:] == ordered[:-1]).any() or len(np.unique(new)) < len(new):
        return None
    place = np.minimum(np.searchsorted(ordered, new), len(ordered) - 1)
    source = np.where(ordered[place] == new, order[place], -1)
    there = np.zeros(before.rows, bool)
    there[source[source >= 0]] = True
    if not there.any():
        return None
    return RowMap(
        "rows are told by their ids", before.rows, after.rows, np.flatnonzero(~there),
        None if _in_order(source) else source,
    )  # fmt: skip


def _in_order(source: NDArray[np.int64]) -> bool:
    """Whether rows have kept their order, and new ones are the last."""
    shared = int((source >= 0).sum())
    return bool((source[:shared] >= 0).all() and (np.diff(source[:shared]) > 0).all())


def _id_numbers(store: Store, *, as_text: bool) -> NDArray[np.uint64]:
    """Return a number for every id: itself, or a 64-bit hash of its text."""
    from pandas.util import hash_array

    numbers = np.empty(store.rows, np.uint64)
    for lo in range(0, store.rows, READ_ROWS):
        ids = store.read("ids", lo, min(lo + READ_ROWS, store.rows))
        if as_text:
            texts = np.array([str(value) for value in ids.tolist()], dtype=object)
            numbers[lo : lo + len(ids)] = hash_array(texts, categorize=False)
        else:
            numbers[lo : lo + len(ids)] = ids.view(np.uint64)
    return numbers
