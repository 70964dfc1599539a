"""Sweeps over a block by bytes: bound every pair, keep those that can matter, compute them.

A pair's distance is at least step·(‖q − q′‖ − e − e′) for the bytes q and errors e of its rows
(see `byte_grid`), so a pair beyond a distance V is one with ‖q − q′‖ > V/step + e + e′.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...metrics import MINKOWSKI
from ..compiling import compiled, kernel
from ..distances import SCRATCH, finish, reduced, unfinish
from ..job import Measure, PairJob
from ..panel import Panel
from ..proof import Block, Side
from ..reductions.base import limit, radius, record, slope
from .byte_grid import SECOND, Coarse, Grid, make_grid
from .byte_norms import ROUNDING, bar_of, byte_distance, measure, power_mean_of_bytes

RUN = 32  # columns looked at together
LARGEST = np.float32(3e38)
TRIAL = 2**21  # pairs until a level is judged
USEFUL = 0.5  # of them may pass

u8, i32, f32 = np.uint8, np.int32, np.float32


class ByteRules(NamedTuple):
    """What the pairs of a tile are bounded and measured by.

    Attributes
    ----------
    measure : Measure
    power : int
        Exponent of the norm that bytes are compared in, 0 for the largest difference.
    steps : ndarray (3,) float64
        From one byte to the next, at every level.
    slack : float
        Relative, for the rounding of float64 distances.
    quotients : bool
        Whether label differences are more than 0 and 1.
    """

    measure: Measure
    power: int
    steps: NDArray[np.float64]
    slack: float
    quotients: bool


class ByteBlock(NamedTuple):
    """A block of pairs with all that its sweep needs.

    Attributes
    ----------
    lead : int
        Level that all pairs are bounded by (0 or 1); 2 sends every pair on.
    dy : ndarray (r, c) float64, or (0, 0) where all labels differ
    block : Block
    rules : ByteRules
    bytes_a, bytes_b : Coarse
        Of the block's positions; the finest level of all rows of the panels.
    a, b : Side
    lanes : ndarray, scratch of `reduced`
    powers : ndarray (256, 256) or (1, 1), or (0, 0) where rows are not uint8
        See `power_mean_of_bytes`.
    """

    lead: int
    dy: NDArray[np.float64]
    block: Block
    rules: ByteRules
    bytes_a: Coarse
    bytes_b: Coarse
    a: Side
    b: Side
    lanes: NDArray[np.float64]
    powers: NDArray[np.float64]


class BlockPairs(NamedTuple):
    """A block of the pairs between two panels, as a tile hands it to the sweeps.

    Attributes
    ----------
    panels : (Panel, Panel)
    parts : (slice, slice)
        Their positions.
    dy : ndarray (r, c) float64, or (0, 0) where all labels differ
    block : Block
    sides : (Side, Side)
    buffer : ndarray (r · c or more,) float32
        Scratch.
    """

    panels: tuple[Panel, Panel]
    parts: tuple[slice, slice]
    dy: NDArray[np.float64]
    block: Block
    sides: tuple[Side, Side]
    buffer: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns it has."""
        return len(self.block.order_a), len(self.block.order_b)


class Bars(NamedTuple):
    """What the results of a block's rows and columns leave to a pair, in steps.

    A pair with ‖q − q′‖ − e − e′ beyond both `far`, reach/step, and beyond ‖Δy‖ times both
    `weight`, 1/(Q·step), changes nothing.

    Attributes
    ----------
    far_a, far_b, error_a, error_b : ndarray (r,), (c,) float32
    weight_a, weight_b : ndarray (r,), (c,) float64
    row : ndarray (c,) float32
        The bars of one row's pairs.
    """

    far_a: NDArray[np.float32]
    far_b: NDArray[np.float32]
    error_a: NDArray[np.float32]
    error_b: NDArray[np.float32]
    weight_a: NDArray[np.float64]
    weight_b: NDArray[np.float64]
    row: NDArray[np.float32]


