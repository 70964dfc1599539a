"""Sweeps over a block by bins of bytes, for largest differences: bound LANES pairs at once.

A pair is dropped where one column differs by as much as neither of its rows can use. What is left
is looked at as `byte_sweep` does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...metrics import CHEBYSHEV
from ..compiling import compiled, inlined, kernel
from ..distances import finish, unfinish
from ..job import PairJob
from ..panel import Panel
from ..reductions.base import SMALLEST, last_row, radius, record, slope
from .byte_bins import (
    BINS,
    LANES,
    NOTHING,
    WIDTH,
    Binned,
    Bins,
    choose_columns,
    fill_words,
    list_lanes,
    make_bins,
    or_words,
    put_into_bins,
    sample_rows,
)
from .byte_grid import power_of
from .byte_norms import ROUNDING, byte_distance
from .byte_sweep import BlockPairs, ByteBlock, ByteSweeps, prove_pair

STRIP = 256  # rows between two looks at what their columns still need
FIRST = 64  # of a block whose columns may know little yet
COLD = 32  # pairs that a row is compared with first where it knows none

i16, i64, u64 = np.int16, np.int64, np.uint64


class BinBlock(NamedTuple):
    """A block of pairs and its rows in bins.

    Attributes
    ----------
    work : ByteBlock
    bins : ndarray (r, c) uint8
        Of the block's rows.
    low, high : ndarray (c, BINS) uint8
        See `Bins`.
    bytes : ndarray (c, m) uint8
        Of all positions of the other panel; the block's columns begin at `first`.
    first : int
    least : int
        The difference that columns were chosen for.
    exact : bool
        Whether the largest difference of bytes is the distance.
    cold : bool
        Whether rows that know nothing may be compared with a few first.
    """

    work: ByteBlock
    bins: NDArray[np.uint8]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    bytes: NDArray[np.uint8]
    first: int
    least: int
    exact: bool
    cold: bool


class Needs(NamedTuple):
    """The least differences of bytes at which no pair of a block's rows and columns matters.

    Attributes
    ----------
    a, b : ndarray (r,), (c,) int16
        From 0 to NOTHING.
    errors : (float, float)
        The largest of the rows, of the columns, in steps.
    earliest : (int, int)
        The lowest row numbers.
    widest : float
        The largest ‖Δy‖.
    """

    a: NDArray[np.int16]
    b: NDArray[np.int16]
    errors: tuple[float, float]
    earliest: tuple[int, int]
    widest: float


@inlined()
def _need(side, row, cell, others, widest, error, bin_block):
    """Return the least difference at which no pair of one row matters.

    cell: the others' part, and whether they are silent; others: their largest error and lowest row
    number. A pair at the radius only matters where its row comes early enough.
    """
    rules, exact = bin_block.work.rules, bin_block.exact
    measure, step, errors = rules.measure, rules.steps[2], error + others[0] + 1e-6
    part, silent = cell
    need: Any = 0
    near = -np.inf if silent else radius(side.state, row, part)
    if near >= 0.0:
        value = unfinish(measure.code, measure.factor, near)
        bar = value * (1.0 + rules.slack) / step + errors
        need = i64(bar) + 1 if bar < NOTHING - 1.0 else NOTHING
        if exact and others[1] >= last_row(side.state, row, part):
            ties = finish(measure.code, measure.factor, np.float64(need - 1)) >= near
            need -= 1 if ties and need > 1 else 0
    if rules.quotients:
        q = slope(side.state, row, part, -1)
        if q <= SMALLEST:
            return i16(NOTHING)
        bar = widest / q / measure.factor * (1.0 + rules.slack) / step * ROUNDING + errors
        need = max(need, i64(bar) + 1 if bar < NOTHING - 1.0 else NOTHING)
    return i16(need)


@inlined()
def _need_of_row(i, needs, bin_block):
    work = bin_block.work
    row, block = work.block.order_a[i], work.block
    others, cell = (needs.errors[1], needs.earliest[1]), (block.part_b, block.silent_b)
    error = work.bytes_a.fine_error[row]
    needs.a[i] = _need(work.a, row, cell, others, needs.widest, error, bin_block)


@inlined()
def _need_of_column(j, needs, bin_block):
    work = bin_block.work
    row, block = work.block.order_b[j], work.block
    others, cell = (needs.errors[0], needs.earliest[0]), (block.part_a, block.silent_a)
    error = work.bytes_b.fine_error[row]
    needs.b[j] = _need(work.b, row, cell, others, needs.widest, error, bin_block)


@kernel()
def _extremes(order, error, numbers):
    """Return the largest error and the lowest number of some rows."""
    most, earliest = 0.0, numbers[order[0]]
    for row in order:
        most, earliest = max(most, error[row]), min(earliest, numbers[row])
    return most, earliest


@inlined()
def _settle(i, j, value, needs, bin_block):
    """Compute a pair of a block whose bytes differ by so much; return whether it counts."""
    work = bin_block.work
    block, code = work.block, work.rules.measure.code
    if block.triangle and j <= i:
        return False
    dy = work.dy[i, j] if work.dy.shape[0] else 1.0
    if dy == 0.0:
        return False
    r, s = block.order_a[i], block.order_b[j]
    if bin_block.exact:
        distance = finish(code, work.rules.measure.factor, value)
        record(distance, dy, r, s, block, work.a, work.b)
    elif not prove_pair(r, s, dy, work):
        return False
    _need_of_row(i, needs, bin_block)
    _need_of_column(j, needs, bin_block)
    return True


@kernel()
def _look(i, j, needs, bin_block):
    """Compute a pair of a block if it can matter; return whether it was."""
    work = bin_block.work
    one, other = work.block.order_a[i], work.block.order_b[j]
    value = byte_distance(0, work.bytes_a.fine, one, work.bytes_b.fine, other)
    return value < max(needs.a[i], needs.b[j]) and _settle(i, j, value, needs, bin_block)


@kernel()
def _warm_up(needs, bin_block):
    """Compare rows and columns that know nothing with a few; return how many pairs that were."""
    n, m, computed = needs.a.shape[0], needs.b.shape[0], 0
    block, a, b = bin_block.work.block, bin_block.work.a, bin_block.work.b
    for i in range(n):
        if radius(a.state, block.order_a[i], block.part_b) == np.inf and not block.silent_b:
            for k in range(min(COLD, m)):
                j = (i + k * m // min(COLD, m)) % m
                computed += _look(i, j, needs, bin_block)
    for j in range(m):
        if radius(b.state, block.order_b[j], block.part_a) == np.inf and not block.silent_a:
            for k in range(min(COLD, n)):
                i = (j + k * n // min(COLD, n)) % n
                computed += _look(i, j, needs, bin_block)
    return computed


@kernel()
def _typical(needs, count):
    """Return the median of all needs; count: scratch of NOTHING + 1."""
    count[:] = 0
    for need in needs.a:
        count[need] += 1
    for need in needs.b:
        count[need] += 1
    half = (needs.a.shape[0] + needs.b.shape[0] + 1) // 2
    for need in range(NOTHING):
        half -= count[need]
        if half <= 0:
            return need
    return NOTHING


@kernel()
def _by_need(need, count, out):
    """Sort rows by what they need; count: scratch of NOTHING + 1."""
    count[:] = 0
    for value in need:
        count[value] += 1
    start = 0
    for value in range(NOTHING + 1):
        start, count[value] = start + count[value], start
    for i in range(need.shape[0]):
        out[count[need[i]]] = i
        count[need[i]] += 1


@kernel()
def _end_of_strip(rows, start, need):
    """Return where rows end that need about as much as the one at `start`."""
    stop, own = start + 1, i64(need[rows[start]])
    most = own + (NOTHING - own) // 8
    while stop < rows.shape[0] and stop < start + STRIP and i64(need[rows[stop]]) <= most:
        stop += 1
    return stop


@compiled
def sweep_bins(bin_block):
    """Reduce the pairs of one block.

    Returns
    -------
    int, int
        What its rows need at the median, and pairs computed; nothing is done yet but few pairs
        where the bins are too coarse for that (`outgrown`).
    """
    work = bin_block.work
    order_a, order_b = work.block.order_a, work.block.order_b
    n, m = order_a.shape[0], order_b.shape[0]
    widest = work.dy.max() if work.dy.shape[0] else 1.0
    one = _extremes(order_a, work.bytes_a.fine_error, work.a.numbers)
    two = _extremes(order_b, work.bytes_b.fine_error, work.b.numbers)
    needs = Needs(
        np.empty(n, np.int16), np.empty(m, np.int16), (one[0], two[0]), (one[1], two[1]), widest
    )
    for i in range(n):
        _need_of_row(i, needs, bin_block)
    for j in range(m):
        _need_of_column(j, needs, bin_block)
    computed = _warm_up(needs, bin_block) if bin_block.cold else 0
    count = np.empty(NOTHING + 1, np.int64)
    typical = _typical(needs, count)
    if outgrown(bin_block.least, typical):
        return typical, computed
    rows = np.empty(n, np.int64)
    _by_need(needs.a, count, rows)
    words = np.empty((bin_block.low.shape[0], BINS, WIDTH), np.uint8)
    scratch, least = np.empty((2, LANES), np.uint8), np.empty(LANES, np.int16)
    for first in range(0, m, LANES):
        lanes = least[: min(LANES, m - first)]
        start = 0
        while start < n:
            stop = _end_of_strip(rows, start, needs.a)
            computed += _sweep_strip(
                rows[start:stop], first, lanes, needs, scratch, words, bin_block
            )
            start = stop
    return typical, computed


@compiled
def _sweep_strip(rows, first, lanes, needs, scratch, words, bin_block):
    """Reduce the pairs of some rows with so many columns; return how many were computed."""
    computed, by_eights = 0, words.ravel().view(np.uint64)
    most: Any = 0
    for i in rows:
        _need_of_row(i, needs, bin_block)
        most = max(most, i64(needs.a[i]))
    for j in range(lanes.shape[0]):
        _need_of_column(first + j, needs, bin_block)
        lanes[j] = i16(max(1, i64(needs.b[first + j]), most))
    low, high, columns, bins = bin_block.low, bin_block.high, bin_block.bytes, bin_block.bins
    fill_words(low, high, columns, bin_block.first + first, lanes, scratch, words)
    outside = np.zeros(WIDTH, np.uint8)
    for j in range(lanes.shape[0], LANES):
        outside[j % WIDTH] |= np.uint8(1 << (j // WIDTH))
    work = bin_block.work
    taken, left = np.empty(WIDTH, np.uint8), np.empty(LANES, np.int64)
    eights, fine_a, fine_b = taken.view(np.uint64), work.bytes_a.fine, work.bytes_b.fine
    order_a, order_b, need_a, need_b = work.block.order_a, work.block.order_b, needs.a, needs.b
    for i in rows:
        taken[:] = outside
        if not or_words(by_eights, bins[i], eights):
            continue
        r = order_a[i]
        for k in range(list_lanes(taken, eights, left)):  # calls with all arguments take longer
            j = first + left[k]
            value = byte_distance(0, fine_a, r, fine_b, order_b[j])
            if value < max(need_a[i], need_b[j]):
                computed += _settle(i, j, value, needs, bin_block)
    return computed


@kernel()
def outgrown(least, typical):
    """Whether columns that were chosen for one difference are to be chosen anew for another."""
    return typical < least - max(1, min(least, NOTHING - least) // 4)


class BinSweeps(ByteSweeps):
    """The sweeps by bins of one tile; columns are chosen by its first blocks.

    Rows of floats that bins spare too little of are left, and every pair is computed.
    """

    _least = NOTHING + 4
    _bins: Bins | None = None
    _kept: tuple[tuple[Panel, Binned], ...] = ()

    def reduce(self, pairs: BlockPairs) -> int:
        """Reduce the pairs of one block; return how many were computed."""
        work, panels, shape = self.work(pairs), pairs.panels, pairs.shape
        exact = panels[0].rows.dtype == np.uint8 and work.rules.measure.code == CHEBYSHEV
        proven, kind = 0, (exact, self.job.reduction.seeds > 0)
        if self._bins is None:
            none = np.empty((0, BINS), np.uint8), np.empty((0, BINS), np.uint8)
            rows = np.empty((shape[0], 0), np.uint8), *none, np.empty((0, 0), np.uint8)
            typical, proven = sweep_bins(BinBlock(work, *rows, 0, self._least, *kind))
            self._choose(panels, typical)
        while True:
            assert self._bins is not None
            a, b = (self._binned(panel) for panel in panels)
            self._kept = tuple(zip(panels, (a, b), strict=True))
            bins = a.bins[pairs.parts[0]], self._bins.low, self._bins.high, b.bytes
            bin_block = BinBlock(work, *bins, pairs.parts[1].start, self._least, *kind)
            typical, computed = sweep_bins(bin_block)
            proven += int(computed)
            if not outgrown(self._least, typical):
                self._judge(shape[0] * shape[1], proven)
                return proven
            self._choose(panels, typical)

    def _choose(self, panels: Any, least: int) -> None:
        """Choose columns and bins by some rows of both panels."""
        fine = [panel.coarse.fine for panel in panels]
        few = sample_rows(fine[0].shape[1])
        samples = [rows[np.linspace(0, len(rows) - 1, few).astype(np.int64)] for rows in fine]
        least = max(1, min(least, 255))
        columns = choose_columns(samples[0], samples[1], least)
        self._bins, self._least = make_bins(np.concatenate(samples), columns, least), least
        self._kept = ()

    def _binned(self, panel: Panel) -> Binned:
        """A panel's rows in bins, kept while the panel is one of the pair's."""
        for known, binned in self._kept:
            if known is panel:
                return binned
        assert self._bins is not None
        assert panel.coarse is not None
        binned = put_into_bins(panel.coarse.fine, panel.order, self._bins)
        self._kept = (*self._kept, (panel, binned))
        return binned


def byte_sweeps(job: PairJob) -> ByteSweeps:
    """The sweeps by bytes of one tile."""
    return (BinSweeps if power_of(job.form) == 0 else ByteSweeps)(job)
