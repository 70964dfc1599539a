"""Rows that are equal in every feature, counted by 128-bit hashes that are sorted out of core.

Every range of rows is hashed once. Its records, sorted by hash, are cut by the hash's top bits,
and equal rows meet in the one part that their hash belongs to: no process holds more than a range
or a part, however many rows there are and however often one of them is repeated. Records stay in
the store as sorted runs, so that rows which are appended later meet them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import StoreError
from ..looked import Run, read_piece, run_blobs
from ..objects import Address

RECORD = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("label", "<u8"), ("split", "<i2"), ("rows", "<i8")]
)
KEY = ("high", "low", "label", "split")
_NONE = np.empty(0, RECORD)
PART_ROWS = 1 << 19  # of a part, about
HASHED_ROWS = 8192  # at a time
PIECE_ROWS = 1 << 14  # of a run that is written
CELLS = 1 << 20  # of a table of hashes by groups


@dataclass(frozen=True)
class EqualRows:
    """Counts of equal rows; those of two sets of hashes add up.

    Attributes
    ----------
    rows : int
        Rows that equal another one in every feature.
    repeats : int
        Of these, the ones beyond the first of each.
    contradictory : int
        Rows that equal one with another label.
    shared : mapping of (int, int) to int
        For two groups, by their codes, the rows of the first that equal one of the second.
    """

    rows: int = 0
    repeats: int = 0
    contradictory: int = 0
    shared: dict[tuple[int, int], int] = field(default_factory=dict)

    def merge(self, other: EqualRows) -> EqualRows:
        """Return the counts of both."""
        shared = dict(self.shared)
        for pair, rows in other.shared.items():
            shared[pair] = shared.get(pair, 0) + rows
        return EqualRows(
            self.rows + other.rows,
            self.repeats + other.repeats,
            self.contradictory + other.contradictory,
            shared,
        )

    def less(self, other: EqualRows) -> EqualRows:
        """Return the counts without those of some of the same rows."""
        shared = {pair: rows - other.shared.get(pair, 0) for pair, rows in self.shared.items()}
        return EqualRows(
            self.rows - other.rows,
            self.repeats - other.repeats,
            self.contradictory - other.contradictory,
            {pair: rows for pair, rows in shared.items() if rows},
        )


def row_records(
    features: NDArray[Any], labels: NDArray[Any], split: NDArray[np.int16]
) -> NDArray[Any]:
    """Return a record (b,) of every row: its hash, label and group, and that it is one row."""
    records = np.empty(len(features), RECORD)
    hashes = _digests(features, 16).view("<u8").reshape(-1, 2)
    records["high"], records["low"] = hashes.T
    labels = labels.reshape(len(labels), -1)
    if labels.shape[1] == 1:
        wide = np.dtype("f8") if labels.dtype.kind == "f" else np.dtype("i8")
        records["label"] = _plain_zeros(labels[:, 0]).astype(wide).view(np.uint64)
    else:
        records["label"] = _digests(labels, 8).view("<u8")
    records["split"], records["rows"] = split, 1
    return records


def _digests(rows: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """Return the hashes of rows (b, d), one after another."""
    width, hashes = f"V{rows.shape[1] * rows.itemsize}", []
    for a in range(0, len(rows), HASHED_ROWS):  # a few at a time: each becomes a Python object
        some = np.ascontiguousarray(_plain_zeros(rows[a : a + HASHED_ROWS])).view(width)
        hashes += [blake2b(text, digest_size=size).digest() for text in some.ravel().tolist()]
    return np.frombuffer(b"".join(hashes), np.uint8)


def _plain_zeros(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values with 0.0 for −0.0, which has other bytes."""
    return values + values.dtype.type(0) if values.dtype.kind == "f" else values