@kernel()
def _mask(dy, triangle, out):
    """Put pairs of equal labels, and the lower half of a triangle, out of reach."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if dy[i, j] == 0.0 or (triangle and j <= i):
                out[i, j] = f32(np.inf)


@kernel(fastmath={"nnan", "nsz"})
def _nearest(bound, lowest, row):
    """Of every column the smallest bound and its row; returns nothing."""
    for i in range(bound.shape[0]):
        for j in range(bound.shape[1]):
            less = bound[i, j] < lowest[j]
            lowest[j] = bound[i, j] if less else lowest[j]
            row[j] = i32(i) if less else row[j]


@kernel(fastmath={"nnan", "nsz"})
def _smallest(line):
    """Position of the smallest value."""
    best = f32(np.inf)
    for j in range(line.shape[0]):
        best = line[j] if line[j] < best else best
    for j in range(line.shape[0]):
        if line[j] == best:
            return j
    return 0


@kernel()
def prove_pair(i, j, dy, work):
    """Compute the pair of rows i, j as far as it can matter; return whether it was computed."""
    rules, a, b = work.rules, work.a, work.b
    measure, fine, width = rules.measure, work.bytes_a.fine, work.bytes_a.fine.shape[1]
    most = unfinish(measure.code, measure.factor, limit(dy, i, j, work.block, a, b))
    if most < 0.0:
        return False
    value = np.inf
    if fine.shape[0]:
        error = work.bytes_a.fine_error[i] + work.bytes_b.fine_error[j] + 1e-6
        bar = bar_of(rules.power, most * (1.0 + rules.slack) / rules.steps[2] + error, width)
        value = byte_distance(rules.power, fine, i, work.bytes_b.fine, j)
        if value > bar:
            return False
    if work.powers.shape[0] == 0:
        value = reduced(measure.code, measure.p, a.rows[i], b.rows[j], most, work.lanes)
    elif measure.code == MINKOWSKI:
        value = power_mean_of_bytes(measure.p, a.rows, i, b.rows, j, most, work.powers)
    if value < np.inf:
        record(finish(measure.code, measure.factor, value), dy, i, j, work.block, a, b)
    return True


@kernel()
def _note(side, row, cell, work, k, bars):
    """Note what a row's results leave to a pair, in steps.

    cell: the others' part, and whether they are silent; bars: the row's side's (far, weight).
    """
    part, silent = cell
    rules, step = work.rules, work.rules.steps[work.lead]
    near = -np.inf if silent else radius(side.state, row, part)
    value = unfinish(rules.measure.code, rules.measure.factor, near) if near >= 0.0 else -np.inf
    bars[0][k] = value * (1.0 + rules.slack) / step * ROUNDING + 1e-6
    if rules.quotients:
        q = slope(side.state, row, part, -1)
        widening = (1.0 + rules.slack) / step * ROUNDING
        bars[1][k] = 1.0 / q / rules.measure.factor * widening if q > 0.0 else np.inf


@kernel()
def _plain_bars(i, power, bars):
    """bars.row[j] = the largest `byte_distance` at which pair j of row i can matter, float32."""
    far, error, fars, errors, out = (
        bars.far_a[i],
        bars.error_a[i],
        bars.far_b,
        bars.error_b,
        bars.row,
    )
    for j in range(out.shape[0]):
        t = max(far, fars[j]) + (error + errors[j])
        if power == 2:
            t = t * t
        elif power == 3:
            t = t * t * t
        elif power == 4:
            t = (t * t) * (t * t)
        out[j] = min(t, LARGEST)


@kernel()
def _label_bars(i, power, bars, dy):
    """Like `_plain_bars`, where quotients are wanted too; dy (c,): ‖Δy‖ of the row's pairs."""
    far, error, fars, errors, out = (
        bars.far_a[i],
        bars.error_a[i],
        bars.far_b,
        bars.error_b,
        bars.row,
    )
    weight, weights = bars.weight_a[i], bars.weight_b
    for j in range(out.shape[0]):
        t = max(np.float64(max(far, fars[j])), dy[j] * max(weight, weights[j]))
        bar = bar_of(power, t + np.float64(error + errors[j]), SECOND)
        out[j] = f32(bar) if bar < LARGEST else LARGEST


