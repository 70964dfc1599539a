"""Reduce all pairs between two panels: bound by a matrix product, keep few, prove in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..errors import InvalidDataError
from ..metrics import CHORD, FUNCTION
from . import sweep
from .leaves import make_rules, reduce_forests
from .panel import SHORT_RUN, PairJob, Panel, Run, Tables, kernel_rows, make_panel

SIDE = 512  # rows and columns of a product that stays in the second-level cache
NO_LABELS = np.empty((0, 0))

ReadPanel = Callable[[int, int, int], tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int16]]]


@dataclass
class Counters:
    """What a tile did: pairs looked at, pairs proven in float64, rows read, leaves compared.

    A pair that a row of either side looked at counts twice; pairs between boxes do not count.
    """

    pairs: int = 0
    proven: int = 0
    rows_read: int = 0
    leaves: int = 0


class _Scratch:
    """Buffers of one tile's sweeps, so that none is allocated in the inner loop."""

    def __init__(self) -> None:
        self.product = np.empty(SIDE * SIDE, np.float32)
        self.found = np.empty((SIDE * SIDE, 2), np.int32)
        self.dy = np.empty((SIDE, SIDE))
        self._screens: dict[int, NDArray[np.float32]] = {}

    def screen(
        self, side: int, rows: int, columns: int, job: PairJob
    ) -> NDArray[np.float32] | None:
        """The buffer for a side's rounded rows, None where there is no screen."""
        if not job.form.screened:
            return None
        if side not in self._screens:
            self._screens[side] = np.empty((rows, columns), np.float32)
        return self._screens[side]


def reduce_tile(
    read: ReadPanel,
    rows: tuple[int, int],
    columns: tuple[int, int],
    panel_rows: tuple[int, int],
    job: PairJob,
) -> tuple[Tables, Tables, Counters]:
    """Reduce all pairs between two ranges of rows, both sides at once.

    Parameters
    ----------
    read : callable
        read(lo, hi, side) → features (b, d), labels (b, m) float64, split (b,) of those rows.
        Features may be overwritten by the next call for the same side (0 rows, 1 columns).
    rows, columns : (int, int)
        Row numbers [lo, hi) of the two sides: either the same, or apart.
    panel_rows : (int, int)
        How many rows of either side are held at once; memory is proportional to them.
    job : PairJob

    Returns
    -------
    Tables, Tables, Counters
        Partial results of either side (the same object for a tile on the diagonal).
    """
    same = rows == columns
    left = Tables.empty(rows[0], rows[1] - rows[0], job.groups, job.quotients)
    right = left
    if not same:
        right = Tables.empty(columns[0], columns[1] - columns[0], job.groups, job.quotients)
    counters, scratch = Counters(), _Scratch()

    def panel(lo: int, hi: int, side: int) -> Panel:
        counters.rows_read += hi - lo
        features, labels, split = read(lo, hi, side)
        buffer = scratch.screen(side, panel_rows[side], features.shape[1], job)
        return make_panel(lo, features, labels, split, job, buffer)

    def strip(lo: int, hi: int) -> None:
        """One panel of rows against all columns; panels are only held by the call they serve."""
        a, mine = panel(lo, hi, 0), left.part(lo, hi)
        if same:
            _reduce_panels(a, a, mine, mine, job, scratch, counters)
        for start, stop in _cut(hi if same else columns[0], columns[1], panel_rows[1]):
            theirs = right.part(start, stop)
            _reduce_panels(a, panel(start, stop, 1), mine, theirs, job, scratch, counters)

    with one_blas_thread():
        for lo, hi in _cut(*rows, panel_rows[0]):
            strip(lo, hi)
    return left, right, counters


def _cut(lo: int, hi: int, step: int) -> Iterator[tuple[int, int]]:
    for a in range(lo, hi, step):
        yield a, min(a + step, hi)


def _reduce_panels(
    a: Panel,
    b: Panel,
    mine: Tables,
    theirs: Tables,
    job: PairJob,
    scratch: _Scratch,
    counters: Counters,
) -> None:
    """Reduce all pairs between two panels; each pair once where they are the same."""
    if _reduce_forests(a, b, (mine.side(), theirs.side()), job, counters):
        return
    pair = _PanelPair(a, b, mine, theirs, job, scratch, counters)
    for k, run in enumerate(a.runs):
        for other in b.runs[k:] if a is b else b.runs:
            if run.label is not None and run.label == other.label:
                continue
            pair.reduce_runs(run, other)


def _reduce_forests(
    a: Panel, b: Panel, sides: tuple[Any, Any], job: PairJob, counters: Counters
) -> bool:
    """Reduce all pairs between two panels by leaves; False where that is not worth it."""
    if a.forest is None or b.forest is None:
        return False
    rules = make_rules(job.metric, a.rows.shape[1], job.label_code, job.quotients)
    products = job.form.screened and not job.quotients
    done, counts = reduce_forests(a.forest, b.forest, rules, sides, products)
    for name, count in zip(("pairs", "proven", "leaves"), counts.tolist(), strict=True):
        setattr(counters, name, getattr(counters, name) + count)
    return done


