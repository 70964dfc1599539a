"""The best pair of every row and reference part, and how two such tables are merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..definitions import lipschitz_of

NOBODY = np.iinfo(np.int64).max  # index where no pair was seen: comes after every row


@dataclass(frozen=True)
class Tables:
    """Partial results of consecutive rows: per row and reference group the best pair so far.

    Attributes
    ----------
    first : int
        Row number of the first row.
    reach, nearest : ndarray (n, groups) float64, int64
        Smallest distance to a differently labelled row and the lowest row number that has it.
    quotient, witness : ndarray (n, groups) float64, int64, or (0, 0)
        Largest quotient and the lowest row number that has it; empty for categories.
    """

    first: int
    reach: NDArray[np.float64]
    nearest: NDArray[np.int64]
    quotient: NDArray[np.float64]
    witness: NDArray[np.int64]

    @classmethod
    def empty(cls, first: int, rows: int, groups: int, quotients: bool) -> Tables:
        """Tables in which no pair was seen yet."""
        shape = (rows, groups)
        other = shape if quotients else (0, 0)
        return cls(
            first,
            np.full(shape, np.inf),
            np.full(shape, NOBODY),
            np.zeros(other),
            np.full(other, NOBODY),
        )

    @property
    def rows(self) -> int:
        return len(self.reach)

    @property
    def lipschitz(self) -> NDArray[np.float64]:
        """Q of every row against every group, of the pairs that were looked at."""
        return self.quotient if self.quotient.size else lipschitz_of(self.reach)

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.arrays().values())

    def part(self, lo: int, hi: int) -> Tables:
        """Views of rows lo:hi (row numbers)."""
        a, b = lo - self.first, hi - self.first
        quotients = (self.quotient, self.witness)
        if self.quotient.size:
            quotients = (self.quotient[a:b], self.witness[a:b])
        return Tables(lo, self.reach[a:b], self.nearest[a:b], *quotients)

    def copy(self) -> Tables:
        """Tables that may be written to."""
        reach, nearest = self.reach.copy(), self.nearest.copy()
        return Tables(self.first, reach, nearest, self.quotient.copy(), self.witness.copy())

    def side(self) -> tuple[Any, ...]:
        """The tuple that kernels take."""
        return self.first, self.reach, self.nearest, self.quotient, self.witness

    def merge(self, other: Tables) -> Tables:
        """Keep the better of two partial results of the same rows.

        Associative, commutative and idempotent: smaller distance (larger quotient), then the
        lower row number.
        """
        reach, nearest = _merge(self.reach, self.nearest, other.reach, other.nearest)
        quotient, witness = _merge(-self.quotient, self.witness, -other.quotient, other.witness)
        return Tables(self.first, reach, nearest, -quotient + 0.0, witness)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name → array, for writing."""
        named = {"reach": self.reach, "nearest": self.nearest}
        if self.quotient.size:
            named |= {"quotient": self.quotient, "witness": self.witness}
        return named


def _merge(
    value: NDArray[np.float64],
    index: NDArray[np.int64],
    other_value: NDArray[np.float64],
    other_index: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    take = (other_value < value) | ((other_value == value) & (other_index < index))
    return np.where(take, other_value, value), np.where(take, other_index, index)
