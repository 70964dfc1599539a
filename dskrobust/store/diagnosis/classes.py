"""Labels and how often each is there, as long as they are few enough to be classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 100_000  # different labels that are counted one by one


@dataclass(frozen=True)
class ClassCounts:
    """Different labels (k,) of some rows, rising, and their rows; both empty beyond MOST."""

    labels: NDArray[Any]
    rows: NDArray[np.int64]
    too_many: bool = False

    def merge(self, other: ClassCounts) -> ClassCounts:
        """Return the counts of both."""
        labels, place = np.unique(np.concatenate([self.labels, other.labels]), return_inverse=True)
        rows = np.zeros(len(labels), np.int64)
        np.add.at(rows, place, np.concatenate([self.rows, other.rows]))
        return _bounded(labels, rows, self.too_many or other.too_many)


def class_counts(labels: NDArray[Any]) -> ClassCounts:
    """Count the labels (b,) or (b, 1)."""
    known, rows = np.unique(labels.reshape(len(labels)), return_counts=True)
    return _bounded(known, rows.astype(np.int64))


def _bounded(labels: NDArray[Any], rows: NDArray[np.int64], too_many: bool = False) -> ClassCounts:
    if too_many or len(labels) > MOST:
        return ClassCounts(labels[:0], rows[:0], True)
    return ClassCounts(labels, rows)
