"""Where tiles read rows from: a store by its address, or arrays in this process."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from dask.tokenize import tokenize
from numpy.typing import NDArray

from ..datasets.labelled import LabelledArrays
from ..store import Block, LazyRows, SourceAddress, is_zarr


class Source(Protocol):
    """Anything that tiles can read rows from, in this process or another; a `Store` is one."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def unit_rows(self) -> int:
        """Rows that are decoded together; 1 where any rows are read alike."""
        ...

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows lo:hi of the features, labels or split, perhaps in `out`."""
        ...


class ArraySource:
    """Rows of arrays that live where the tasks run (NumPy) or can be opened there (Zarr).

    Parameters
    ----------
    X : array (n, d)
    y : array (n,) or (n, m), numbers
    split : ndarray (n,) int16
    """

    def __init__(self, X: Any, y: Any, split: NDArray[np.int16]) -> None:
        self.X, self.y, self.split = X, y, split
        chunks = getattr(X, "chunks", None)
        self.unit_rows = int(chunks[0]) if chunks and is_zarr(X) else 1

    @property
    def rows(self) -> int:
        return int(self.X.shape[0])

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows lo:hi, as views where the arrays are in memory."""
        values = np.asarray(
            {"features": self.X, "labels": self.y, "split": self.split}[name][lo:hi]
        )
        if values.dtype.kind == "b":
            return values.astype(np.uint8)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def __dask_tokenize__(self) -> Any:
        if any(isinstance(a, LazyRows) or is_zarr(a) for a in (self.X, self.y)):
            return ("ArraySource", uuid.uuid4().hex)  # what a file holds may change
        return ("ArraySource", tokenize(self.X, self.y, self.split))


class StackedSource:
    """Sources one after another; what is read at once lies in one of them."""

    unit_rows = 1

    def __init__(self, parts: Sequence[ArraySource]) -> None:
        self.parts = tuple(parts)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows lo:hi."""
        start = 0
        for part in self.parts:
            if lo < start + part.rows:
                return part.read(name, lo - start, hi - start, out)
            start += part.rows
        raise IndexError(f"rows {lo} to {hi} lie beyond the {start} rows there are")


def array_source(data: LabelledArrays) -> ArraySource:
    """Return labelled arrays as tiles read them."""
    return ArraySource(data.X, data.y, data.split)


def open_source(source: Source | SourceAddress) -> Source:
    """Return what reads the rows."""
    return source.open() if isinstance(source, SourceAddress) else source


def read_block(source: Source, lo: int, hi: int) -> Block:
    """Return features, labels and split of rows lo:hi."""
    return Block(*(source.read(name, lo, hi) for name in ("features", "labels", "split")))
