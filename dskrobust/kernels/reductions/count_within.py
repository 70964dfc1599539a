"""How many rows lie within a row's own radius, in each of some parts.

With the reach as radius this is the local set of a sample (Leyva, González and Pérez 2015, local
set cardinality); with a number it is a density, and with 0 it counts equal rows. Every pair is
counted once, so a merge adds, and no tile starts from what others know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from .base import Twins, accept, bytes_of, is_state, radius, slope, within


class CountState(NamedTuple):
    """Rows counted so far around consecutive rows.

    Attributes
    ----------
    radius : ndarray (n, parts) float64
        A pair of at most this distance counts; −∞ where none does.
    count : ndarray (n, parts) int64
    """

    radius: NDArray[np.float64]
    count: NDArray[np.int64]  # type: ignore[assignment]  # tuple.count is not needed

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    def merge(self, other: CountState) -> CountState:
        """Add the counts of different pairs: associative and commutative."""
        return CountState(self.radius, self.count + other.count)

    @property
    def terms(self) -> NDArray[np.float64]:
        """What rows ask for (n, t): equal rows may ask for different things."""
        return self.radius

    def hand_on(self, twins: Twins, own: bool) -> None:
        """Let takers know what their givers do: they have seen the same rows.

        own: whether twins make pairs with each other here.
        """
        if own:  # at a distance of 0
            cells = twins.givers, twins.parts
            np.add.at(self.count, cells, self.radius[cells] >= 0.0)
        self.count[twins.takers] = self.count[twins.givers]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name → array, for writing."""
        return self._asdict()

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


@dataclass(frozen=True)
class CountWithin:
    """Per row and part the number of rows within the row's radius."""

    quotients = False
    seeds = 0
    single = False
    unproven = True
    boxed = False
    warm = False
    named = 0
    cell_bytes = 16

    def empty(self, rows: int, parts: int) -> CountState:
        """A state whose radii are still to be set."""
        return CountState(np.zeros((rows, parts)), np.zeros((rows, parts), np.int64))

    def closed(self, rows: int) -> CountState:
        """A state of one part that asks for nothing."""
        return CountState(np.full((rows, 1), -np.inf), np.zeros((rows, 1), np.int64))
