"""Rows that are equal in every feature, counted by 128-bit hashes that are sorted out of core.

Every range of rows is hashed once. Its records, sorted by hash, are cut by the hash's top bits,
and equal rows meet in the one part that their hash belongs to: no process holds more than a range
or a part, however many rows there are and however often one of them is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from .. import arrays
from ..blobs import Blobs

RECORD = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("label", "<u8"), ("split", "<i2"), ("rows", "<i8")]
)
KEY = ("high", "low", "label", "split")
PART_ROWS = 1 << 19  # of a part, about
CHUNK_ROWS = 8192  # of records written, at least
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
    for a in range(0, len(rows), CHUNK_ROWS):  # a few at a time: each becomes a Python object
        some = np.ascontiguousarray(_plain_zeros(rows[a : a + CHUNK_ROWS])).view(width)
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


# -- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """How records meet that belong together.

    Attributes
    ----------
    bits : int
        Top bits of a hash that say which part it belongs to; with 0 there is one part, and
        ranges hand their records over.
    blobs : Blobs
        Where ranges leave their records otherwise.
    """

    bits: int
    blobs: Blobs

    @classmethod
    def of(cls, rows: int, blobs: Blobs) -> Parts:
        """Return the parts of so many rows."""
        return cls(max(0, (-(-rows // PART_ROWS) - 1).bit_length()), blobs)

    @property
    def count(self) -> int:
        return 1 << self.bits

    def leave(self, number: int, records: NDArray[Any]) -> NDArray[Any]:
        """Leave a range's gathered records; return them, or where each part's lie, (parts + 1,)."""
        if not self.bits:
            return records
        rows = max(CHUNK_ROWS, len(records) >> self.bits)
        flat = records.view(np.uint8).reshape(-1, RECORD.itemsize)
        shape, chunks, path = flat.shape, (rows, RECORD.itemsize), f"{self.blobs.path}/{number}"
        arrays.create_array(self.blobs.objects, path, shape, chunks, flat.dtype, compress=False)[
            :
        ] = flat
        edges = np.arange(1, self.count, dtype=np.uint64) << np.uint64(64 - self.bits)
        inner = np.searchsorted(records["high"], edges)
        return np.concatenate([[0], inner, [len(records)]])

    def meet(self, part: int, left: Sequence[NDArray[Any]]) -> EqualRows:
        """Count the equal rows of a part of what all ranges have left."""
        if not self.bits:
            return equal_rows(gathered(left))
        store = self.blobs.objects.zarr(read_only=True)
        records = [
            np.asarray(
                zarr.open_array(store, path=f"{self.blobs.path}/{number}", mode="r")[
                    int(at[part]) : int(at[part + 1])
                ]
            )
            for number, at in enumerate(left)
        ]
        return equal_rows(gathered([r.reshape(-1).view(RECORD) for r in records]))
