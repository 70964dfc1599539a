"""Rows and their witnesses, joined in a grid: nobody holds more than a few blocks of n rows.

Which row is whose witness is known of all rows only together. So rows are cut into blocks, and a
task takes one block of those that have a witness and one of those that may be it; what it finds is
summed over one side of the grid. Cuts are fixed: sums do not depend on chunks or workers.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

ROWS = 2**21  # of a block: at 10⁸ rows the grid has 48² tasks, and 16 MiB a column


def witness_counts(witness: Any) -> da.Array:
    """Return of how many rows each row is the witness, lazy.

    Parameters
    ----------
    witness : array (n,) int64
        Row numbers; -1 for none.

    Returns
    -------
    dask array (n,) int64
    """
    rows = len(witness)
    starts, ends = _cuts(rows)
    counts = da.blockwise(
        _counted, "st", da.asarray(witness).rechunk((ends,)), "s", starts, "t",
        rows=rows, align_arrays=False, dtype=np.int64, meta=np.empty((0, 0), np.int64),
        adjust_chunks={"s": 1, "t": ends},
    )  # fmt: skip
    return counts.sum(axis=0)


def at_witness(values: Any, witness: Any) -> da.Array:
    """Return a value of every row's witness, lazy; NaN where there is none.

    Parameters
    ----------
    values : array (n,) float64
    witness : array (n,) int64
        Row numbers; -1 for none.

    Returns
    -------
    dask array (n,) float64
    """
    starts, ends = _cuts(len(witness))
    found = da.blockwise(
        _looked_up, "st", da.asarray(witness).rechunk((ends,)), "s",
        da.asarray(values).rechunk((ends,)), "t", starts, "t",
        align_arrays=False, dtype=np.float64, meta=np.empty((0, 0)), adjust_chunks={"t": 1},
    )  # fmt: skip
    return da.reduction(found, _known, _known, axis=1, dtype=np.float64)


def disagreements(index: Any, labels: Any) -> da.Array:
    """Return how many of every row's neighbours have another label, lazy.

    Parameters
    ----------
    index : array (n, k) int64
        Row numbers; -1 for none.
    labels : array (n,)

    Returns
    -------
    dask array (n,) int64
    """
    rows, k = index.shape
    starts, ends = _cuts(rows)
    some = max(1, ROWS // k)
    found = da.blockwise(
        _disagreeing, "st", da.asarray(index).rechunk((some, k)), "sk",
        da.asarray(labels).rechunk(some), "s", da.asarray(labels).rechunk((ends,)), "t",
        starts, "t", align_arrays=False, concatenate=True, dtype=np.int64,
        meta=np.empty((0, 0), np.int64), adjust_chunks={"t": 1},
    )  # fmt: skip
    return found.sum(axis=1)


def _cuts(rows: int) -> tuple[da.Array, tuple[int, ...]]:
    """Return the first rows of the blocks, one a chunk, and how many rows each block has."""
    starts = range(0, rows, ROWS)
    return da.from_array(np.array(starts), chunks=1), tuple(min(ROWS, rows - a) for a in starts)


def _counted(witness: NDArray[np.int64], start: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return how often each row of the block at `start` is among the witnesses, (1, block)."""
    place = witness - start[0]
    block = min(ROWS, rows - int(start[0]))
    here = place[(place >= 0) & (place < block) & (witness >= 0)]
    return np.bincount(here, minlength=block).astype(np.int64)[None]


def _looked_up(
    witness: NDArray[np.int64], values: NDArray[np.float64], start: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the values of the witnesses that lie in the block at `start`, (rows, 1), else NaN."""
    place = witness - start[0]
    here = (place >= 0) & (place < len(values)) & (witness >= 0)
    found = np.full((len(witness), 1), np.nan)
    found[here, 0] = values[place[here]]
    return found


def _disagreeing(
    index: NDArray[np.int64],
    labels: NDArray[Any],
    others: NDArray[Any],
    start: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return how many neighbours in the block at `start` have another label, (rows, 1)."""
    place = index - start[0]
    here = (place >= 0) & (place < len(others)) & (index >= 0)
    unlike = others[np.where(here, place, 0)] != labels[:, None]
    return (here & unlike).sum(axis=1, keepdims=True)


def _known(found: NDArray[np.float64], axis: Any, keepdims: bool) -> NDArray[np.float64]:
    """Return what one of the blocks knows: at most one of them does."""
    known = np.fmax.reduce(found, axis=1)
    return known[:, None] if keepdims else known
