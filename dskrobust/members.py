"""Which rows groups, reference sets and ranks of scores mean, in order or one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from .errors import Hint, InvalidOptionError
from .ranking import (
    ENDS,
    KEY,
    RUN_ROWS,
    Keys,
    chunk_rows,
    in_chunks,
    row_numbers,
    sorted_keys,
    sorted_run,
)
from .row_sets import GroupRows, RowSet, rows_within
from .scores import Scores
from .selection import Intervals, count_of

BELOW, ABOVE = (-np.inf, -1), (np.inf, np.iinfo(np.int64).max)  # keys beyond all others


def group_size(scores: Scores, code: int | None) -> int:
    """Return how many samples a group has; all together for None."""
    if code is None:
        return scores.rows
    if scores.sizes is not None:
        return scores.sizes[code]
    if scores.store is not None:
        known = scores.store.summary.groups.get(code)
        return known.rows if known else 0
    return int((scores.split == code).sum())


def whole_group(scores: Scores, code: int | None) -> Intervals:
    """Return all ranks of a group; no interval where it is empty."""
    count = group_size(scores, code)
    return ((code, ((0, count),)),) if count else ()


def rows_in(keys: Any) -> Any:
    """Return the row numbers of keys."""
    rows = keys["row"]
    return rows if isinstance(rows, da.Array) else np.ascontiguousarray(rows)


def columns_of(scores: Scores) -> tuple[Any, Any]:
    """Return R and the codes of groups, both lazy and in the same chunks, or neither."""
    values, split = scores.robustness, scores.split
    if isinstance(values, da.Array) or isinstance(split, da.Array):
        return in_chunks(values), in_chunks(split)
    return values, split


def ranked(scores: Scores, code: int | None) -> Any:
    """Return the keys (R and row number) of a group in order, (k,) of `ranking.KEY`."""
    values, split = columns_of(scores)
    return sorted_keys(values, in_group(split, code), group_size(scores, code))


def keys_of(scores: Scores, intervals: Intervals) -> Any:
    """Return the keys of ranks of groups, of all groups in one order."""
    if len(intervals) < 2:
        keys = ranked(scores, intervals[0][0] if intervals else None)
        ranks = intervals[0][1] if intervals else ()
        parts = [keys[start:stop] for start, stop in ranks] or [keys[:0]]
        join = da.concatenate if isinstance(keys, da.Array) else np.concatenate
        return parts[0] if len(parts) == 1 else join(parts)
    size = sum(count_of(ranks) for _, ranks in intervals)
    return sorted_keys(columns_of(scores)[0], times_of(scores, intervals), size)


def times_of(scores: Scores, intervals: Intervals) -> Any:
    """Return whether every row's rank is in intervals, (n,) bool."""
    values, split = columns_of(scores)
    if not isinstance(values, da.Array):
        inside = np.zeros(scores.rows, bool)
        for group in intervals:
            inside[keys_of(scores, (group,))["row"]] = True
        return inside
    if all((group,) == whole_group(scores, group[0]) for group in intervals):
        codes = [code for code, _ in intervals]
        return None if None in codes else da.isin(split, codes)
    return in_intervals(values, split, intervals, lambda code: ranked(scores, code))


def keys_of_rows(scores: Scores, rows: Any, size: int) -> Any:
    """Return the keys of `size` row numbers in order."""
    values, _ = columns_of(scores)
    if isinstance(values, da.Array) or isinstance(rows, da.Array):
        values = in_chunks(values)
        return sorted_keys(values, in_rows(rows, values.chunks[0]), size)
    rows = np.sort(rows)
    return sorted_run(values[rows], rows)


# -- membership -------------------------------------------------------------------------------


def inside(scores: Scores, name: str) -> da.Array:
    """Return whether rows are in a group or reference set, (n,) bool in the chunks of runs.

    Of a store the split is read, or the lists that say it; no scores are computed for it.

    Raises
    ------
    InvalidOptionError
        For an unknown name, or a reference set whose rows these scores do not know.
    """
    code, known = scores.group_code(name), scores.reference_rows or {}
    if name in known:
        return _in_row_set(known[name], scores.rows)
    if code >= len(scores.groups):
        raise InvalidOptionError(
            f"these scores do not know which rows {name!r} has, only what they are scored as",
            Hint(
                "name them again, sample_robustness(store, references={…}): results that are "
                "stored are read",
                "name the set by a selection",
            ),
        )
    if scores.store is not None and scores.sizes is None:  # else its groups are others
        return _in_row_set(GroupRows(scores.store.address, code), scores.rows)
    return in_chunks(scores.split == code)


