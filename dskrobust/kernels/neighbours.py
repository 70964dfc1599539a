"""Reduce pairs of queries and reference rows to the k nearest of every query, proven in float64.

The reference rows lie in *parts*; every query has a list of its k nearest in each. Lists of a union
of parts are merged from the lists of the parts, so one pass serves any number of reference sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..metrics import FUNCTION
from .bounds import product as sweep
from .bounds.prefix import Depths, refine
from .distances import SCRATCH, finish, reduced, unfinish
from .job import PairJob, cut, zero_row
from .lists import Neighbours, Selected, _insert
from .loop import SEED_BYTES, SEEDS, SIDE, Counters, call_function
from .panel import Panel, Run, make_panel, make_prefix_panel, margin, with_rows
from .threads import one_blas_thread

NOTHING = np.float32(-np.inf)  # squared reach of a side that wants no pair


class RowReader(Protocol):
    """Reads any rows, by ascending row numbers."""

    @property
    def depths(self) -> Depths | None:
        """How deep prefixes are, None where there are none."""
        ...

    def features(self, numbers: NDArray[np.int64], side: int) -> NDArray[Any]:
        """Features (n, d); may be overwritten by the next call for the same side."""
        ...

    def prefixes(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Prefixes (n, k + 2)."""
        ...


def reduce_neighbours(
    reader: RowReader,
    queries: Selected,
    references: Selected,
    panel_rows: tuple[int, int],
    job: PairJob,
    start: Neighbours,
) -> tuple[Neighbours, Counters]:
    """Find the nearest reference rows of the queries in two blocks.

    Parameters
    ----------
    reader : RowReader
        Side 0 are the queries.
    queries, references : Selected
    panel_rows : (int, int)
        How many rows of either side are held at once.
    job : PairJob
    start : Neighbours
        What is known already, or empty lists; the result includes it.

    Returns
    -------
    Neighbours, Counters
    """
    found, counters = start.copy(), Counters()
    buffers: dict[int, NDArray[np.float32]] = {}

    def panel(rows: Selected, side: int) -> Panel:
        numbers, alike = rows.numbers, np.zeros((len(rows.numbers), 1))

        def features() -> NDArray[Any]:
            counters.rows_read += len(numbers)
            found = reader.features(numbers, side)
            if job.form.unit_rows and not found.any(axis=1).all():
                raise zero_row(int(numbers[np.argmin(found.any(axis=1))]))
            return found

        if reader.depths is None:
            plain = features()
            buffer = _buffer(buffers, side, panel_rows[side], plain.shape[1], job)
            return make_panel(0, plain, alike, rows.codes, job, buffer, leaves=False)
        counters.prefixes_read += len(numbers)
        buffer = _buffer(buffers, side, panel_rows[side], reader.depths.short + 1, job)
        prefixes = _Given(reader.depths, reader.prefixes(numbers), alike, rows.codes)
        return with_rows(make_prefix_panel((0, len(numbers)), prefixes, job, buffer), features, job)

    def strip(mine: Selected) -> None:
        """One panel of queries against all references."""
        a = panel(mine, 0)
        for theirs in references.panels(panel_rows[1]):
            numbers = mine.numbers, theirs.numbers
            _PanelPair(a, panel(theirs, 1), numbers, found, job, counters).reduce()

    with one_blas_thread():
        for mine in queries.panels(panel_rows[0]):
            strip(mine)
    return found, counters


def _buffer(
    buffers: dict[int, NDArray[np.float32]], side: int, rows: int, columns: int, job: PairJob
) -> NDArray[np.float32] | None:
    """The buffer for a side's rounded rows, None where there is no screen."""
    if not job.form.screened:
        return None
    if side not in buffers:
        buffers[side] = np.empty((rows, columns), np.float32)
    return buffers[side]


