"""Records of the rows that two stores share, side by side, block by block.

A task takes a block of the second store's records and, one after the other, what is in it of a
block of the first one's: nobody holds more than some blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from ..records import BLOCK_ROWS
from .rows import RowMap, RowNumbers

FAR_BLOCKS = 64  # of either store, where any row may be anywhere: the grid stays small
RECORD = 160  # bytes of a joined row, beside what it was joined of
CLOSE = 1e-9  # relative difference of numbers that are the same label in other units
BEFORE = "_before"

Picked = tuple[NDArray[np.int64], NDArray[np.void]]  # places in a block, and their records


def joined_records(before: da.Array, after: da.Array, rows: RowMap) -> da.Array:
    """Return the second store's records with those of the same rows in the first one, lazy.

    Parameters
    ----------
    before, after : dask array (n,), (m,) of records
        Of `Side.records`.
    rows : RowMap

    Returns
    -------
    dask array (m,) of records
        Fields of `after`, the same of `before` under NAME_before, and ``shared`` (whether the first
        store has the row), ``change`` of R, ``order`` (the largest change first), ``relabelled``,
        ``changed`` (whether R or the label differs) and ``other_witness`` (whether that is another
        row than before). Of a new row nothing before is known.
    """
    known = delayed(rows, traverse=False)
    size = _block_rows(rows)
    before, after = before.rechunk(size), after.rechunk(size)
    old, ends = before.to_delayed().ravel(), np.cumsum([0, *after.chunks[0]]).tolist()
    kind = joined_kind(after.dtype)
    blocks = []
    for (lo, hi), block in zip(pairwise(ends), after.to_delayed().ravel(), strict=True):
        numbers = rows.numbers(lo, hi)
        parts = [_pick(old[k], k * size, numbers) for k in _touched(numbers, size)]
        made = delayed(_joined, pure=True)(block, parts, known, kind)
        blocks.append(da.from_delayed(made, (hi - lo,), kind))
    return da.concatenate(blocks)


def joined_kind(record: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of joined records."""
    own = [(name, record[name]) for name in record.names or ()]
    further = [(f"{name}{BEFORE}", kind) for name, kind in own]
    more = [("shared", bool), ("change", np.float64), ("order", np.float64)]
    return np.dtype([*own, *further, *more, ("relabelled", bool), ("changed", bool),
                     ("other_witness", bool)])  # fmt: skip


def joining_memory(rows: RowMap, tasks: int) -> int:
    """Return how many bytes tasks that join records hold at most, so many at once."""
    blocks = max(1, -(-rows.after // _block_rows(rows)))
    # two blocks before, what is picked of them, joined, and what a reduction keeps in order
    return min(tasks, blocks) * min(_block_rows(rows), rows.after) * 5 * RECORD


def _block_rows(rows: RowMap) -> int:
    if rows.source is None:
        return BLOCK_ROWS
    return max(BLOCK_ROWS, -(-max(rows.before, rows.after) // FAR_BLOCKS))


def _touched(numbers: RowNumbers, size: int) -> list[int]:
    """Return the blocks of the first store in which some rows of the second one lie."""
    if numbers.source is not None:
        there = numbers.source[numbers.source >= 0]
        return [int(k) for k in np.unique(there // size)]
    last = min(numbers.hi, numbers.end) - 1
    if last < numbers.lo:
        return []
    ends = numbers._replace(hi=numbers.lo + 1).all()[0], numbers._replace(lo=last, hi=last + 1)
    return list(range(int(ends[0]) // size, int(ends[1].all()[0]) // size + 1))


def _pick(block: Delayed, start: int, numbers: RowNumbers) -> Delayed:
    return delayed(_picked, pure=True)(block, start, numbers)


def _picked(records: NDArray[np.void], start: int, numbers: RowNumbers) -> Picked:
    """Return which rows of a block have their records in another, and those."""
    place = numbers.all() - start
    here = np.flatnonzero((place >= 0) & (place < len(records)))
    return here, records[place[here]]


def _joined(
    records: NDArray[np.void], parts: Sequence[Picked], rows: RowMap, kind: np.dtype[Any]
) -> NDArray[np.void]:
    made = np.zeros(len(records), kind)
    names = records.dtype.names or ()
    for name in names:
        made[name] = records[name]
    made["row_before"] = made["witness_before"] = -1
    for places, found in parts:
        made["shared"][places] = True
        for name in names:
            made[f"{name}{BEFORE}"][places] = found[name]
    there = made["shared"]
    change = made["robustness"] - made["robustness_before"]
    made["change"] = np.where(there, change, np.nan)
    made["order"] = -np.abs(made["change"])
    made["relabelled"] = there & _differ(made["label"], made["label_before"])
    made["changed"] = there & ((change != 0) | made["relabelled"])
    made["other_witness"] = there & (rows.old_rows(made["witness"]) != made["witness_before"])
    return made


def _differ(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    if one.dtype.kind != "f":
        return one != other
    return ~np.isclose(one, other, rtol=CLOSE, atol=0.0)
