"""Where tiles read rows from: a store by its address, or arrays in this process."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from dask.tokenize import tokenize
from numpy.typing import NDArray

from ..store import (
    Block,
    LazyRows,
    SourceAddress,
    Store,
    is_zarr,
)


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

    @property
    def rows(self) -> int:
        return int(self.X.shape[0])

    def read_block(self, lo: int, hi: int) -> Block:
        """Return rows lo:hi."""
        features = np.asarray(self.X[lo:hi])
        if features.dtype.kind == "b":
            features = features.astype(np.uint8)
        return Block(features, np.asarray(self.y[lo:hi]), self.split[lo:hi])

    def __dask_tokenize__(self) -> Any:
        if isinstance(self.X, LazyRows) or is_zarr(self.X) or is_zarr(self.y):
            return ("ArraySource", uuid.uuid4().hex)  # what a file holds may change
        return ("ArraySource", tokenize(self.X, self.y, self.split))


class StackedSource:
    """Sources one after another; blocks never reach from one into the next."""

    def __init__(self, parts: Sequence[ArraySource]) -> None:
        self.parts = tuple(parts)

    def read_block(self, lo: int, hi: int) -> Block:
        """Return rows lo:hi."""
        start = 0
        for part in self.parts:
            if lo < start + part.rows:
                return part.read_block(lo - start, hi - start)
            start += part.rows
        raise IndexError(f"rows {lo} to {hi} lie beyond the {start} rows there are")


class Source(Protocol):
    """Anything that tiles can read rows from, in this process or another."""

    def read_block(self, lo: int, hi: int) -> Block:
        """Return rows lo:hi."""
        ...


def open_source(source: Source | SourceAddress) -> Source:
    """Return what reads the rows."""
    return source.open() if isinstance(source, SourceAddress) else source


def split_of(source: Source, lo: int, hi: int) -> NDArray[np.int16]:
    """Return the groups of rows lo:hi."""
    if isinstance(source, Store):
        return source.read("split", lo, hi)
    return source.read_block(lo, hi).split
