"""Rows of a store as lazy arrays, and lazy arrays as the tables of a result in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate, pairwise
from math import ceil
from operator import getitem
from typing import Any

import dask.array as da
from dask.base import optimize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize
from numpy.typing import DTypeLike, NDArray

from .engine.events import write_announced
from .records import BLOCK_ROWS
from .store import ResultTables, ResultWriter, SourceAddress, Store


def chunk_sizes(rows: int, most: int) -> tuple[int, ...]:
    """Return how many rows every chunk has, of at most so many."""
    sizes: tuple[int, ...] = da.core.normalize_chunks(most, (rows,))[0]
    return sizes


def lazy_rows(
    name: str,
    read: Callable[[int, int], Any],
    sizes: tuple[int, ...],
    row: tuple[int, ...],
    dtype: DTypeLike,
) -> da.Array:
    """Return an array of which every chunk is read when it is asked for.

    Parameters
    ----------
    name : str
        What Dask calls it: arrays of one name are the same.
    read : callable
        From the first row and the last + 1 to their values.
    sizes : tuple of int
        Rows of every chunk.
    row : tuple of int
        Shape of a row.
    dtype : numpy.dtype
    """
    cuts, zeros = pairwise(accumulate(sizes, initial=0)), (0,) * len(row)
    tasks = {(name, k, *zeros): (read, *cut) for k, cut in enumerate(cuts)}
    return da.Array(tasks, name, (sizes, *((size,) for size in row)), dtype=dtype)


def store_rows(store: Store, name: str, sizes: tuple[int, ...]) -> da.Array:
    """Return a store's features, labels or split, lazy, in chunks of some sizes."""
    layer, (row, dtype) = f"{name}-of-{tokenize(store.address, sizes)}", store.row_shape(name)
    return lazy_rows(layer, partial(_read, store.address, name), sizes, row, dtype)


def _read(address: SourceAddress, name: str, lo: int, hi: int) -> NDArray[Any]:
    return address.open().read(name, lo, hi)


def store_labels(
    store: Store,
    sizes: tuple[int, ...] = (),
    made: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    dtype: DTypeLike | None = None,
) -> da.Array:
    """Return a store's labels (n,), one a row, lazy, in chunks of some sizes.

    made: from labels to what is wanted of them, of that dtype.
    """
    sizes = sizes or chunk_sizes(store.rows, BLOCK_ROWS)
    layer = f"labels-made-{tokenize(store.address, sizes, made)}"
    kind = store.row_shape("labels")[1] if dtype is None else dtype
    return lazy_rows(layer, partial(_read_labels, store.address, made), sizes, (), kind)


def _read_labels(address: SourceAddress, made: Any, lo: int, hi: int) -> NDArray[Any]:
    labels = address.open().read("labels", lo, hi).reshape(hi - lo)
    values: NDArray[Any] = labels if made is None else made(labels)
    return values


def result_tables(
    result: ResultTables, most: int, of: Mapping[str, str] | None = None
) -> dict[str, da.Array]:
    """Return tables of a stored result, lazy, in chunks of at most so many rows.

    of: what an array is called → its table; all tables under their own names without it.
    """
    known, sizes, made = result.tables(), chunk_sizes(result.rows, most), dict[str, da.Array]()
    for name, table in (of or {name: name for name in known}).items():
        (_, *row), dtype = known[table]
        layer, read = f"stored-{name}-{result.token}", partial(result.read, table)
        made[name] = lazy_rows(layer, read, sizes, tuple(row), dtype)
    return made


def result_writes(
    store: Store,
    parameters: Mapping[str, Any],
    tables: Mapping[str, da.Array],
    most: int,
    run: str | None = None,
) -> tuple[ResultWriter, Delayed]:
    """Create the tables of a result; return what commits it, and lazy writes of every chunk.

    Parameters
    ----------
    store : Store
    parameters : mapping
        What the tables depend on beside the data.
    tables : mapping
        Name → lazy array of all rows.
    most : int
        Rows of a chunk.
    run : str, optional
        What the run's events are named by.
    """
    rows, digests = store.rows, tuple(digest for _, digest in store.segments)
    chunk = min(most, rows)
    writer = ResultWriter(store.address, parameters, digests, store.groups, chunk)
    writer.create({name: (a.shape[1:], a.dtype) for name, a in tables.items()})
    arrays = [a.rechunk(dict.fromkeys(range(1, a.ndim), -1)) for a in tables.values()]
    arrays = optimize(*arrays)  # together: they share a graph
    name = f"write-{tokenize(*(a.name for a in arrays))}"
    parts = zip(*(_pieces(a, chunk) for a in arrays), strict=True)
    layer: dict[Any, Any] = {
        (name, k): (write_announced, run, writer.write, k * chunk, list(tables), list(pieces))
        for k, pieces in enumerate(parts)
    }
    layer[name] = [*layer]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=arrays)
    return writer, Delayed(name, graph)


def _pieces(array: da.Array, rows: int) -> list[list[Any]]:
    """Return the tasks, one or more, that make the rows of every chunk of so many.

    `rechunk` would join them by functions of dask.array, which every worker would import.
    """
    zeros, end = (0,) * (array.ndim - 1), 0
    parts: list[list[Any]] = [[] for _ in range(0, len(array), rows)]
    for block, size in enumerate(array.chunks[0]):
        start, end, made = end, end + size, (array.name, block, *zeros)
        for k in range(start // rows, ceil(end / rows)):
            a, b = max(k * rows - start, 0), min((k + 1) * rows - start, size)
            parts[k].append(made if b - a == size else (getitem, made, slice(a, b)))
    return parts
