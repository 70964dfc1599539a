"""The largest quotient: Q, reach and witnesses of every row (paper, 3.2 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from ...definitions import lipschitz_of
from .base import (
    LARGEST,
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


class QuotientState(NamedTuple):
    """The best pairs of consecutive rows so far.

    Attributes
    ----------
    reach, nearest : ndarray (n, parts) float64, int64
        Smallest distance to a row that makes a pair, and the lowest row number that has it.
    quotient, witness : ndarray (n, parts) float64, int64, or (0, 0)
        Largest quotient and the lowest row number that has it; empty for categories.
    """

    reach: NDArray[np.float64]
    nearest: NDArray[np.int64]
    quotient: NDArray[np.float64]
    witness: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    @property
    def lipschitz(self) -> NDArray[np.float64]:
        """Q of every row against every part, of the pairs that were looked at."""
        return self.quotient if self.quotient.size else lipschitz_of(self.reach)

    def merge(self, other: QuotientState) -> QuotientState:
        """Keep the better of two pairs: smaller distance (larger quotient), then lower row number.

        Associative, commutative and idempotent.
        """
        reach, nearest = _best(self.reach, self.nearest, other.reach, other.nearest)
        quotient, witness = _best(-self.quotient, self.witness, -other.quotient, other.witness)
        return QuotientState(reach, nearest, -quotient + 0.0, witness)

    def is_within(self, rows: int) -> bool:
        """Whether no pair is with a row that comes later than so many."""
        indices = (self.nearest, self.witness)
        return all(((index < rows) | (index == NOBODY)).all() for index in indices)


def _best(
    value: NDArray[np.float64],
    index: NDArray[np.int64],
    other_value: NDArray[np.float64],
    other_index: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    take = (other_value < value) | ((other_value == value) & (other_index < index))
    return np.where(take, other_value, value), np.where(take, other_index, index)


@overload(radius)
def _radius(state, row, part):
    if is_state(state, QuotientState):
        return lambda state, row, part: state.reach[row, part]


@overload(slope)
def _slope(state, row, part, number):
    if not is_state(state, QuotientState):
        return None

    def slope(state, row, part, number):
        if state.quotient.shape[0] == 0:
            return np.inf
        q = state.quotient[row, part]  # one that overflowed is only beaten by a lower row's
        return LARGEST if q == np.inf and number < state.witness[row, part] else q

    return slope


@overload(last_row)
def _last_row(state, row, part):
    if is_state(state, QuotientState):
        return lambda state, row, part: state.nearest[row, part]


@overload(steepest)
def _steepest(state, row, part):
    if not is_state(state, QuotientState):
        return None

    def steepest(state, row, part):
        if state.quotient.shape[0] == 0:
            return np.inf, -1
        return state.quotient[row, part], state.witness[row, part]

    return steepest


@overload(within)
def _within(state, row, part):
    if is_state(state, QuotientState):
        return lambda state, row, part: -np.inf


@overload(accept)
def _accept(state, row, part, distance, dy, number, weight):
    if not is_state(state, QuotientState):
        return None

    def accept(state, row, part, distance, dy, number, weight):
        if better(distance, number, state.reach[row, part], state.nearest[row, part]):
            state.reach[row, part] = distance
            state.nearest[row, part] = number
        if state.quotient.shape[0]:
            q = dy / distance if distance > 0.0 else np.inf
            if better(-q, number, -state.quotient[row, part], state.witness[row, part]):
                state.quotient[row, part] = q
                state.witness[row, part] = number

    return accept


@dataclass(frozen=True)
class LargestQuotient:
    """Per row and part the largest ‖Δy‖/d, and the smallest d.

    Attributes
    ----------
    quotients : bool
        Whether Q is more than the reach's reciprocal: labels are not categories.
    """

    quotients: bool = False
    seeds = 1
    single = True
    unproven = False
    boxed = True
    warm = True
    named = 1

    @property
    def cell_bytes(self) -> int:
        return 32 if self.quotients else 16

    def empty(self, rows: int, parts: int) -> QuotientState:
        """A state in which no pair was seen yet."""
        return self._filled(rows, parts, np.inf, 0.0, NOBODY)

    def closed(self, rows: int) -> QuotientState:
        """A state of one part that asks for nothing."""
        return self._filled(rows, 1, -np.inf, np.inf, -1)

    def _filled(self, rows: int, parts: int, reach: float, q: float, index: int) -> QuotientState:
        shape = (rows, parts)
        other = shape if self.quotients else (0, 0)
        indices = (np.full(shape, index, np.int64), np.full(other, index, np.int64))
        return QuotientState(np.full(shape, reach), indices[0], np.full(other, q), indices[1])
