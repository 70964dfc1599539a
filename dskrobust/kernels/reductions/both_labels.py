"""The nearest row of another label and the nearest of the same, of one pass over the pairs.

Rows are read, projected and sorted once, and every pair of panels is reduced twice: pairs of
different labels, then pairs of the same. Either half is what `LargestQuotient` knows of categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .base import NOBODY, bytes_of
from .largest_quotient import QuotientState

NO_QUOTIENT = np.zeros((0, 0)), np.zeros((0, 0), np.int64)


class BothLabelsState(NamedTuple):
    """The nearest rows so far of consecutive rows, by either pair rule.

    Attributes
    ----------
    reach, nearest : ndarray (n, parts) float64, int64
        Smallest distance to a row of another label and the lowest row number that has it.
    same_reach, same_nearest : ndarray (n, parts) float64, int64
        The same of rows of the same label.
    """

    reach: NDArray[np.float64]
    nearest: NDArray[np.int64]
    same_reach: NDArray[np.float64]
    same_nearest: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    @property
    def different(self) -> QuotientState:
        """Views of what is known of rows of another label."""
        return QuotientState(self.reach, self.nearest, *NO_QUOTIENT)

    @property
    def same(self) -> QuotientState:
        """Views of what is known of rows of the same label."""
        return QuotientState(self.same_reach, self.same_nearest, *NO_QUOTIENT)

    def merge(self, other: BothLabelsState) -> BothLabelsState:
        """Keep the nearer rows of both: associative, commutative, idempotent."""
        different, same = self.different.merge(other.different), self.same.merge(other.same)
        return BothLabelsState(*different[:2], *same[:2])

    def is_within(self, rows: int) -> bool:
        """Whether no pair is with a row that comes later than so many."""
        return self.different.is_within(rows) and self.same.is_within(rows)


@dataclass(frozen=True)
class BothLabels:
    """Per row and part the nearest row of another label, and the nearest of the same."""

    quotients = False
    seeds = 1
    single = True
    unproven = False
    boxed = True
    warm = True
    named = 1
    cell_bytes = 32

    def empty(self, rows: int, parts: int) -> BothLabelsState:
        """A state in which no pair was seen yet."""
        return self._filled((rows, parts), np.inf, NOBODY)

    def closed(self, rows: int) -> BothLabelsState:
        """A state of one part that asks for nothing."""
        return self._filled((rows, 1), -np.inf, -1)

    def _filled(self, shape: tuple[int, int], reach: float, index: int) -> BothLabelsState:
        distances = np.full(shape, reach), np.full(shape, reach)
        indices = np.full(shape, index, np.int64), np.full(shape, index, np.int64)
        return BothLabelsState(distances[0], indices[0], distances[1], indices[1])