@compiled
def sweep_block(work, bound):
    """Reduce the pairs of one block.

    Parameters
    ----------
    work : ByteBlock
    bound : (rows, columns) float32 buffer

    Returns
    -------
    int, int
        Pairs that passed the first level, pairs computed.
    """
    if work.lead > 1:
        return _every_pair(work)
    rules, block, one, two = work.rules, work.block, work.bytes_a, work.bytes_b
    if work.lead == 0:
        error, errors = one.first_error, two.first_error
        measure(rules.power, one.first, two.first, bound)
    else:
        error, errors = one.second_error, two.second_error
        measure(rules.power, one.second, two.second, bound)
    if work.dy.shape[0] > 0:
        _mask(work.dy, block.triangle, bound)
    n, m = bound.shape
    far_a, far_b = np.empty(n, np.float32), np.empty(m, np.float32)
    error_a, error_b = np.empty(n, np.float32), np.empty(m, np.float32)
    weight_a, weight_b = np.empty(n), np.empty(m)
    mine, theirs = (block.part_a, block.silent_a), (block.part_b, block.silent_b)
    for k in range(n):
        _note(work.a, block.order_a[k], theirs, work, k, (far_a, weight_a))
        error_a[k] = error[k] * ROUNDING
    for k in range(m):
        _note(work.b, block.order_b[k], mine, work, k, (far_b, weight_b))
        error_b[k] = errors[k] * ROUNDING
    row = np.empty(m, np.float32)
    bars = Bars(far_a, far_b, error_a, error_b, weight_a, weight_b, row)
    return _settle_block(work, bound, bars)


@compiled
def _settle_block(work, bound, bars):
    """Settle the nearest pair of every row and column by their bounds, then all that remain."""
    n, m = bound.shape
    passed = proven = 0
    lowest, row = np.full(m, f32(np.inf), np.float32), np.zeros(m, np.int32)
    _nearest(bound, lowest, row)
    for j in range(m):
        proven += _settle(row[j], j, work, bound, bars)
    for i in range(n):
        proven += _settle(i, _smallest(bound[i]), work, bound, bars)
    lead, power, steps, dy = work.lead, work.rules.power, work.rules.steps, work.dy
    one, two, quotients = work.bytes_a, work.bytes_b, work.rules.quotients
    bytes_a, bytes_b, second, seconds = one.second, two.second, one.second_error, two.second_error
    narrower, width = lead == 0 and bytes_a.shape[0] > 0, bytes_a.shape[1]
    fine_a, fine_b, third, thirds = one.fine, two.fine, one.fine_error, two.fine_error
    finer, columns = fine_a.shape[0] > 0, fine_a.shape[1]
    order_a, order_b, far_a, far_b = work.block.order_a, work.block.order_b, bars.far_a, bars.far_b
    fine_ratio, ratio = steps[lead] / steps[2] * ROUNDING, steps[lead] / steps[1] * ROUNDING
    weight_a, weight_b, row_bars = bars.weight_a, bars.weight_b, bars.row
    for i in range(n):
        line = bound[i]
        _row_bars(i, work, bars)
        for start in range(0, m, RUN):
            stop = min(start + RUN, m)
            hits = 0
            for j in range(start, stop):
                hits += line[j] <= row_bars[j]
            if hits == 0:
                continue
            for j in range(start, stop):
                if not line[j] <= row_bars[j]:
                    continue
                passed += 1
                far = np.float64(max(far_a[i], far_b[j]))
                if quotients:
                    far = max(far, dy[i, j] * max(weight_a[i], weight_b[j]))
                if narrower:  # here, because a call with all of the arguments takes longer
                    bar = bar_of(power, far * ratio + second[i] + seconds[j], width)
                    if byte_distance(power, bytes_a, i, bytes_b, j) > bar:
                        continue
                if finer:
                    r, t = order_a[i], order_b[j]
                    bar = bar_of(power, far * fine_ratio + third[r] + thirds[t], columns)
                    if byte_distance(power, fine_a, r, fine_b, t) > bar:
                        continue
                before = far_a[i]
                proven += _settle(i, j, work, bound, bars)
                if far_a[i] < before:
                    _row_bars(i, work, bars)
    return passed, proven


@kernel()
def _row_bars(i, work, bars):
    if work.rules.quotients:
        _label_bars(i, work.rules.power, bars, work.dy[i])
    else:
        _plain_bars(i, work.rules.power, bars)


@kernel()
def _settle(i, j, work, bound, bars):
    """Compute pair (i, j) of a block if it can matter; return whether it was."""
    if bound[i, j] > LARGEST:
        return False
    block = work.block
    r, s = block.order_a[i], block.order_b[j]
    dy = work.dy[i, j] if work.dy.shape[0] else 1.0
    bound[i, j] = f32(np.inf)  # once is enough
    if not prove_pair(r, s, dy, work):
        return False
    mine, theirs = (block.part_a, block.silent_a), (block.part_b, block.silent_b)
    _note(work.a, r, theirs, work, i, (bars.far_a, bars.weight_a))
    _note(work.b, s, mine, work, j, (bars.far_b, bars.weight_b))
    return True


