"""The k nearest rows of every row and reference part, and how two such lists are merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from . import reductions
from .job import cut
from .tables import NOBODY


@dataclass(frozen=True)
class Selected:
    """The rows of a block that take part.

    Attributes
    ----------
    numbers : ndarray (n,) int64
        Row numbers, ascending.
    codes : ndarray (n,) int16
        The part that each of them lies in.
    """

    numbers: NDArray[np.int64]
    codes: NDArray[np.int16]

    @classmethod
    def of(cls, first: int, codes: NDArray[np.int16]) -> Selected:
        """From the codes of all rows of a block, -1 for those that take no part."""
        inside = np.flatnonzero(codes >= 0)
        return cls(first + inside, codes[inside])

    def panels(self, step: int) -> Iterator[Selected]:
        """Cut into panels of at most `step` rows."""
        for lo, hi in cut(0, len(self.numbers), step):
            yield Selected(self.numbers[lo:hi], self.codes[lo:hi])


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows found so far.

    Attributes
    ----------
    rows : ndarray (n,) int64
        Row numbers of the queries, ascending.
    distance, index : ndarray (n, parts, k) float64, int64
        Ascending by distance, then by row number; infinity and NOBODY where there are fewer.
    """

    rows: NDArray[np.int64]
    distance: NDArray[np.float64]
    index: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: NDArray[np.int64], parts: int, k: int) -> Neighbours:
        """Lists in which no pair was seen yet."""
        shape = (len(rows), parts, k)
        return cls(rows, np.full(shape, np.inf), np.full(shape, NOBODY))

    def copy(self) -> Neighbours:
        """Lists that may be written to."""
        return Neighbours(self.rows, self.distance.copy(), self.index.copy())

    def merge(self, other: Neighbours) -> Neighbours:
        """Keep the k nearest of both: associative, commutative, idempotent."""
        distance, index = self.distance.copy(), self.index.copy()
        _merge(distance, index, other.distance, other.index)
        return Neighbours(self.rows, distance, index)

    def union(self, parts: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances and row numbers (n, k) of the nearest in several parts together."""
        distance = np.ascontiguousarray(self.distance[:, parts[:1]])
        index = np.ascontiguousarray(self.index[:, parts[:1]])
        for part in parts[1:]:
            _merge(distance, index, self.distance[:, [part]], self.index[:, [part]])
        return distance[:, 0], index[:, 0]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name → array, for writing."""
        return {"rows": self.rows, "distance": self.distance, "index": self.index}


@njit(nogil=True, cache=True)
def _insert(distance, index, value, row):  # type: ignore[no-untyped-def]
    """Put (value, row) into an ascending list (k,), once."""
    last = distance.shape[0] - 1
    if not reductions.better(value, row, distance[last], index[last]):
        return
    at = 0
    while reductions.better(distance[at], index[at], value, row):
        at += 1
    if index[at] == row:
        return
    for k in range(last, at, -1):
        distance[k] = distance[k - 1]
        index[k] = index[k - 1]
    distance[at] = value
    index[at] = row


@njit(nogil=True, cache=True)
def _merge(distance, index, others, indices):  # type: ignore[no-untyped-def]
    """Put lists (n, parts, k) into the lists of the first two, in place."""
    n, parts, k = others.shape
    for i in range(n):
        for part in range(parts):
            for m in range(k):
                if indices[i, part, m] == NOBODY:
                    break
                _insert(distance[i, part], index[i, part], others[i, part, m], indices[i, part, m])
