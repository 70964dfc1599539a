"""Mean and covariance of features: sums of pieces of rows, which workers make and add in order.

The pieces are the same for every chunking and number of workers, and so is their order: the sums
have the same bits. A product of one thread has them whatever BLAS's number of threads is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .blas import matmul, one_blas_thread

if TYPE_CHECKING:
    import dask.array as da

SUMMED_ROWS = 4_096  # of a piece: the last bits of the sums hang on it
READ_BYTES = 32 * 2**20  # of rows as float64 that are read at once

Piece = NDArray[np.float64]
Sums = list[NDArray[np.float64]]


def mean_and_covariance(X: Any, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (d,) and covariance (d, d) of `scale` times the rows of X.

    Parameters
    ----------
    X : dask array (n, d), or anything sliced by rows
        A Dask array is summed where its tasks run; nobody holds more than some pieces of it.
    scale : float
    """
    rows, columns = X.shape
    total = _sum(X, partial(_sums, scale=scale), np.zeros(columns))
    mean = total / rows
    square = _sum(X, partial(_products, scale=scale, mean=mean), np.zeros((columns, columns)))
    return mean, square / max(rows - 1, 1)


def rows_read(columns: int) -> int:
    """Return how many rows are read at once: whole pieces."""
    return SUMMED_ROWS * max(1, READ_BYTES // (8 * columns * SUMMED_ROWS))


def _sum(X: Any, of: Callable[[Any], Sums], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up what a function makes of all pieces, one after the other."""
    from dask.base import is_dask_collection

    rows, step = X.shape[0], rows_read(X.shape[1])
    if not is_dask_collection(X):
        return reduce(_add, (of(X[lo : lo + step]) for lo in range(0, rows, step)), start)
    return _summed(X.rechunk((step, -1)), of, start)


def _summed(
    X: da.Array, of: Callable[[Any], Sums], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Add them up in a chain of tasks; each goes on from the one before."""
    from dask.delayed import delayed

    make, add = delayed(of, pure=True), delayed(_add, pure=True)
    chain: Any = reduce(add, map(make, X.to_delayed().ravel()), start)
    total: NDArray[np.float64] = chain.compute()
    return total


def _add(total: NDArray[np.float64], sums: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    for one in sums:
        total = total + one
    return total


def _sums(rows: Any, scale: float) -> Sums:
    return [(piece * scale).sum(axis=0) for piece in _pieces(rows)]


def _products(rows: Any, scale: float, mean: NDArray[np.float64]) -> Sums:
    with one_blas_thread():
        centred = (piece * scale - mean for piece in _pieces(rows))
        return [matmul(piece.T, piece.copy()) for piece in centred]  # the sums of a general product


def _pieces(rows: Any) -> Iterator[Piece]:
    """Yield rows that were read at once, so many at a time."""
    read = np.asarray(rows)
    for lo in range(0, len(read), SUMMED_ROWS):
        yield np.asarray(read[lo : lo + SUMMED_ROWS], np.float64)
