"""Sweeps over a block by bytes: bound every pair, keep those that can matter, compute them.

A pair's distance is at least step·(‖q − q′‖ − e − e′) for the bytes q and errors e of its rows
(see `coarse`), so a pair beyond a distance V is one with ‖q − q′‖ > V/step + e + e′.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ...metrics import MINKOWSKI
from ..distances import SCRATCH, finish, power_bar, reduced, unfinish
from ..reductions import limit_of, record
from .byte_grid import SECOND, Grid, make_grid

if TYPE_CHECKING:
    from ..job import PairJob
    from ..panel import Panel

RUN = 32  # columns looked at together
WIDTH = 64  # bytes of the first level's rows, nearly always
ROUNDING = 1.0 + 2.0**-15  # more than float32 thresholds, and sums of NARROW terms, are off
LARGEST = np.float32(3e38)
FIRST_LEAD = 0  # the level to begin with
TRIAL = 2**21  # pairs until a level is judged
USEFUL = 0.5  # of them may pass
LOOSE = {"reassoc", "nsz", "contract"}  # for bounds only

u8, i32, f32 = np.uint8, np.int32, np.float32


@njit(nogil=True, cache=True)
def _sum_of_sizes(a, i, b, j):  # type: ignore[no-untyped-def]
    """Σ|a − b| of rows i and j. (abs of int32 is what LLVM makes psadbw of.)"""
    total = i32(0)
    for k in range(a.shape[1]):
        total = i32(total + abs(i32(i32(a[i, k]) - i32(b[j, k]))))
    return total


@njit(nogil=True, cache=True)
def _largest_of_bytes(a, i, b, j):  # type: ignore[no-untyped-def]
    """max|a − b| of rows i and j, in byte lanes."""
    top = u8(0)
    for k in range(a.shape[1]):
        top = max(top, u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k])))
    return top


@njit(nogil=True, cache=True, fastmath=LOOSE)
def _sum_of_powers(power, a, i, b, j):  # type: ignore[no-untyped-def]
    """Σ|a − b|^power of bytes, in float32."""
    total = f32(0)
    if power == 2:
        for k in range(a.shape[1]):
            t = f32(u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k])))
            total += f32(t * t)
    elif power == 3:
        for k in range(a.shape[1]):
            t = f32(u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k])))
            total += f32(f32(t * t) * t)
    else:
        for k in range(a.shape[1]):
            t = f32(u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k])))
            total += f32(f32(t * t) * f32(t * t))
    return total


@njit(nogil=True, cache=True, inline="always")
def apart(power, a, i, b, j):  # type: ignore[no-untyped-def]
    """‖a[i] − b[j]‖ to the power (0: the largest), float64; exact for powers 0 and 1.

    Whole rows without a look at any limit: most pairs that get here are near. Row numbers and not
    rows, because a view costs as much as a hundred bytes.
    """
    if power == 0:
        found = np.float64(_largest_of_bytes(a, i, b, j))
    elif power == 1:
        found = np.float64(_sum_of_sizes(a, i, b, j))
    else:
        found = np.float64(_sum_of_powers(power, a, i, b, j))
    return found


@njit(nogil=True, cache=True)
def raised(power, value, columns):  # type: ignore[no-untyped-def]
    """A threshold for ‖·‖ as one for `apart`, whose float32 sums are off by up to a term's ulp."""
    rounding = ROUNDING + columns * 2.0**-23
    if power <= 1:
        return value * rounding
    square = value * value
    if power == 2:
        return square * rounding
    return (square * value if power == 3 else square * square) * rounding


@njit(nogil=True, cache=True)
def _measure(power, rows, columns, out):  # type: ignore[no-untyped-def]
    """out[i, j] = `apart` of rows[i] and columns[j], float32."""
    width = rows.shape[1]
    for i in range(rows.shape[0]):
        a, line = rows[i], out[i]
        if power == 1 and width == WIDTH:
            _sizes_of_64(a, columns, line)
        elif power == 0 and width == WIDTH:
            _largest_of_64(a, columns, line)
        else:
            for j in range(columns.shape[0]):
                line[j] = f32(apart(power, rows, i, columns, j))


@njit(nogil=True, cache=True)
def _sizes_of_64(a, columns, out):  # type: ignore[no-untyped-def]
    for j in range(columns.shape[0]):
        b = columns[j]
        total = i32(0)
        for k in range(WIDTH):
            total = i32(total + abs(i32(i32(a[k]) - i32(b[k]))))
        out[j] = f32(total)


@njit(nogil=True, cache=True)
def _largest_of_64(a, columns, out):  # type: ignore[no-untyped-def]
    for j in range(columns.shape[0]):
        b = columns[j]
        top = u8(0)
        for k in range(WIDTH):
            top = max(top, u8(max(a[k], b[k]) - min(a[k], b[k])))
        out[j] = f32(top)


