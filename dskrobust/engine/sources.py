"""Where tiles read rows from: a store by its address, or arrays in this process."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
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


class _Lent:
    """A read-only array, as of a memory map, that looks like any other to Numba.

    Read-only is a type of its own there, for which all kernels would be compiled once more; they
    write into no rows.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values  # has to stay
        given: dict[str, Any] = dict(values.__array_interface__)
        self.__array_interface__ = {**given, "data": (given["data"][0], False)}


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
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if values.flags.writeable else np.asarray(_Lent(values))

    def __dask_tokenize__(self) -> Any:
        if any(isinstance(a, LazyRows) or is_zarr(a) for a in (self.X, self.y)):
            return ("ArraySource", uuid.uuid4().hex)  # what a file holds may change
        return ("ArraySource", tokenize(self.X, self.y, self.split))


@dataclass(frozen=True)
class StackedSource:
    """New rows behind those of a data set; what is read at once lies in one of both.

    Attributes
    ----------
    fitted, new : Source or SourceAddress
    first_new : int
        Rows of the data set, and so the number of the first new row.
    rows, unit_rows : int
        Of both together, and those of the data set that are decoded together.
    dtype : numpy.dtype
        Of the features, which holds those of both.
    """

    fitted: Source | SourceAddress
    new: Source | SourceAddress
    first_new: int
    rows: int
    unit_rows: int
    dtype: np.dtype[Any]

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows lo:hi."""
        first = self.first_new if lo >= self.first_new else 0
        source = open_source(self.new if first else self.fitted)
        values = source.read(name, lo - first, hi - first)
        if name != "features" or values.dtype == self.dtype:
            return values
        return values.astype(self.dtype)


def array_source(data: LabelledArrays) -> ArraySource:
    """Return labelled arrays as tiles read them."""
    return ArraySource(data.X, data.y, data.split)


def open_source(source: Source | SourceAddress) -> Source:
    """Return what reads the rows."""
    return source.open() if isinstance(source, SourceAddress) else source


def read_block(source: Source, lo: int, hi: int) -> Block:
    """Return features, labels and split of rows lo:hi."""
    return Block(*(source.read(name, lo, hi) for name in ("features", "labels", "split")))
