"""What one pass over rows keeps of every column: spread, range, and whether it only rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOK = 256  # rows that rule most columns out as rising ones


@dataclass(frozen=True)
class ColumnState:
    """Moments, range and order of the columns of consecutive rows; small, merged in row order.

    Attributes
    ----------
    rows : int
    mean, squares : ndarray (d,) float64
        Mean, and sum of squared differences from it, of the values times a unit.
    low, high, first, last : ndarray (d,)
        Least, largest, first and last value.
    steps : ndarray (4, d) bool
        Whether the values rise strictly, fall strictly, never fall, never rise from row to row.
    whole : ndarray (d,) bool
        Whether all values are whole numbers.
    """

    rows: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[Any]
    high: NDArray[Any]
    first: NDArray[Any]
    last: NDArray[Any]
    steps: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    def merge(self, other: ColumnState) -> ColumnState:
        """Return the state of these rows and the ones right behind them."""
        rows = self.rows + other.rows
        gap = other.mean - self.mean
        return ColumnState(
            rows,
            self.mean + gap * (other.rows / rows),
            self.squares + other.squares + gap * gap * (self.rows * other.rows / rows),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.first,
            other.last,
            self.steps & other.steps & _steps(self.last[None], other.first[None]),
            self.whole & other.whole,
        )

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance (d,) of the values times the unit; 0 for constant columns."""
        return np.where(self.constant, 0.0, self.squares / self.rows)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which columns (d,) have a single value."""
        return np.asarray(self.low == self.high)


def column_state(features: NDArray[Any], unit: float = 1.0) -> ColumnState:
    """Sum up features (b, d) of at least one row; `unit` keeps squares of huge values finite."""
    values = features.astype(np.float64)
    if unit != 1.0:
        values *= unit
    mean = values.mean(axis=0)
    values -= mean
    with np.errstate(under="ignore"):
        squares = np.einsum("ij,ij->j", values, values)
    return ColumnState(
        len(features),
        mean,
        squares,
        features.min(axis=0),
        features.max(axis=0),
        features[0],
        features[-1],
        _all_steps(features),
        _are_whole(features),
    )


def _all_steps(features: NDArray[Any]) -> NDArray[np.bool_]:
    found = _steps(features[:LOOK][:-1], features[:LOOK][1:])
    left = np.flatnonzero(found.any(axis=0))
    if len(features) > LOOK and len(left):
        rest = np.ascontiguousarray(features[LOOK - 1 :, left])
        found[:, left] &= _steps(rest[:-1], rest[1:])
    return found


def _steps(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether values rise, fall, do not fall, do not rise from `before` (k, d) to `after`."""
    pairs = after > before, after < before, after >= before, after <= before
    return np.stack([pair.all(axis=0) for pair in pairs])


def _are_whole(features: NDArray[Any]) -> NDArray[np.bool_]:
    if features.dtype.kind != "f":
        return np.ones(features.shape[1], np.bool_)
    whole = np.asarray((features[:LOOK] == np.rint(features[:LOOK])).all(axis=0))
    left = np.flatnonzero(whole)
    if len(features) > LOOK and len(left):
        rest = features[LOOK:, left]
        whole[left] = (rest == np.rint(rest)).all(axis=0)
    return whole