@njit(nogil=True, cache=True)
def _mask(dy, triangle, out):  # type: ignore[no-untyped-def]
    """Put pairs of equal labels, and the lower half of a triangle, out of reach."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if dy[i, j] == 0.0 or (triangle and j <= i):
                out[i, j] = f32(np.inf)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _nearest(bound, lowest, row):  # type: ignore[no-untyped-def]
    """Of every column the smallest bound and its row; returns nothing."""
    for i in range(bound.shape[0]):
        for j in range(bound.shape[1]):
            less = bound[i, j] < lowest[j]
            lowest[j] = bound[i, j] if less else lowest[j]
            row[j] = i32(i) if less else row[j]


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _smallest(line):  # type: ignore[no-untyped-def]
    """Position of the smallest value."""
    best = f32(np.inf)
    for j in range(line.shape[0]):
        best = line[j] if line[j] < best else best
    for j in range(line.shape[0]):
        if line[j] == best:
            return j
    return 0


@njit(nogil=True, cache=True)
def _prove(i, j, dy, job, sides, tables, scratch):  # type: ignore[no-untyped-def]
    """Compute the pair of rows i, j as far as it can matter; return whether it was computed."""
    (code, p, factor), power, steps, slack, (gi, gj) = job
    one, two, rows_a, rows_b = sides
    a, b = tables
    lanes, powers = scratch
    narrow = powers.shape[0] > 0  # the rows are bytes themselves
    value = unfinish(code, factor, limit_of(dy, i, j, gi, gj, a, b))
    room = value * (1.0 + slack)
    if one[2].shape[0]:
        limit = room / steps[2] + one[5][i] + two[5][j] + 1e-6
        found = apart(power, one[2], i, two[2], j)
        if found > raised(power, limit, one[2].shape[1]):
            return False
    if not narrow:
        found = reduced(code, p, rows_a[i], rows_b[j], value, lanes)
    elif code == MINKOWSKI:
        found = power_mean_of_bytes(p, rows_a, i, rows_b, j, value, powers)
    if found < np.inf:
        record(finish(code, factor, found), dy, i, j, gi, gj, a, b)
    return True


@njit(nogil=True, cache=True)
def power_mean_of_bytes(p, a, i, b, j, limit, powers):  # type: ignore[no-untyped-def]
    """distances._power_mean to the last bit, its 255 different terms looked up.

    powers (256, 256): [top, t] = (t/top)^p, a row filled when first needed (negative before).
    """
    top = apart(0, a, i, b, j)
    if top == 0.0:
        return 0.0
    known = powers[np.int64(top)]
    if known[0] < 0.0:
        for t in range(256):
            known[t] = (np.float64(t) / top) ** p
    bar = power_bar(limit, top, p)
    total = 0.0
    for k in range(a.shape[1]):
        total += known[u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k]))]
        if total > bar:
            return np.inf
    return top * total ** (1.0 / p)


@njit(nogil=True, cache=True)
def _room(row, group, side, step, job, k, room, gain):  # type: ignore[no-untyped-def]
    """Set what a row's results leave to a pair, in steps.

    A pair with ‖q − q′‖ − e − e′ beyond both rooms, reach/step, and beyond ‖Δy‖ times both gains,
    1/(Q·step), changes nothing.
    """
    (code, _, factor), _, _, slack, _ = job
    value = unfinish(code, factor, side[1][row, group])
    room[k] = value * (1.0 + slack) / step * ROUNDING + 1e-6
    if side[3].shape[0]:
        q = side[3][row, group]
        gain[k] = 1.0 / q / factor * (1.0 + slack) / step * ROUNDING if q > 0.0 else np.inf


@njit(nogil=True, cache=True)
def _bars(power, room, error, rooms, errors, out):  # type: ignore[no-untyped-def]
    """out[j] = the largest `apart` at which pair j of a row can matter, float32."""
    for j in range(out.shape[0]):
        t = max(room, rooms[j]) + (error + errors[j])
        if power == 2:
            t = t * t
        elif power == 3:
            t = t * t * t
        elif power == 4:
            t = (t * t) * (t * t)
        out[j] = min(t, LARGEST)


@njit(nogil=True, cache=True)
def _label_bars(power, room, error, gain, rooms, errors, gains, dy, out):  # type: ignore[no-untyped-def]
    """Like `_bars`, where quotients are wanted too."""
    for j in range(out.shape[0]):
        t = max(np.float64(max(room, rooms[j])), dy[j] * max(gain, gains[j]))
        bar = raised(power, t + np.float64(error + errors[j]), SECOND)
        out[j] = f32(bar) if bar < LARGEST else LARGEST


@njit(nogil=True, cache=True)
def sweep_block(lead, where, dy, triangle, orders, job, sides, tables, scratch, bound):  # type: ignore[no-untyped-def]
    """Reduce the pairs of one block.

    Parameters
    ----------
    lead : level that all pairs are bounded by (0 or 1); 2 sends every pair on.
    where : (first row, last + 1, first column, last + 1), positions.
    dy : (rows, columns) float64, or empty where all labels differ.
    orders : from positions to rows, of both sides.
    job : (metric, power, steps, slack, groups).
    sides : (Coarse, Coarse, rows, rows).
    tables : both sides' tables, see `record`.
    scratch : (lanes, powers); powers is empty where rows are not uint8.
    bound : (rows, columns) float32 buffer.

    Returns
    -------
    int, int
        Pairs that passed the first level, pairs computed.
    """
    i0, i1, j0, j1 = where
    order_a, order_b = orders[0][i0:i1], orders[1][j0:j1]
    labelled = dy.shape[0] > 0
    if lead > 1:
        return _every_pair(where, dy, triangle, orders, job, sides, tables, scratch)
    power, step, groups = job[1], job[2][lead], job[4]
    one, two = sides[0], sides[1]
    if lead == 0:
        error, errors = one[3][i0:i1], two[3][j0:j1]
        _measure(power, one[0][i0:i1], two[0][j0:j1], bound)
    else:
        error, errors = one[4][i0:i1], two[4][j0:j1]
        _measure(power, one[1][i0:i1], two[1][j0:j1], bound)
    if labelled:
        _mask(dy, triangle, bound)
    n, m = bound.shape
    mine, theirs = np.empty((2, n), np.float32), np.empty((2, m), np.float32)
    gain, gains = np.empty(n), np.empty(m)
    for k in range(n):
        _room(order_a[k], groups[1], tables[0], step, job, k, mine[0], gain)
        mine[1, k] = error[k] * ROUNDING
    for k in range(m):
        _room(order_b[k], groups[0], tables[1], step, job, k, theirs[0], gains)
        theirs[1, k] = errors[k] * ROUNDING
    state = mine, theirs, gain, gains, np.empty(m, np.float32)
    return _settle_block(lead, where, dy, orders, job, sides, tables, scratch, bound, state)


@njit(nogil=True, cache=True)
def _settle_block(lead, where, dy, orders, job, sides, tables, scratch, bound, state):  # type: ignore[no-untyped-def]
    """Settle the nearest pair of every row and column by their bounds, then all that remain."""
    n, m = bound.shape
    passed = proven = 0
    lowest, row = np.full(m, f32(np.inf), np.float32), np.zeros(m, np.int32)
    _nearest(bound, lowest, row)
    args = lead, where, dy, orders, job, sides, tables, scratch
    for j in range(m):
        proven += _settle(row[j], j, args, bound, state)
    for i in range(n):
        proven += _settle(i, _smallest(bound[i]), args, bound, state)
    mine, theirs, gain, gains, bars = state
    (_, power, steps, _, _), (one, two, _, _) = job, sides
    bytes_a, bytes_b, second, seconds = one[1], two[1], one[4], two[4]
    narrower, width = lead == 0 and bytes_a.shape[0] > 0, bytes_a.shape[1]
    fine_a, fine_b, third, thirds = one[2], two[2], one[5], two[5]
    finer, columns = fine_a.shape[0] > 0, fine_a.shape[1]
    (order_a, order_b), fine_ratio = orders, steps[lead] / steps[2] * ROUNDING
    ratio, i0, j0 = steps[lead] / steps[1] * ROUNDING, where[0], where[2]
    quotients = tables[0][3].shape[0] > 0
    for i in range(n):
        line = bound[i]
        _row_bars(i, power, dy, tables, state)
        for start in range(0, m, RUN):
            stop = min(start + RUN, m)
            hits = 0
            for j in range(start, stop):
                hits += line[j] <= bars[j]
            if hits == 0:
                continue
            for j in range(start, stop):
                if not line[j] <= bars[j]:
                    continue
                passed += 1
                room = np.float64(max(mine[0, i], theirs[0, j]))
                if quotients:
                    room = max(room, dy[i, j] * max(gain[i], gains[j]))
                if narrower:  # here, because a call with all of the arguments takes longer
                    limit = room * ratio + second[i0 + i] + seconds[j0 + j]
                    limit = raised(power, limit, width)
                    if apart(power, bytes_a, i0 + i, bytes_b, j0 + j) > limit:
                        continue
                if finer:
                    r, t = order_a[i0 + i], order_b[j0 + j]
                    limit = raised(power, room * fine_ratio + third[r] + thirds[t], columns)
                    if apart(power, fine_a, r, fine_b, t) > limit:
                        continue
                before = mine[0, i]
                proven += _settle(i, j, args, bound, state)
                if mine[0, i] < before:
                    _row_bars(i, power, dy, tables, state)
    return passed, proven


@njit(nogil=True, cache=True)
def _row_bars(i, power, dy, tables, state):  # type: ignore[no-untyped-def]
    mine, theirs, gain, gains, bars = state
    room, error = mine[0, i], mine[1, i]
    if tables[0][3].shape[0]:
        _label_bars(power, room, error, gain[i], theirs[0], theirs[1], gains, dy[i], bars)
    else:
        _bars(power, room, error, theirs[0], theirs[1], bars)


@njit(nogil=True, cache=True)
def _settle(i, j, args, bound, state):  # type: ignore[no-untyped-def]
    """Compute pair (i, j) of a block if it can matter; return whether it was."""
    lead, where, dy, orders, job, sides, tables, scratch = args
    if bound[i, j] > LARGEST:
        return False
    r, s = orders[0][where[0] + i], orders[1][where[2] + j]
    difference = dy[i, j] if dy.shape[0] else 1.0
    bound[i, j] = f32(np.inf)  # once is enough
    if not _prove(r, s, difference, job, sides, tables, scratch):
        return False
    step, groups = job[2][lead], job[4]
    _room(r, groups[1], tables[0], step, job, i, state[0][0], state[2])
    _room(s, groups[0], tables[1], step, job, j, state[1][0], state[3])
    return True


@njit(nogil=True, cache=True)
def _every_pair(where, dy, triangle, orders, job, sides, tables, scratch):  # type: ignore[no-untyped-def]
    """Compute every pair of a block of uint8 rows as far as it can matter."""
    i0, i1, j0, j1 = where
    (code, _, factor), power, _, slack, (gi, gj) = job
    rows_a, rows_b = sides[2], sides[3]
    (a, b), (order_a, order_b) = tables, orders
    plain, columns = code != MINKOWSKI, rows_a.shape[1]
    proven = 0
    for i in range(i0, i1):
        for j in range(i + 1 if triangle else j0, j1):
            difference = dy[i - i0, j - j0] if dy.shape[0] else 1.0
            if difference == 0.0:
                continue
            r, s = order_a[i], order_b[j]
            limit = unfinish(code, factor, limit_of(difference, r, s, gi, gj, a, b))
            found = apart(power, rows_a, r, rows_b, s)
            if found > raised(power, limit * (1.0 + slack) + 1e-6, columns):
                continue
            proven += 1
            if plain:
                record(finish(code, factor, found), difference, r, s, gi, gj, a, b)
            else:
                _prove(r, s, difference, job, sides, tables, scratch)
    return (i1 - i0) * (j1 - j0), proven


class ByteSweeps:
    """The sweeps by bytes of one tile: its grid, and the level that bounds are begun with.

    Levels that spare too little are left: the next one begins, and behind the last one every pair
    is computed, by bytes where rows are bytes, else as without a grid.
    """

    def __init__(self, job: PairJob) -> None:
        self._job, self._lead, self._asked = job, FIRST_LEAD, False
        self._grid: Grid | None = None
        self._seen = self._passed = 0
        self._lanes, self._powers = np.empty(SCRATCH), np.empty((0, 0))

    def grid_of(self, rows: NDArray[Any]) -> Grid | None:
        """Return the tile's grid, made from the first panel."""
        if not self._asked:
            self._asked, self._grid = True, make_grid(rows, self._job.form)
            if self._grid is not None and self._grid.levels[self._lead % 2] is None:
                self._lead = 0
            if self._grid is not None and rows.dtype == np.uint8:
                size = 256 if self._job.form.code == MINKOWSKI else 1
                self._powers = np.full((size, size), -1.0)
        return self._grid

    def serves(self, a: Panel, b: Panel) -> bool:
        """Whether these panels' pairs are to be reduced here."""
        if a.coarse is None or b.coarse is None:
            return False
        return self._lead < 2 or a.rows.dtype == np.uint8

    def reduce(
        self,
        a: Panel,
        b: Panel,
        i: slice,
        j: slice,
        dy: NDArray[np.float64],
        triangle: bool,
        groups: tuple[int, int],
        tables: tuple[Any, Any],
        buffer: NDArray[np.float32],
    ) -> int:
        """Reduce the pairs of one block; return how many were computed."""
        assert self._grid is not None
        where = i.start, i.stop, j.start, j.stop
        rows, columns = i.stop - i.start, j.stop - j.start
        grid = self._grid
        job = self._job.metric, grid.power, grid.steps, grid.slack, groups
        passed, proven = sweep_block(
            self._lead,
            where,
            dy,
            triangle,
            (a.order, b.order),
            job,
            (a.coarse, b.coarse, a.rows, b.rows),
            tables,
            (self._lanes, self._powers),
            buffer[: rows * columns].reshape(rows, columns),
        )
        self._judge(rows * columns, passed)
        return int(proven)

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
