"""Rows and their witnesses, joined in a grid: nobody holds more than a few blocks of n rows.

Which row is whose witness is known of all rows only together. So rows are cut into blocks, and a
task takes one block of those that have a witness and one of those that may be it, and adds what it
finds to what the task before it has found: of the grid only one result a row is held, however many
blocks there are. Cuts are fixed: sums do not depend on chunks or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize
from numpy.typing import DTypeLike, NDArray

ROWS = 2**20  # of a block: at 10⁸ rows the grid has 96² tasks, and 8 MiB a column


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
    blocks = _blocks(len(witness))
    return _folded(_counted, [], [da.asarray(witness).rechunk((blocks,))], blocks, np.int64)


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
    blocks = _blocks(len(witness))
    witness, values = (da.asarray(part).rechunk((blocks,)) for part in (witness, values))
    return _folded(_looked_up, [witness], [values], blocks, np.float64)


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
    index, own = da.asarray(index).rechunk((max(1, ROWS // k), k)), da.asarray(labels)
    of_rows, others = own.rechunk((index.chunks[0],)), own.rechunk((_blocks(rows),))
    return _folded(_disagreeing, [index, of_rows], [others], index.chunks[0], np.int64)


def _blocks(rows: int) -> tuple[int, ...]:
    """Return how many rows each block has."""
    return tuple(min(ROWS, rows - start) for start in range(0, rows, ROWS))


def _folded(
    step: Callable[..., NDArray[Any]],
    own: Sequence[da.Array],
    others: Sequence[da.Array],
    sizes: tuple[int, ...],
    dtype: DTypeLike,
) -> da.Array:
    """Return an array (n,) in blocks of some sizes; each joins its rows with all others in turn.

    step: from what was found so far (None at first), the block's rows [lo, hi), those of the other
    block, and the blocks of `own` and of `others` there to what is found by now.
    """
    arrays: list[Any] = [*own, *others]
    name = f"{step.__name__.strip('_')}-{tokenize(step, sizes, *(a.name for a in arrays))}"
    tasks: dict[Any, Any] = {}
    for i, rows in enumerate(_ranges(sizes)):
        found, mine = None, [(a.name, i, *(0,) * (a.ndim - 1)) for a in own]
        across = _ranges(others[0].chunks[0])
        for j, there in enumerate(across):
            last = j == len(across) - 1
            key = (name, i) if last else (f"{name}-to-{j}", i)
            tasks[key] = (step, found, rows, there, *mine, *((a.name, j) for a in others))
            found = key
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=arrays)
    return da.Array(graph, name, (sizes,), dtype=dtype)


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the rows [lo, hi) of blocks."""
    return [(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _counted(
    found: NDArray[np.int64] | None,
    rows: tuple[int, int],
    there: tuple[int, int],
    witness: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Add how often each row of [lo, hi) is among the witnesses of other rows."""
    lo, hi = rows
    counts = np.bincount(witness[(witness >= lo) & (witness < hi)] - lo, minlength=hi - lo)
    return counts if found is None else np.add(counts, found, out=counts)


def _looked_up(
    found: NDArray[np.float64] | None,
    rows: tuple[int, int],
    there: tuple[int, int],
    witness: NDArray[np.int64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fill in the values of the witnesses that lie in the other block; NaN before."""
    lo, hi = there
    here = (witness >= lo) & (witness < hi)
    filled = np.full(len(witness), np.nan) if found is None else found.copy()
    filled[here] = values[witness[here] - lo]
    return filled


def _disagreeing(
    found: NDArray[np.int64] | None,
    rows: tuple[int, int],
    there: tuple[int, int],
    index: NDArray[np.int64],
    labels: NDArray[Any],
    others: NDArray[Any],
) -> NDArray[np.int64]:
    """Add how many neighbours in the other block have another label."""
    lo, hi = there
    here = (index >= lo) & (index < hi)
    unlike = others[np.where(here, index - lo, 0)] != labels[:, None]
    counts: NDArray[np.int64] = (here & unlike).sum(axis=1)
    return counts if found is None else counts + found