@kernel()
def _every_pair(work):
    """Compute every pair of a block of uint8 rows as far as it can matter."""
    measure, power, slack = work.rules.measure, work.rules.power, work.rules.slack
    block, a, b, proven = work.block, work.a, work.b, 0
    rows_a, rows_b, columns = a.rows, b.rows, a.rows.shape[1]
    n, m = block.order_a.shape[0], block.order_b.shape[0]
    for i in range(n):
        for j in range(i + 1 if block.triangle else 0, m):
            dy = work.dy[i, j] if work.dy.shape[0] else 1.0
            if dy == 0.0:
                continue
            r, s = block.order_a[i], block.order_b[j]
            most = unfinish(measure.code, measure.factor, limit(dy, r, s, block, a, b))
            if most < 0.0:
                continue
            value = byte_distance(power, rows_a, r, rows_b, s)
            if value > bar_of(power, most * (1.0 + slack) + 1e-6, columns):
                continue
            proven += 1
            if measure.code != MINKOWSKI:
                record(finish(measure.code, measure.factor, value), dy, r, s, block, a, b)
            else:
                prove_pair(r, s, dy, work)
    return n * m, proven


class ByteSweeps:
    """The sweeps by bytes of one tile: its grid, and the level that bounds are begun with.

    Levels that spare too little are left: the next one begins, and behind the last one every pair
    is computed, by bytes where rows are bytes, else as without a grid.
    """

    def __init__(self, job: PairJob) -> None:
        self.job, self._lead, self._asked = job, job.tuning.lead, False
        self._grid: Grid | None = None
        self._seen = self._passed = 0
        self._lanes, self._powers = np.empty(SCRATCH), np.empty((0, 0))

    def grid_of(self, rows: NDArray[Any]) -> Grid | None:
        """Return the tile's grid, made from the first panel."""
        if not self._asked:
            self._asked, self._grid = True, make_grid(rows, self.job.form, self.job.tuning)
            if self._grid is not None and self._grid.levels[self._lead % 2] is None:
                self._lead = 0
            if self._grid is not None and rows.dtype == np.uint8:
                size = 256 if self.job.form.code == MINKOWSKI else 1
                self._powers = np.full((size, size), -1.0)
        return self._grid

    def serves(self, a: Panel, b: Panel) -> bool:
        """Whether these panels' pairs are to be reduced here."""
        if a.coarse is None or b.coarse is None:
            return False
        return self._lead < 2 or a.rows.dtype == np.uint8

    def reduce(self, pairs: BlockPairs) -> int:
        """Reduce the pairs of one block; return how many were computed."""
        work, shape = self.work(pairs), pairs.shape
        bound = pairs.buffer[: shape[0] * shape[1]].reshape(shape)
        passed, proven = sweep_block(work, bound)
        self._judge(shape[0] * shape[1], passed)
        return int(proven)

    def work(self, pairs: BlockPairs) -> ByteBlock:
        """A block with all that its sweep needs."""
        grid, job = self._grid, self.job
        assert grid is not None
        rules = ByteRules(
            job.measure, grid.power, grid.steps, grid.slack, job.reduction.quotients
        )  # fmt: skip
        one, two = (_part_of(p.coarse, i) for p, i in zip(pairs.panels, pairs.parts, strict=True))
        return ByteBlock(
            self._lead, pairs.dy, pairs.block, rules, one, two, *pairs.sides, self._lanes,
            self._powers,
        )  # fmt: skip

    def _judge(self, pairs: int, passed: int) -> None:
        """Go on to the next level where this one spares too little, over some blocks."""
        self._seen += pairs
        self._passed += passed
        if self._lead > 1 or self._seen < TRIAL:
            return
        if self._passed > USEFUL * self._seen:
            assert self._grid is not None
            self._lead += 1 if self._grid.levels[self._lead + 1] is not None else 2
        self._seen = self._passed = 0


def _part_of(coarse: Coarse | None, part: slice) -> Coarse:
    """The bytes of some positions; the finest level stays that of all rows."""
    assert coarse is not None
    first, second = coarse.first[part], coarse.second[part]
    errors = coarse.first_error[part], coarse.second_error[part]
    return Coarse(first, second, coarse.fine, *errors, coarse.fine_error)
