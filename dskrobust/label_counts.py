"""Labels of subsets, counted chunk by chunk: no task reads all labels or all row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from .definitions import norms_of
from .distributions import quantiles
from .members import in_rows, times_of
from .ranking import check_size, chunk_rows, sorted_keys
from .scores import Scores
from .selection import Intervals
from .store import SourceAddress, Store

NAME_BYTES = 100  # of a label's name
AT_ONCE = 8  # tables that one task joins


class Chosen(Protocol):
    """What is counted of a subset: which rows, by ranks of scores or by their numbers."""

    @property
    def indices(self) -> Any: ...
    @property
    def size(self) -> int: ...
    @property
    def scores(self) -> Scores | None: ...
    @property
    def intervals(self) -> Intervals | None: ...


Counts = tuple[NDArray[Any], NDArray[np.int64]]  # labels (k,), and their numbers (k, subsets)


def count_labels(store: Store, subsets: Sequence[Chosen]) -> Counts:
    """Return the labels of a store, (k,), and how often each is in every subset, (k, subsets).

    Raises
    ------
    InvalidOptionError
        For rows that do not exist.
    """
    chunks = _chunks(store)
    starts = np.cumsum([0, *chunks]).tolist()
    blocks = [_times(store, subset, chunks).to_delayed(optimize_graph=False) for subset in subsets]
    parts: list[Any] = [
        delayed(_counted, pure=True)(store.address, (lo, hi), [times[k] for times in blocks])
        for k, (lo, hi) in enumerate(pairwise(starts))
    ]
    while len(parts) > 1:
        joins = (parts[k : k + AT_ONCE] for k in range(0, len(parts), AT_ONCE))
        parts = [delayed(_joined, pure=True)(several) for several in joins]
    labels, counts = compute(*parts)[0]
    for subset, total in zip(subsets, counts.sum(axis=0).tolist(), strict=True):
        check_size(total, subset.size)
    return labels, counts


def counting_memory(count: int, labels: int, subsets: int, tasks: int) -> int:
    """Return how many bytes `count_labels`, and a table of it, hold at most.

    Parameters
    ----------
    count, labels, subsets : int
        Rows of the store, its different labels, and columns of the table.
    tasks : int
        That run at once.
    """
    rows = min(count, chunk_rows(count))
    # labels as read, in order and as codes; of every subset which rows are in it
    read = min(tasks, -(-count // rows)) * rows * (32 + 2 * subsets)
    # counts as made, joined and picked, and shares; names
    return read + labels * (NAME_BYTES + 4 * 8 * subsets)


def label_quantiles(
    store: Store, subsets: Sequence[Chosen], shares: Sequence[float]
) -> list[NDArray[Any]]:
    """Return quantiles of the labels in every subset, or of their norms, as `numpy.quantile` does.

    Labels are sorted in chunks, as R is; only those at the quantiles leave the workers.
    """
    chunks = _chunks(store)
    norm = store.spec.label_norm if len(store.labels.shape) > 1 else None
    rows = da.arange(store.rows, chunks=(chunks,), dtype=np.int64)
    read = partial(_label_sizes, address=store.address, norm=norm)
    sizes = da.map_blocks(read, rows, dtype=np.float64, meta=np.empty(0))
    dtype = np.dtype(np.float64) if norm else store.labels.dtype
    found = [
        quantiles(sorted_keys(sizes, _times(store, subset, chunks), subset.size), subset.size,
                  shares, dtype)
        for subset in subsets
    ]  # fmt: skip
    return list(compute(*found))


def _chunks(store: Store) -> tuple[int, ...]:
    size = chunk_rows(store.rows)
    return tuple(min(size, store.rows - lo) for lo in range(0, store.rows, size))


def _times(store: Store, subset: Chosen, chunks: tuple[int, ...]) -> da.Array:
    """Return how often every row of a store is in a subset, (n,) of bool or int."""
    scores = subset.scores
    if subset.intervals is None or scores is None or scores.rows != store.rows:
        return in_rows(subset.indices, chunks)
    times = times_of(scores, subset.intervals)
    if isinstance(times, da.Array):
        return times
    return (
        da.ones(store.rows, chunks=(chunks,), dtype=bool)
        if times is None
        else da.from_array(times, chunks=(chunks,))
    )


# -- what tasks do ----------------------------------------------------------------------------


def _counted(
    address: SourceAddress, rows: tuple[int, int], times: Sequence[NDArray[Any]]
) -> Counts:
    labels, codes = np.unique(address.open().read("labels", *rows), return_inverse=True)
    repeated = (np.repeat(codes, each) for each in times)
    counts = [np.bincount(each, minlength=len(labels)) for each in repeated]
    return labels, np.stack(counts, axis=1)


def _joined(parts: Sequence[Counts]) -> Counts:
    labels, codes = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    counts = np.zeros((len(labels), parts[0][1].shape[1]), np.int64)
    np.add.at(counts, codes, np.concatenate([p[1] for p in parts]))
    return labels, counts


def _label_sizes(rows: NDArray[np.int64], address: SourceAddress, norm: str | None) -> Any:
    if not len(rows):
        return np.empty(0)
    labels = address.open().read("labels", int(rows[0]), int(rows[-1]) + 1)
    return labels.astype(np.float64) if norm is None else norms_of(labels, norm)