@dataclass(frozen=True)
class _Given:
    """Prefixes of the rows of a panel, which all have one label and lie in the parts `codes`."""

    depths: Depths
    prefix: NDArray[np.float32]
    labels: NDArray[np.float64]
    codes: NDArray[np.int16]

    def read(
        self, lo: int, hi: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
        return self.prefix, self.labels, self.codes


class _PanelPair:
    """The pairs of a panel of queries and one of references, reduced block by block."""

    def __init__(
        self,
        a: Panel,
        b: Panel,
        numbers: tuple[NDArray[np.int64], NDArray[np.int64]],
        lists: Neighbours,
        job: PairJob,
        counters: Counters,
    ) -> None:
        self.a, self.b, self.lists, self.job, self.counters = a, b, lists, job, counters
        self.numbers = numbers
        self.slots = np.searchsorted(lists.rows, numbers[0][a.order])
        self.product = np.empty(SIDE * SIDE, np.float32)
        self.found = np.empty((SIDE * SIDE, 2), np.int32)

    def reduce(self) -> None:
        """Merge all pairs."""
        for i in (slice(*bounds) for bounds in cut(0, len(self.a), SIDE)):
            for run in self.b.runs:
                if self.job.form.screened:
                    self._seed(i, run)
                for j in (slice(*bounds) for bounds in cut(run.lo, run.hi, SIDE)):
                    self._reduce_block(i, j, run.group)

    def _farthest(self, i: slice, part: int) -> NDArray[np.float64]:
        """Distance of the last listed row of some queries."""
        return self.lists.distance[self.slots[i], part, -1]

    def _matmul(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        out = self.product[: len(a) * len(b)].reshape(len(a), len(b))
        np.matmul(a, b.T, out=out)
        return out

    def _seed(self, i: slice, run: Run) -> None:
        """Prove the nearest of a sample, where most lists are not full, so that sweeps can drop."""
        if np.isinf(self._farthest(i, run.group)).mean() < 0.5:
            return
        k = self.lists.index.shape[2]
        most = min(SEEDS, SIDE, max(k, SEED_BYTES // (4 * self.b.screen.shape[1])))
        sample = np.unique(np.linspace(run.lo, run.hi - 1, most).astype(np.int64))
        product = self._matmul(self.a.screen[i], self.b.screen[sample])
        count = _lowest(product, self.b.norms[0][sample], k, self.found)
        self._prove(count, self.a.order[i], self.b.order[sample], i, run.group)

    def _reduce_block(self, i: slice, j: slice, part: int) -> None:
        a, b, job = self.a, self.b, self.job
        self.counters.pairs += (i.stop - i.start) * (j.stop - j.start)
        if job.form.code == FUNCTION:
            self._call_function(i, j, part)
            return
        if not job.form.screened:
            self._prove(-1, a.order[i], b.order[j], i, part)
            return
        reach = np.full(i.stop - i.start, np.inf, np.float32)
        nothing = np.full(j.stop - j.start, NOTHING, np.float32)
        farthest, every = self._farthest(i, part), np.arange(i.stop - i.start)
        sweep.squared_reaches(farthest, every, job.metric, a.per_unit, a.slack, reach)
        product = self._matmul(a.screen[i], b.screen[j])
        lows = a.norms[0, i], b.norms[0, j]
        count = sweep.survivors(product, *lows, reach, nothing, self.found)
        if a.prefix is not None and b.prefix is not None:
            self.counters.screened += count
            mine, theirs = a.refinable(i, reach), b.refinable(j, nothing)
            count = int(refine(self.found, count, mine, theirs, margin(a.prefix.shape[1])))
        if count:
            self._prove(count, a.order[i], b.order[j], i, part)

    def _prove(
        self,
        count: int,
        mine: NDArray[np.int64],
        theirs: NDArray[np.int64],
        i: slice,
        part: int,
    ) -> None:
        """Compute the listed pairs (all of them for a count of −1) and merge them."""
        self.counters.proven += count if count >= 0 else len(mine) * len(theirs)
        lists = self.lists.distance[:, part], self.lists.index[:, part], self.slots[i]
        a, b = (self.a.rows, mine), (self.b.rows, theirs, self.numbers[1])
        _prove(self.found, count, a, b, self.job.metric, lists)

    def _call_function(self, i: slice, j: slice, part: int) -> None:
        """Call the user's metric for every pair, lower row first."""
        distance, index = self.lists.distance[:, part], self.lists.index[:, part]
        for position in range(i.start, i.stop):
            slot, r = self.slots[position], int(self.a.order[position])
            for s in self.b.order[j].tolist():
                numbers = int(self.numbers[0][r]), int(self.numbers[1][s])
                value = call_function(self.job, (self.a.rows[r], self.b.rows[s]), numbers)
                _insert(distance[slot], index[slot], value, numbers[1])
                self.counters.proven += 1


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _lowest(product, b_low, k, found):  # type: ignore[no-untyped-def]
    """List for every row the k columns with the smallest low bounds."""
    columns = product.shape[1]
    size = min(k, columns)
    low = np.empty(size, np.float32)
    where = np.empty(size, np.int32)
    count = 0
    for i in range(product.shape[0]):
        low[:] = np.inf
        for j in range(columns):
            value = b_low[j] - (product[i, j] + product[i, j])
            if value >= low[size - 1]:
                continue
            at = size - 1
            while at > 0 and value < low[at - 1]:
                low[at], where[at] = low[at - 1], where[at - 1]
                at -= 1
            low[at], where[at] = value, j
        for m in range(size):
            if low[m] < np.inf:
                found[count, 0], found[count, 1] = i, where[m]
                count += 1
    return count


@njit(nogil=True, cache=True)
def _prove(found, count, a, b, metric, lists):  # type: ignore[no-untyped-def]
    """Compute the listed pairs of a block, or every pair (count −1), and merge them.

    a, b: (rows, order[, row numbers]) of the sides; lists: (distance, index, slots).
    """
    (rows_a, order_a), (rows_b, order_b, numbers) = a, b
    (code, p, factor), (distance, index, slots) = metric, lists
    lanes, last = np.empty(SCRATCH), distance.shape[1] - 1
    columns = order_b.shape[0]
    for s in range(count if count >= 0 else order_a.shape[0] * columns):
        u, v = (found[s, 0], found[s, 1]) if count >= 0 else (s // columns, s % columns)
        slot, row = slots[u], order_b[v]
        limit = unfinish(code, factor, distance[slot, last])
        value = reduced(code, p, rows_a[order_a[u]], rows_b[row], limit, lanes)
        if value < np.inf:
            _insert(distance[slot], index[slot], finish(code, factor, value), numbers[row])