def _in_row_set(rows: RowSet, count: int) -> da.Array:
    size = chunk_rows(count)
    blocks = [(lo, min(lo + size, count)) for lo in range(0, count, size)]
    name = f"inside-{tokenize(rows.token, str(rows.address), blocks)}"
    layer = {(name, k): (_is_inside, rows.at(*b), *b) for k, b in enumerate(blocks)}
    return da.Array(layer, name, (tuple(hi - lo for lo, hi in blocks),), dtype=bool)


def _is_inside(rows: RowSet, lo: int, hi: int) -> NDArray[np.bool_]:
    found = np.zeros(hi - lo, bool)
    found[rows_within(rows, lo, hi) - lo] = True
    return found


def in_group(split: Any, code: int | None) -> Any:
    """Return whether rows are in a group, (n,) bool; None for all rows."""
    return None if code is None else split == code


def in_intervals(
    values: da.Array,
    split: da.Array,
    intervals: Intervals,
    ranked: Callable[[int | None], da.Array],
) -> da.Array:
    """Return whether the ranks of rows in their groups are in intervals, (n,) bool.

    Parameters
    ----------
    values, split : Dask arrays (n,)
        In the same chunks.
    intervals : Intervals
    ranked : callable
        Returns the keys of a group in order; only those at the ends of intervals are computed.
    """
    ends: list[Any] = []
    codes: list[int | None] = []
    for code, ranks in intervals:
        keys = ranked(code)
        for start, stop in ranks:
            ends.append(BELOW if start == 0 else keys[start : start + 1])
            ends.append(ABOVE if stop == len(keys) else keys[stop - 1 : stop])
            codes.append(code)
    return da.map_blocks(
        _between,
        values,
        row_numbers(values),
        split,
        ends=_joined_ends(ends),
        codes=tuple(codes),
        dtype=bool,
        meta=np.empty(0, bool),
    )


def _joined_ends(ends: Sequence[Any]) -> Delayed:
    """Return the first and last keys of intervals, (k, 2), in a layer of their own."""
    lazy: list[Any] = [end for end in ends if isinstance(end, da.Array)]
    name = f"{ENDS}{tokenize([end.name if isinstance(end, da.Array) else end for end in ends])}"
    parts = [(end.name, 0) if isinstance(end, da.Array) else np.array([end], KEY) for end in ends]
    layer: dict[Any, Any] = {name: (_pairs, parts)}
    return Delayed(name, HighLevelGraph.from_collections(name, layer, dependencies=lazy))


def _pairs(ends: Sequence[Keys]) -> Keys:
    return np.concatenate(ends).reshape(-1, 2)


def _between(
    values: NDArray[Any],
    rows: NDArray[np.int64],
    split: NDArray[np.int16],
    ends: Keys,
    codes: Sequence[int | None],
) -> NDArray[np.bool_]:
    inside = np.zeros(len(values), bool)
    for code, (low, high) in zip(codes, ends, strict=True):
        there = (values > low["value"]) | ((values == low["value"]) & (rows >= low["row"]))
        there &= (values < high["value"]) | ((values == high["value"]) & (rows <= high["row"]))
        inside |= there if code is None else there & (split == code)
    return inside


def in_rows(rows: Any, chunks: tuple[int, ...]) -> da.Array:
    """Return how often every row is among row numbers, (n,) int64.

    Parameters
    ----------
    rows : array (k,) of int
        A Dask array, or one that is in this process.
    chunks : tuple of int
        Rows of the chunks of the result.
    """
    lazy = isinstance(rows, da.Array)
    listed = rows if lazy else da.from_array(np.asarray(rows, np.int64), chunks=RUN_ROWS)
    listed = listed.astype(np.int64)  # of no other kind are they counted
    name = f"members-{tokenize(listed.name, chunks)}"
    starts = np.cumsum([0, *chunks]).tolist()
    layer: dict[Any, Any] = {}
    for k, (lo, hi) in enumerate(pairwise(starts)):
        pieces = [(f"listed-{name}", i, k) for i in range(listed.numblocks[0])]
        for i, piece in enumerate(pieces):
            layer[piece] = (_rows_between, (listed.name, i), lo, hi)
        layer[name, k] = (_times, pieces, lo, hi)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[listed])
    return da.Array(graph, name, (chunks,), dtype=np.int64)


def _rows_between(rows: NDArray[np.int64], lo: int, hi: int) -> NDArray[np.int64]:
    return rows[(rows >= lo) & (rows < hi)]


def _times(pieces: Sequence[NDArray[np.int64]], lo: int, hi: int) -> NDArray[np.int64]:
    return np.bincount(np.concatenate(pieces) - lo, minlength=hi - lo)