class _PanelPair:
    """The pairs between two panels, reduced block by block."""

    def __init__(
        self,
        a: Panel,
        b: Panel,
        mine: Tables,
        theirs: Tables,
        job: PairJob,
        scratch: _Scratch,
        counters: Counters,
    ) -> None:
        self.a, self.b, self.job, self.scratch = a, b, job, scratch
        self.counters, self.mine, self.theirs = counters, mine, theirs
        self.sides = mine.side(), theirs.side()
        # squares of screen lengths per accumulated unit: rows were multiplied by `unit` only
        self.per_unit = job.screen.unit**2
        self.slack = (a.rows.shape[1] + 32) * 2.0**-51 + 2.0**-22

    def reduce_runs(self, run: Run, other: Run) -> None:
        """Reduce the pairs between two runs, in blocks of SIDE × SIDE."""
        for i in _cut(run.lo, run.hi, SIDE):
            for j in _cut(other.lo, other.hi, SIDE):
                triangle = self.a is self.b and i == j
                if self.a is self.b and run is other and j[0] < i[0]:
                    continue
                self.counters.pairs += (i[1] - i[0]) * (j[1] - j[0])
                groups = (run.group, other.group)
                uniform = run.label is not None and other.label is not None
                self._reduce_block(slice(*i), slice(*j), groups, triangle, uniform)

    def _reduce_block(
        self, i: slice, j: slice, groups: tuple[int, int], triangle: bool, uniform: bool
    ) -> None:
        rows = self.a.rows, self.b.rows, self.a.order[i], self.b.order[j]
        if self.job.form.screened and uniform:
            found, count = self._uniform_survivors(i, j, groups)
            dy = NO_LABELS
        else:
            dy = self._label_differences(i, j)
            if self.job.form.code == FUNCTION:
                self._call_function(dy, i, j, triangle, groups)
                return
            if not self.job.form.screened:
                sweep.direct(dy, *rows, triangle, groups, self.job.metric, *self.sides)
                self.counters.proven += dy.size
                return
            found, count = self._survivors(dy, i, j, groups, triangle)
        self.counters.proven += count
        sweep.prove(found, count, dy, *rows, groups, self.job.metric, *self.sides)

    def _product(self, i: slice, j: slice) -> NDArray[np.float32]:
        shape = i.stop - i.start, j.stop - j.start
        out = self.scratch.product[: shape[0] * shape[1]].reshape(shape)
        np.matmul(self.a.screen[i], self.b.screen[j].T, out=out)
        return out

    def _reaches(self, i: slice, j: slice, groups: tuple[int, int], dtype: Any) -> list[Any]:
        """Squared reaches so far of both sides, in screen lengths, rounded up."""
        out = []
        for panel, tables, part, group in (
            (self.a, self.mine, i, groups[1]),
            (self.b, self.theirs, j, groups[0]),
        ):
            order = panel.order[part]
            reach = np.full(len(order), np.inf, dtype)
            sweep.squared_reaches(
                tables.reach[:, group], order, self.job.metric, self.per_unit, self.slack, reach
            )
            out.append(reach)
        return out

    def _uniform_survivors(
        self, i: slice, j: slice, groups: tuple[int, int]
    ) -> tuple[NDArray[np.int32], int]:
        """Candidates between two runs of one label each, and so of different labels."""
        product = self._product(i, j)
        mine, theirs = self._reaches(i, j, groups, np.float32)
        (a_low, a_high), (b_low, b_high) = self.a.norms[:, i], self.b.norms[:, j]
        sweep.tighten(product, a_high, b_high, mine, theirs)
        found = self.scratch.found
        return found, sweep.survivors(product, a_low, b_low, mine, theirs, False, found)

    def _survivors(
        self, dy: NDArray[np.float64], i: slice, j: slice, groups: tuple[int, int], triangle: bool
    ) -> tuple[NDArray[np.int32], int]:
        """Candidates where labels are mixed, real or vectors."""
        product = self._product(i, j)
        bounds = []
        reaches = self._reaches(i, j, groups, np.float64)
        for panel, tables, part, group, reach in (
            (self.a, self.mine, i, groups[1], reaches[0]),
            (self.b, self.theirs, j, groups[0], reaches[1]),
        ):
            quotient = np.zeros(len(reach))
            if self.job.quotients:
                sweep.squared_quotients(
                    tables.quotient[:, group],
                    panel.order[part],
                    self.job.metric,
                    self.per_unit,
                    self.slack,
                    quotient,
                )
            low, high = panel.norms[:, part].astype(np.float64)
            bounds.append(np.stack([low, high, reach, quotient]))
        quotients, found = self.job.quotients, self.scratch.found
        a, b = bounds
        chords = self.job.form.code == CHORD
        gain = (4 / np.pi**2 if chords else 1.0) if quotients else 0.0
        sweep.tighten_quotients(product, dy, a, b, gain)
        return found, sweep.quotient_survivors(product, dy, a, b, quotients, triangle, found)

    def _label_differences(self, i: slice, j: slice) -> NDArray[np.float64]:
        dy = self.scratch.dy[: i.stop - i.start, : j.stop - j.start]
        sweep.label_differences(self.a.labels[i], self.b.labels[j], self.job.label_code, dy)
        return dy

    def _call_function(
        self, dy: NDArray[np.float64], i: slice, j: slice, triangle: bool, groups: tuple[int, int]
    ) -> None:
        """Call the user's metric for every pair with different labels, lower row first."""
        function = self.job.form.function
        assert function is not None
        for u, v in np.argwhere(dy > 0):
            if triangle and v <= u:
                continue
            r, s = int(self.a.order[i][u]), int(self.b.order[j][v])
            x, z = self.a.rows[r], self.b.rows[s]
            if self.a.first + r > self.b.first + s:
                x, z = z, x
            distance = float(function(x, z))
            if not (np.isfinite(distance) and distance >= 0):
                raise InvalidDataError(
                    f"the metric function returned {distance} for rows {self.a.first + r} and "
                    f"{self.b.first + s}; a distance must be finite and not negative"
                )
            sweep.record(distance, dy[u, v], r, s, *groups, *self.sides)
            self.counters.proven += 1


