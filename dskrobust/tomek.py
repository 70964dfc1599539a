"""Tomek links: pairs of samples with different labels that are each other's nearest."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .neighbours import group_neighbours
from .runs import PairData, RunOptions
from .store import SourceAddress
from .witnesses import at_witness, disagreements


def tomek_links(index: Any, labels: Any) -> da.Array:
    """Return the other end of every row's Tomek link, lazy; -1 where the row is in none.

    Both ends of a link name each other, and a row is in one link at most: of several rows at the
    same distance the lowest row number is the nearest.

    Parameters
    ----------
    index : array (n, k) int64
        Row numbers of every row's nearest rows, whatever their labels, the nearest first; -1 for
        none.
    labels : array (n,)

    Returns
    -------
    dask array (n,) int64
    """
    nearest = da.asarray(index)[:, 0]
    back = at_witness(nearest.astype(np.float64), nearest)  # row numbers below 2⁵³ are exact
    unlike = disagreements(nearest[:, None], labels).rechunk(nearest.chunks)
    rows = da.arange(len(nearest), chunks=nearest.chunks, dtype=np.int64)
    return da.map_blocks(
        _linked, nearest, back.rechunk(nearest.chunks), unlike, rows, dtype=np.int64,
        meta=np.empty(0, np.int64),
    )  # fmt: skip


def _linked(
    nearest: NDArray[np.int64],
    back: NDArray[np.float64],
    unlike: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    return np.where((back == rows) & (unlike > 0), nearest, -1)


class Cleaned(NamedTuple):
    """Rows that stay without Tomek links, lazy.

    Attributes
    ----------
    X : dask array (k, d)
    y : dask array (k,)
    rows : dask array (k,) int64
        Their row numbers, ascending.
    """

    X: da.Array
    y: da.Array
    rows: da.Array


def linked_rows(data: PairData, metric: Any, options: RunOptions | None = None) -> da.Array:
    """Return which rows lie in a Tomek link of their group, (n,) bool, lazy.

    In a store the search is done at once, and kept there.
    """
    lists = group_neighbours(data, metric, 1, options)
    if data.store is not None:
        lists = lists.write()
    return tomek_links(lists.index, data.label_blocks()) >= 0


def cleaned(data: PairData, y: Any, linked: da.Array, dropped: Any) -> Cleaned:
    """Return the rows without those that are linked and of some classes; the search runs here.

    A truth value of every row is kept meanwhile, on the workers where there are some.

    Parameters
    ----------
    data : PairData
    y : array (n,), optional
        Labels as they were given; those of the store without it.
    linked : dask array (n,) bool
    dropped : array (c,)
        Codes of the classes that lose linked rows.
    """
    labels = data.label_blocks()
    X = labels if data.store is not None else da.asarray(data.arrays.X)  # type: ignore[union-attr]
    chunks = X.chunks[0]
    stays = ~(linked.rechunk((chunks,)) & da.isin(labels.rechunk((chunks,)), dropped))
    stays = stays.persist()
    counts = stays.map_blocks(_number, chunks=((1,) * len(chunks),), dtype=np.int64).compute()
    sizes = tuple(counts.tolist())
    numbers = da.arange(data.rows, chunks=(chunks,), dtype=np.int64)
    rows = _taken(numbers, stays, sizes)
    if data.store is None:
        given = da.asarray(y).reshape(data.rows).rechunk((chunks,))
        return Cleaned(_taken(X.rechunk((chunks, -1)), stays, sizes), _taken(given, stays, sizes),
                       rows)  # fmt: skip
    (columns,), dtype = data.store.row_shape("features")
    read = partial(_features, address=data.store.address)
    features = da.map_blocks(
        read, rows, new_axis=1, chunks=(sizes, (columns,)), dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )  # fmt: skip
    return Cleaned(features, _taken(labels, stays, sizes), rows)


def _number(stays: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(stays)])


def _taken(values: da.Array, stays: da.Array, sizes: tuple[int, ...]) -> da.Array:
    marks = stays[:, None] if values.ndim == 2 else stays
    made: da.Array = da.map_blocks(
        _rows_that_stay, values, marks, chunks=(sizes, *values.chunks[1:]), dtype=values.dtype,
        meta=np.empty((0,) * values.ndim, values.dtype),
    )  # fmt: skip
    return made


def _rows_that_stay(values: NDArray[Any], stays: NDArray[np.bool_]) -> NDArray[Any]:
    return values[stays.reshape(len(values))]


def _features(rows: NDArray[np.int64], address: SourceAddress) -> NDArray[Any]:
    """Read the features of some rows of a block, which is read as a whole."""
    lo, hi = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    return address.open().read("features", lo, hi)[rows - lo]