def gathered(records: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return records sorted by hash, those of equal rows, labels and groups joined into one."""
    together = np.concatenate(records)
    together = together[np.argsort(together["high"], kind="stable")]
    same = together["high"][1:] == together["high"][:-1]
    if not same.any():
        return together
    twin = np.append(same, False) | np.append(False, same)
    some = _sorted(together[twin])
    first = _starts(some, KEY)
    joined = some[first]
    joined["rows"] = np.add.reduceat(some["rows"], first)
    left = np.concatenate([together[~twin], joined])
    return left[np.argsort(left["high"], kind="stable")]


def equal_rows(records: NDArray[Any]) -> EqualRows:
    """Count the equal rows of gathered records that hold every row of their hashes."""
    same = records["high"][1:] == records["high"][:-1]
    twin = np.append(same, False) | np.append(False, same) | (records["rows"] > 1)
    some = _sorted(records[twin])
    if not len(some):
        return EqualRows()
    first = _starts(some, KEY[:2])
    rows = np.add.reduceat(some["rows"], first)
    ends = np.append(first[1:], len(some)) - 1  # labels rise within a hash
    varied = some["label"][ends] != some["label"][first]
    again = rows[rows > 1]
    return EqualRows(
        int(again.sum()), int((again - 1).sum()), int(rows[varied].sum()), _shared(some, first)
    )


def _shared(some: NDArray[Any], first: NDArray[np.intp]) -> dict[tuple[int, int], int]:
    """Count by pairs of groups the rows that they share, of sorted records that begin at first."""
    several = np.minimum.reduceat(some["split"], first) < np.maximum.reduceat(some["split"], first)
    lengths = np.diff(np.append(first, len(some)))
    kept = some[np.repeat(several, lengths)]
    groups, column = np.unique(kept["split"], return_inverse=True)
    hashes = np.repeat(np.arange(int(several.sum())), lengths[several])
    total = np.zeros((len(groups), len(groups)), np.int64)
    step = max(1, CELLS // max(1, len(groups)))
    for a in range(0, int(several.sum()), step):
        lo, hi = np.searchsorted(hashes, [a, a + step])
        count = np.zeros((step, len(groups)), np.int64)
        np.add.at(count, (hashes[lo:hi] - a, column[lo:hi]), kept["rows"][lo:hi])
        total += count.T @ (count > 0)
    pairs = np.argwhere(total)
    return {(int(groups[j]), int(groups[k])): int(total[j, k]) for j, k in pairs.tolist() if j != k}


def _sorted(records: NDArray[Any]) -> NDArray[Any]:
    return records[np.lexsort([records[name] for name in reversed(KEY)])]


def _starts(records: NDArray[Any], names: Sequence[str]) -> NDArray[np.intp]:
    """Return where other values of some fields begin in sorted records."""
    other = [records[name][1:] != records[name][:-1] for name in names]
    return np.flatnonzero(np.append(True, np.logical_or.reduce(other)))


# -- runs ----------------------------------------------------------------------------------------


class Left(NamedTuple):
    """The gathered records of a range: in the store, handed over, or both."""

    run: Run | None
    records: NDArray[Any] | None


@dataclass(frozen=True)
class Meeting:
    """How records meet that belong together.

    Attributes
    ----------
    address : Address
        Of the store that runs of records lie in.
    bits : int
        Top bits of a hash that say which part it belongs to; with 0 there is one part, and
        ranges hand their records over.
    kept : bool
        Whether runs are needed after this look.
    """

    address: Address
    bits: int
    kept: bool

    @classmethod
    def of(cls, rows: int, address: Address, *, kept: bool) -> Meeting:
        """Return how so many rows meet."""
        return cls(address, max(0, (-(-rows // PART_ROWS) - 1).bit_length()), kept)

    @property
    def parts(self) -> int:
        return 1 << self.bits

    def leave(self, name: str, records: NDArray[Any]) -> Left:
        """Leave a range's gathered records, as a run of this name where that is needed."""
        handed = None if self.bits else records
        if handed is not None and not self.kept:
            return Left(None, handed)
        try:
            return Left(self._write(name, records), handed)
        except (OSError, StoreError):
            if handed is None:
                raise
            return Left(None, handed)  # in what may only be read nothing is kept

    def _write(self, name: str, records: NDArray[Any]) -> Run:
        blobs = run_blobs(self.address, name)
        for piece, a in enumerate(range(0, len(records), PIECE_ROWS)):
            blobs.write(str(piece), _by_bytes(records[a : a + PIECE_ROWS]))
        return Run(name, records["high"][::PIECE_ROWS].copy())

    def meet(self, part: int, left: Sequence[Left], before: Sequence[Run]) -> EqualRows:
        """Count the equal rows of a part that ranges add to the ones in runs of earlier looks.

        Raises
        ------
        DamagedStoreError
            Where a piece of a run is missing, or is not what was written.
        """
        new = gathered([_NONE, *(r for one in left for r in self._of_part(one, part))])
        if not len(new):
            return EqualRows()
        hashes = np.unique(new["high"])
        old = gathered([_NONE, *(r for run in before for r in self._of_hashes(run, hashes))])
        if not len(old):
            return equal_rows(new)
        return equal_rows(gathered([old, new])).less(equal_rows(old))

    def _of_part(self, left: Left, part: int) -> Iterator[NDArray[Any]]:
        """Yield the records of a part."""
        if left.run is None or left.records is not None:
            assert left.records is not None
            yield left.records
            return
        shift = np.uint64(64 - self.bits)
        tops = left.run.edges >> shift  # equal hashes may lie in several pieces
        after = np.append(tops[1:], np.uint64(self.parts))
        for piece in np.flatnonzero((tops <= part) & (after >= part)).tolist():
            records = _read(self.address, left.run, piece)
            yield records[records["high"] >> shift == part]

    def _of_hashes(self, run: Run, hashes: NDArray[np.uint64]) -> Iterator[NDArray[Any]]:
        """Yield the records with one of some rising hashes; only their pieces are read."""
        first = np.searchsorted(hashes, run.edges, "left")
        last = np.append(np.searchsorted(hashes, run.edges[1:], "right"), len(hashes))
        for piece in np.flatnonzero(last > first).tolist():
            records = _read(self.address, run, piece)
            yield records[np.isin(records["high"], hashes, kind="sort")]

    def drop(self, runs: Iterable[Run]) -> None:
        """Remove runs."""
        for run in runs:
            run_blobs(self.address, run.name).drop()


def _by_bytes(records: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of records, all first ones, all second ones, …: most of them are alike."""
    return np.ascontiguousarray(records.view(np.uint8).reshape(-1, RECORD.itemsize).T)


def _read(address: Address, run: Run, piece: int) -> NDArray[Any]:
    rows = np.ascontiguousarray(read_piece(address, run, piece).T)
    return rows.reshape(-1).view(RECORD)