class _BlasThreads:
    """Limits BLAS to one thread while any tile runs in this process.

    The limit belongs to the process, so nested and concurrent tiles share one: the first sets it,
    the last restores it. threadpoolctl lets only the thread that set a limit lift it, so a thread
    of our own does both.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._keeper: ThreadPoolExecutor | None = None
        self._limits = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._keeper = self._keeper or ThreadPoolExecutor(1, "blas-limits")
                self._keeper.submit(self._limit).result()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    assert self._keeper is not None
                    self._keeper.submit(self._limits.close).result()

    def _limit(self) -> None:
        self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))


one_blas_thread = _BlasThreads()


def reduce_rows(
    some: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]],
    block: tuple[int, NDArray[Any], NDArray[np.float64], NDArray[np.int16]],
    job: PairJob,
    tables: Tables,
) -> None:
    """Brute force of a few rows against a block: every pair in float64, no screen, no sorting.

    The second opinion for `verify`: it shares the pair's distance with the engine, nothing else.

    Parameters
    ----------
    some : row numbers (k,), features (k, d), labels (k, m)
    block : first row number, features (b, d), labels (b, m), split (b,)
    tables : Tables of k rows, merged into in place.
    """
    numbers, features, labels = some
    first, others, their_labels, split = block
    rows = kernel_rows(features, 0, job)
    columns = kernel_rows(others, first, job)
    dy = np.empty((len(rows), len(columns)))
    sweep.label_differences(labels, their_labels, job.label_code, dy)
    function = job.form.function
    for k in range(len(rows)):
        distance = np.empty(len(columns))
        if function is None:
            sweep.all_distances(rows[k], columns, job.metric, distance)
        else:
            for j in range(len(columns)):
                pair = (rows[k], columns[j])
                forward = numbers[k] <= first + j
                distance[j] = function(*(pair if forward else pair[::-1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = dy[k] / distance
        for group in np.unique(split):
            at = np.flatnonzero((split == group) & (dy[k] > 0))
            if not len(at):
                continue
            _keep_best(tables.reach, tables.nearest, distance, at, first, (k, int(group)), 1)
            if job.quotients:
                _keep_best(
                    tables.quotient, tables.witness, quotient, at, first, (k, int(group)), -1
                )


def _keep_best(
    values: NDArray[np.float64],
    indices: NDArray[np.int64],
    found: NDArray[np.float64],
    at: NDArray[np.int64],
    first: int,
    cell: tuple[int, int],
    sign: int,
) -> None:
    """Put the smallest (sign 1) or largest (-1) of found[at] into a cell if it is better."""
    best = int(at[np.argmin(sign * found[at])])
    value, index = sign * found[best], first + best
    if (value, index) < (sign * values[cell], indices[cell]):
        values[cell], indices[cell] = found[best], index


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

    reduce_tile(read, (0, rows), (0, rows), (rows, rows), job)
    panel = make_panel(0, *read(0, rows, 0), job)
    if panel.forest is not None:  # what there is for panels whose boxes say too little
        tables = Tables.empty(0, rows, job.groups, job.quotients)
        bare = replace(panel, forest=None)
        _reduce_panels(bare, bare, tables, tables, job, _Scratch(), Counters())
