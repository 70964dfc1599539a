"""Tomek links: pairs of samples with different labels that are each other's nearest."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

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
