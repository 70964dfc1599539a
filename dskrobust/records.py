"""Columns of n rows as records, block by block, and the few that are picked of them.

What is picked is a tree of reductions: no task and no process holds more than some blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .block_tasks import in_one_task

BLOCK_ROWS = 65_536  # as results are stored: every chunk is read once


def as_records(columns: Mapping[str, Any], chunks: Any = None, *, stored: bool = True) -> da.Array:
    """Return columns as records with their row numbers, lazy.

    Parameters
    ----------
    columns : mapping
        Name → array (n,).
    chunks : int or tuple, optional
        Rows of a block; BLOCK_ROWS by default.
    stored : bool
        Whether columns are read from a store, or computed: then a block is one task.

    Returns
    -------
    dask array (n,)
        Records of ``row`` and the columns.
    """
    arrays = {
        name: da.asarray(values).rechunk(chunks or BLOCK_ROWS) for name, values in columns.items()
    }
    first = next(iter(arrays.values()))
    numbers = da.arange(len(first), chunks=first.chunks, dtype=np.int64)
    arrays = {"row": numbers, **arrays}
    dtype = np.dtype([(name, column.dtype) for name, column in arrays.items()])
    made: da.Array = da.map_blocks(
        _record, *arrays.values(), record=dtype, dtype=dtype, meta=np.empty(0, dtype)
    )
    return in_one_task(made) if stored else made


def _record(*columns: NDArray[Any], record: np.dtype[Any]) -> NDArray[np.void]:
    made = np.empty(len(columns[0]), record)
    for name, values in zip(record.names or (), columns, strict=True):
        made[name] = values
    return made


def lowest(records: da.Array, by: str, count: int, where: str | None = None) -> da.Array:
    """Return the records (count,) that are lowest in a column, lazy; ties by row number, NaN last.

    where: a column of truth values; only records that have it are picked.
    """
    pick = partial(_picked, by=by, count=count, where=where)
    return da.reduction(
        records, pick, pick, combine=pick, axis=0, keepdims=True, dtype=records.dtype,
        meta=np.empty(0, records.dtype), output_size=min(count, len(records)),
    )  # fmt: skip


def _picked(
    records: NDArray[np.void], axis: Any, keepdims: bool, by: str, count: int, where: str | None
) -> NDArray[np.void]:
    # a copy, as a view would keep the whole block
    return in_order(records if where is None else records[records[where]], by)[:count].copy()


def ends(records: da.Array, by: str, of: str, count: int, where: str) -> da.Array:
    """Return the `count` lowest and highest records in a column of every value of another; lazy.

    Ties by row number; where: a column of truth values, only records that have it are picked.
    """
    pick = partial(_ends, by=by, of=of, count=count, where=where)
    return da.reduction(
        records, pick, pick, combine=pick, axis=0, keepdims=True, dtype=records.dtype,
        meta=np.empty(0, records.dtype),
    )  # fmt: skip


def _ends(
    records: NDArray[np.void],
    axis: Any,
    keepdims: bool,
    by: str,
    of: str,
    count: int,
    where: str,
) -> NDArray[np.void]:
    records = records[records[where]]
    records = records[np.lexsort((records["row"], records[by], records[of]))]
    _, first, rows = np.unique(records[of], return_index=True, return_counts=True)
    place = np.arange(len(records)) - np.repeat(first, rows)
    near = np.minimum(place, np.repeat(rows, rows) - 1 - place)
    return records[near < count]


def in_order(records: NDArray[np.void], by: str) -> NDArray[np.void]:
    """Return records ascending by a column, then by row number; NaN comes last."""
    return records[np.lexsort((records["row"], records[by]))]


def sample(records: da.Array, count: int) -> da.Array:
    """Return about the same share of every block, drawn at random; all where there are no more.

    The same rows for the same n and count, in their order.
    """
    rows = len(records)
    if rows <= count:
        return records
    blocks = records.rechunk(BLOCK_ROWS)
    ends = np.cumsum((0, *blocks.chunks[0])).tolist()
    sizes = np.diff([count * end // rows for end in ends]).tolist()
    drawn: da.Array = da.map_blocks(
        _drawn, blocks, rows=rows, count=count, chunks=(tuple(sizes),), dtype=records.dtype,
        meta=np.empty(0, records.dtype),
    )  # fmt: skip
    return drawn


def _drawn(records: NDArray[np.void], rows: int, count: int) -> NDArray[np.void]:
    first = int(records["row"][0])
    share = count * (first + len(records)) // rows - count * first // rows
    rng = np.random.default_rng(first)
    return records[np.sort(rng.choice(len(records), share, replace=False))]


def group_ranges(codes: da.Array, values: da.Array, groups: int) -> da.Array:
    """Return number, lowest and largest value of every group, (groups, 3) float64, lazy.

    codes, values (n,): in the same chunks. Of an empty group they are 0, infinity and -infinity.
    """
    blocks = (1,) * len(codes.chunks[0])
    parts = da.map_blocks(
        _ranges, codes, values, groups=groups, new_axis=[1, 2], dtype=np.float64,
        chunks=(blocks, (groups,), (3,)), meta=np.empty((0, 0, 0)),
    )  # fmt: skip
    counts, low, high = (parts[:, :, k] for k in range(3))
    return da.stack([counts.sum(axis=0), low.min(axis=0), high.max(axis=0)], axis=1)


def _ranges(
    codes: NDArray[np.int16], values: NDArray[np.float64], groups: int
) -> NDArray[np.float64]:
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    return np.stack([np.bincount(codes, minlength=groups), low, high], axis=1)[None]


def value_counts(values: da.Array) -> da.Array:
    """Return every value that there is and how many rows have it, ascending, as records; lazy.

    values (n,): as many as occur are in memory at once, with those of a few blocks.
    """
    return summed(values, _counted, np.dtype([("value", values.dtype), ("rows", np.int64)]))


def summed(
    rows: da.Array,
    first: Callable[..., NDArray[np.void]],
    kind: np.dtype[Any],
    keys: Sequence[str] = ("value",),
) -> da.Array:
    """Return the sums of records whose keys are the same, ascending by them; lazy.

    first(block, kind): the records (m,) of a block of rows; kind: their dtype, of which all fields
    but the keys are summed.
    """
    blocks = da.map_blocks(
        first, rows, kind=kind, dtype=kind, meta=np.empty(0, kind),
        chunks=((np.nan,) * len(rows.chunks[0]),),
    )  # fmt: skip
    add = partial(_added, keys=tuple(keys))
    return da.reduction(
        blocks, add, add, combine=add, axis=0, keepdims=True, dtype=kind, meta=np.empty(0, kind)
    )


def _counted(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[np.void]:
    known, rows = np.unique(values, return_counts=True)
    made = np.empty(len(known), kind)
    made["value"], made["rows"] = known, rows
    return made


def _added(
    made: NDArray[np.void], axis: Any, keepdims: bool, keys: tuple[str, ...]
) -> NDArray[np.void]:
    made = made[np.lexsort([made[key] for key in reversed(keys)])]
    other = np.zeros(max(0, len(made) - 1), np.bool_)
    for key in keys:
        other |= made[key][1:] != made[key][:-1]
    starts = np.flatnonzero(np.append(True, other)[: len(made)])
    total = made[starts]
    for name in made.dtype.names or ():
        if name not in keys and len(starts):
            total[name] = np.add.reduceat(made[name], starts)
    return total
