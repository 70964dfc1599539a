"""The k nearest rows of every row, in each of some parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from ..compiling import kernel
from .base import (
    NOBODY,
    accept,
    better,
    bytes_of,
    is_state,
    last_row,
    radius,
    slope,
    steepest,
    within,
)


class NearestState(NamedTuple):
    """Lists of the nearest rows so far, of consecutive rows.

    Attributes
    ----------
    distance, index : ndarray (n, parts, k) float64, int64
        Ascending by distance, then by row number; infinity and NOBODY where there are fewer.
    """

    distance: NDArray[np.float64]
    index: NDArray[np.int64]  # type: ignore[assignment]  # tuple.index is not needed

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    def merge(self, other: NearestState) -> NearestState:
        """Keep the k nearest of both: associative, commutative, idempotent."""
        distance, index = self.distance.copy(), self.index.copy()
        _merge(distance, index, other.distance, other.index)
        return NearestState(distance, index)

    def union(self, parts: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances and row numbers (n, k) of the nearest in several parts together."""
        distance = np.ascontiguousarray(self.distance[:, parts[:1]])
        index = np.ascontiguousarray(self.index[:, parts[:1]])
        for part in parts[1:]:
            _merge(distance, index, self.distance[:, [part]], self.index[:, [part]])
        return distance[:, 0], index[:, 0]

    def is_within(self, rows: int) -> bool:
        """Whether no pair is with a row that comes later than so many."""
        return bool(((self.index < rows) | (self.index == NOBODY)).all())


@kernel()
def _insert(distance, index, value, row):
    """Put (value, row) into an ascending list (k,), once."""
    last = distance.shape[0] - 1
    if not better(value, row, distance[last], index[last]):
        return
    at = 0
    while better(distance[at], index[at], value, row):
        at += 1
    if index[at] == row:
        return
    for k in range(last, at, -1):
        distance[k] = distance[k - 1]
        index[k] = index[k - 1]
    distance[at] = value
    index[at] = row


@kernel()
def _merge(distance, index, others, indices):
    """Put lists (n, parts, k) into the lists of the first two, in place."""
    n, parts, k = others.shape
    for i in range(n):
        for part in range(parts):
            for m in range(k):
                _insert(distance[i, part], index[i, part], others[i, part, m], indices[i, part, m])


@overload(radius)
def _radius(state, row, part):
    if is_state(state, NearestState):
        return lambda state, row, part: state.distance[row, part, state.distance.shape[2] - 1]


@overload(slope)
def _slope(state, row, part, number):
    if is_state(state, NearestState):
        return lambda state, row, part, number: np.inf


@overload(last_row)
def _last_row(state, row, part):
    if is_state(state, NearestState):
        return lambda state, row, part: state.index[row, part, state.index.shape[2] - 1]


@overload(steepest)
def _steepest(state, row, part):
    if is_state(state, NearestState):
        return lambda state, row, part: (np.inf, -1)


@overload(within)
def _within(state, row, part):
    if is_state(state, NearestState):
        return lambda state, row, part: -np.inf


@overload(accept)
def _accept(state, row, part, distance, dy, number, weight):
    if is_state(state, NearestState):
        return lambda state, row, part, distance, dy, number, weight: _insert(
            state.distance[row, part], state.index[row, part], distance, number
        )


@dataclass(frozen=True)
class KNearest:
    """Per row and part a list of its k nearest rows."""

    k: int
    quotients = False
    single = False
    unproven = False
    boxed = True
    warm = True

    @property
    def seeds(self) -> int:
        return self.k

    @property
    def named(self) -> int:
        return self.k

    @property
    def cell_bytes(self) -> int:
        return 16 * self.k

    def empty(self, rows: int, parts: int) -> NearestState:
        """Lists in which no pair was seen yet."""
        shape = (rows, parts, self.k)
        return NearestState(np.full(shape, np.inf), np.full(shape, NOBODY))

    def closed(self, rows: int) -> NearestState:
        """Lists of one part that ask for nothing."""
        shape = (rows, 1, 1)
        return NearestState(np.full(shape, -np.inf), np.full(shape, -1, np.int64))
