"""How many rows lie within a row's own radius, in each of some parts.

With the reach as radius this is the local set of a sample (Leyva, González and Pérez 2015, local
set cardinality); with a number it is a density, and with 0 it counts equal rows. Where it is asked
for, the other direction is counted too: the rows that have a row within their radii. Every pair is
counted once, so a merge adds, and no tile starts from what others know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from .base import (
    NOBODY,
    Twins,
    accept,
    bytes_of,
    hold,
    is_state,
    last_row,
    radius,
    slope,
    within,
)

NOT_ASKED = np.zeros((0, 0), np.int64)


class CountState(NamedTuple):
    """Rows counted so far around consecutive rows.

    Attributes
    ----------
    radius : ndarray (n, parts) float64
        A pair of at most this distance counts; −∞ where none does.
    count : ndarray (n, parts) int64
    held : ndarray (n, parts) int64, or (0, 0)
        How many rows have these within their own radii, where that is counted.
    """

    radius: NDArray[np.float64]
    count: NDArray[np.int64]  # type: ignore[assignment]  # tuple.count is not needed
    held: NDArray[np.int64] = NOT_ASKED

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    def merge(self, other: CountState) -> CountState:
        """Add the counts of different pairs: associative and commutative."""
        return CountState(self.radius, self.count + other.count, self.held + other.held)

    @property
    def terms(self) -> NDArray[np.float64]:
        """What rows ask for (n, t): equal rows may ask for different things."""
        return self.radius

    def hand_on(self, twins: Twins, own: bool) -> None:
        """Let takers know what their givers do: they have seen the same rows.

        own: whether twins make pairs with each other here.
        """
        cells = twins.givers, twins.parts
        for counts in (self.count, self.held):
            if counts.size:
                if own:  # at a distance of 0, and their radii are the same
                    np.add.at(counts, cells, self.radius[cells] >= 0.0)
                counts[twins.takers] = counts[twins.givers]

    def is_within(self, rows: int) -> bool:
        """A count names no rows; its tiles are only of those that it was asked for."""
        return True


@overload(radius)
def _radius(state, row, part):
    if is_state(state, CountState):
        return lambda state, row, part: state.radius[row, part]


@overload(slope)
def _slope(state, row, part, number):
    if is_state(state, CountState):
        return lambda state, row, part, number: np.inf


@overload(last_row)
def _last_row(state, row, part):
    if is_state(state, CountState):
        return lambda state, row, part: NOBODY


@overload(within)
def _within(state, row, part):
    if is_state(state, CountState):
        return lambda state, row, part: state.radius[row, part]


@overload(accept)
def _accept(state, row, part, distance, dy, number, weight):
    if not is_state(state, CountState):
        return None

    def accept(state, row, part, distance, dy, number, weight):
        if distance <= state.radius[row, part]:
            state.count[row, part] += weight

    return accept


@overload(hold)
def _hold(state, row, part, weight):
    if not is_state(state, CountState):
        return None

    def hold(state, row, part, weight):
        if state.held.size:
            state.held[row, part] += weight

    return hold


@dataclass(frozen=True)
class CountWithin:
    """Per row and part the number of rows within the row's radius.

    Attributes
    ----------
    both : bool
        Whether to count the rows that have the row within theirs, too.
    """

    both: bool = False
    quotients = False
    seeds = 0
    single = False
    unproven = True
    boxed = False
    warm = False
    named = 0

    @property
    def cell_bytes(self) -> int:
        return 24 if self.both else 16

    def empty(self, rows: int, parts: int) -> CountState:
        """A state whose radii are still to be set."""
        return self._state(np.zeros((rows, parts)))

    def closed(self, rows: int) -> CountState:
        """A state of one part that asks for nothing."""
        return self._state(np.full((rows, 1), -np.inf))

    def _state(self, radius: NDArray[np.float64]) -> CountState:
        count = np.zeros(radius.shape, np.int64)
        return CountState(radius, count, count.copy() if self.both else NOT_ASKED)
