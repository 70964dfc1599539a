"""Every kernel of a run compiled, or loaded from Numba's cache, before its tiles ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import L1, OWN_NORM
from .bounds.prefix import Depths
from .job import PairJob, Rows
from .loop import reduce_tile
from .panel import SHORT_RUN, Panel


@dataclass(frozen=True)
class _MadeUp:
    """Made-up rows of two labels and some mixed ones; prefixes that rule nothing out, or none."""

    values: NDArray[Any]
    depths: Depths | None = None

    def rows(self, side: int, lo: int, hi: int) -> Rows:
        numbers = np.arange(lo, hi)
        labels = np.where(numbers < 2 * SHORT_RUN, numbers // SHORT_RUN, numbers)
        return Rows(numbers, labels[:, None].astype(np.float64), np.zeros(hi - lo, np.int16))

    def features(self, side: int, lo: int, hi: int) -> NDArray[Any]:
        return self.values[lo:hi]

    def prefixes(self, side: int, lo: int, hi: int) -> NDArray[np.float32]:
        return np.zeros((hi - lo, 4), np.float32)

    def cached(self, side: int, lo: int, hi: int, make: Callable[[], Panel]) -> None:
        return None


def warm_up(job: PairJob, dtype: np.dtype[Any], columns: int, *, prefixes: bool = True) -> None:
    """Run every kernel that a job uses once, on a few made-up rows of this dtype.

    prefixes: whether there may be prefixes of rows.
    """
    if job.form.function is not None:
        return
    if job.label_code == OWN_NORM:  # sweeps take it for L1
        job = replace(job, label_code=L1, norm=None)
    n = 3 * SHORT_RUN
    values = (np.arange(n * columns).reshape(n, columns) % 7 + 1).astype(dtype)
    values[:, 0] = np.arange(1, n + 1)  # no two are equal
    ways = [(_MadeUp(values), job)]
    if job.plain:
        _run(ways, n)
        return
    if prefixes and job.form.screened and not job.reduction.quotients:
        ways.append((_MadeUp(values, Depths(columns, 1, 2, 1.0)), job))
    if job.form.boxed(columns):  # what there is for panels whose boxes say too little
        ways.append((_MadeUp(values), replace(job, tuning=replace(job.tuning, boxes=False))))
    ways.append((_MadeUp(np.ones_like(values)), job))  # twins
    _run(ways, n)


def _run(ways: list[tuple[_MadeUp, PairJob]], n: int) -> None:
    for rows, way in ways:
        state = way.reduction.empty(n, way.parts)
        reduce_tile(rows, (n, n), way, state, state)
        state.merge(state)
