"""Rows of a store as an array: sliced like NumPy's, read and checked when they are asked for."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..credentials import without_credentials


class Rows(Protocol):
    """What reads rows: a store, as far as its arrays need to know it."""

    url: str
    rows: int

    def row_shape(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]: ...

    def read(self, name: str, lo: int, hi: int) -> NDArray[Any]: ...

    def chunks(self, name: str) -> list[tuple[int, int]]: ...


class StoredArray:
    """Rows of a stored array: read on slicing, every unit compared with its checksum.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, store: Rows, name: str) -> None:
        self._store, self._name = store, name
        row, self.dtype = store.row_shape(name)
        self.shape = (store.rows, *row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(rows, (int, np.integer)):
            row = range(len(self))[rows]
            picked = self._store.read(self._name, row, row + 1)[0]
            return np.asarray(picked[rest] if rest else picked)
        if isinstance(rows, slice):
            lo, hi, step = rows.indices(len(self))
            if step != 1:
                return self[(np.arange(lo, hi, step), *rest)]
            picked = self._store.read(self._name, lo, max(lo, hi))
        else:
            picked = self._pick(np.asarray(rows))
        return np.asarray(picked[(slice(None), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def _pick(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Read single rows, chunk by chunk."""
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} does not fit {len(self)} rows")
            rows = np.flatnonzero(rows)
        if len(rows) and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} rows do not exist")
        rows = np.where(rows < 0, rows + len(self), rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for first, last in self._store.chunks(self._name):
            a, b = np.searchsorted(ascending, (first, last))
            if a < b:
                lo, hi = int(ascending[a]), int(ascending[b - 1]) + 1
                out[order[a:b]] = self._store.read(self._name, lo, hi)[ascending[a:b] - lo]
        return out

    def __repr__(self) -> str:
        shown = without_credentials(self._store.url)
        return f"<StoredArray {self._name} {self.shape} {self.dtype} of {shown}>"
