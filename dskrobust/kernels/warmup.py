"""Every kernel of a run compiled, on a few made-up rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds.prefix import Depths
from .job import PairJob
from .lists import Neighbours, Selected
from .loop import (
    Counters,
    ReadPanel,
    _reduce_panels,
    _Scratch,
    reduce_tile,
)
from .neighbours import reduce_neighbours
from .panel import SHORT_RUN, make_panel
from .tables import Tables


@dataclass(frozen=True)
class _MadeUpRows:
    """Some rows, with prefixes that rule nothing out or none."""

    rows: NDArray[Any]
    depths: Depths | None

    def features(self, numbers: NDArray[np.int64], side: int) -> NDArray[Any]:
        return self.rows[numbers]

    def prefixes(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.zeros((len(numbers), 4), np.float32)


def warm_up_neighbours(job: PairJob, dtype: np.dtype[Any], columns: int) -> None:
    """Run every kernel of a search once, on a few made-up rows of this dtype."""
    if job.form.function is not None:
        return
    rows = (np.arange(4 * columns).reshape(4, columns) % 7 + 1).astype(dtype)
    some = Selected(np.arange(4), np.zeros(4, np.int16))
    start = Neighbours.empty(some.numbers, 1, 2)
    for depths in (None, Depths(columns, 1, 2, 1.0))[: 1 + job.form.screened]:
        found, _ = reduce_neighbours(_MadeUpRows(rows, depths), some, some, (4, 4), job, start)
        found.merge(found)


class _MadeUpPrefixes:
    """Prefixes that rule nothing out, of made-up rows."""

    def __init__(self, read: ReadPanel, columns: int, rows: int) -> None:
        self.depths, self._prefix = Depths(columns, 1, 2, 1.0), np.zeros((rows, 4), np.float32)
        self._read = read

    def read(
        self, lo: int, hi: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
        return self._prefix[lo:hi], *self._read(lo, hi, 0)[1:]


def warm_up(job: PairJob, dtype: np.dtype[Any], columns: int) -> None:
    """Run every kernel that a job uses once, on a few made-up rows of this dtype."""
    if job.form.function is not None:
        return
    rows = 3 * SHORT_RUN
    features = (np.arange(rows * columns).reshape(rows, columns) % 7 + 1).astype(dtype)
    labels = (np.arange(rows) // SHORT_RUN).astype(np.float64)
    labels[2 * SHORT_RUN :] = np.arange(SHORT_RUN)  # a run of mixed labels behind two pure ones

    def read(
        lo: int, hi: int, side: int
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int16]]:
        return features[lo:hi], labels[lo:hi, None], np.zeros(hi - lo, np.int16)

    whole = (0, rows), (0, rows), (rows, rows)
    reduce_tile(read, *whole, job)
    if job.form.screened and not job.quotients:
        reduce_tile(read, *whole, job, prefixes=_MadeUpPrefixes(read, columns, rows))
    panel = make_panel(0, *read(0, rows, 0), job)
    if panel.forest is not None:  # what there is for panels whose boxes say too little
        tables = Tables.empty(0, rows, job.groups, job.quotients)
        bare = replace(panel, forest=None)
        _reduce_panels(bare, bare, tables, tables, job, _Scratch(job), Counters())
