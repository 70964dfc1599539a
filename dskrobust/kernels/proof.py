"""Pairs computed in float64 from the rows themselves: what every result is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiling import compiled, inlined, kernel
from .distances import LANES, SCRATCH, finish, reduced, unfinish
from .label_distances import ANY, label_difference
from .reductions import State
from .reductions.base import limit, radius, record, slope
from .row_sums import AT_ONCE, LEAST, accumulate_row, by_column, has_row_sums

NO_DIFFERENCES = np.empty(0)
TINY = 1e-40  # squared; above what float32 loses below its normal numbers


class Side(NamedTuple):
    """One side of a pair of panels.

    Attributes
    ----------
    rows : ndarray (n, d) uint8, float32 or float64
        What distances are computed from.
    numbers : ndarray (n,) int64
        Row numbers.
    weights : ndarray (n,) int64
        How many equal rows each stands for.
    state : State
        Partial results of the rows, written to.
    """

    rows: NDArray[np.float64]
    numbers: NDArray[np.int64]
    weights: NDArray[np.int64]
    state: State


class Parts(NamedTuple):
    """The parts of two rows, where there is no block of them."""

    part_a: int
    part_b: int


class Block(NamedTuple):
    """Some positions of either side, all in one part, whose pairs are looked at together.

    Attributes
    ----------
    order_a, order_b : ndarray (r,), (c,) int64
        Positions → rows of the panels.
    labels_a, labels_b : ndarray (r, m), (c, m) float64
        In positions.
    label_code : int
        How ‖Δy‖ is taken; ANY where all labels differ.
    part_a, part_b : int
    triangle : bool
        Whether both sides are the same positions: only pairs u < v count.
    silent_a, silent_b : bool
        Whether the rows of a side are never the nearest of another one (`Twins.silent`).
    differences : ndarray (n,) float64
        ‖Δy‖ of the pairs that are to be proven, in their order, where a function of the user's
        says it; empty otherwise.
    """

    order_a: NDArray[np.int64]
    order_b: NDArray[np.int64]
    labels_a: NDArray[np.float64]
    labels_b: NDArray[np.float64]
    label_code: int
    part_a: int
    part_b: int
    triangle: bool
    silent_a: bool = False
    silent_b: bool = False
    differences: NDArray[np.float64] = NO_DIFFERENCES


class Lows(NamedTuple):
    """Low bounds of a block's pairs: low_a + low_b − 2·product, in squared screen lengths.

    Attributes
    ----------
    product : ndarray (r, c) float32, or (0, 0) where pairs are listed by their bounds already
    low_a, low_b : ndarray (r,), (c,) float32
    per_unit : float
        Squared screen length of one accumulated unit.
    slack : float
        Relative, for the rounding of float64 distances.
    """

    product: NDArray[np.float32]
    low_a: NDArray[np.float32]
    low_b: NDArray[np.float32]
    per_unit: float
    slack: float


NO_LOWS = Lows(np.empty((0, 0), np.float32), np.empty(0, np.float32), np.empty(0, np.float32), 1, 0)


@compiled
def prove(pairs, count, block, lows, measure, a, b):
    """Compute pairs of a block from the rows, and take those that matter into both states.

    Pairs before may have ruled out later ones; their low bounds tell so without a look at the rows.

    Parameters
    ----------
    pairs : ndarray (n, 2) int32
        Positions in the block.
    count : int
        How many of them; −1 for every pair of the block.
    block : Block
    lows : Lows
    measure : Measure
    a, b : Side

    Returns
    -------
    int
        Pairs that were computed.
    """
    return _prove(pairs, count, block, lows, measure, (a, b), np.empty(SCRATCH))


@kernel()
def _prove(pairs, count, block, lows, measure, sides, lanes):
    a, b = sides
    proven, columns = 0, block.order_b.shape[0]
    plain, u, v = block.label_code == ANY, 0, -1
    for s in range(count if count >= 0 else block.order_a.shape[0] * columns):
        if count >= 0:
            u, v = pairs[s, 0], pairs[s, 1]
        else:  # every pair, row by row
            v += 1
            if v == columns:
                u, v = u + 1, 0
            if block.triangle and v <= u:
                continue
        dy = 1.0
        if block.differences.shape[0]:
            dy = block.differences[s]
        elif not plain:
            dy = label_difference(block.labels_a[u], block.labels_b[v], block.label_code)
        if dy == 0.0:
            continue
        i, j = block.order_a[u], block.order_b[v]
        most = unfinish(measure.code, measure.factor, limit(dy, i, j, block, a, b))
        if most < 0.0:
            continue
        if lows.product.shape[0]:
            product = lows.product[u, v]
            low = np.float64(lows.low_a[u] + lows.low_b[v] - (product + product))
            if low > most * lows.per_unit * (1.0 + lows.slack) + TINY:
                continue
        proven += 1
        value = reduced(measure.code, measure.p, a.rows[i], b.rows[j], most, lanes)
        if value < np.inf:
            record(finish(measure.code, measure.factor, value), dy, i, j, block, a, b)
    return proven


@inlined()
def _farthest(state, row, cell, measure):
    """Return a value beyond which no pair changes a row of one side; ∞ where quotients may.

    cell: the others' part, and whether they are silent.
    """
    part, silent = cell
    if slope(state, row, part, -1) < np.inf:
        return np.inf
    return unfinish(measure.code, measure.factor, -np.inf if silent else radius(state, row, part))


@kernel()
def _prove_by_column(block, measure, a, b, scratch):
    """Compute all pairs of a block: what `_prove` does, AT_ONCE columns at a time.

    scratch: others (d, AT_ONCE), lanes (LANES, AT_ONCE), values and the columns' limits (AT_ONCE,).
    """
    others, lanes, values, far = scratch
    order_a, order_b, proven = block.order_a, block.order_b, 0
    mine, theirs = (block.part_a, block.silent_a), (block.part_b, block.silent_b)
    for first in range(0, order_b.shape[0], AT_ONCE):
        columns = order_b[first : first + AT_ONCE]
        by_column(b.rows, columns, others)
        for v in range(columns.shape[0]):
            far[v] = _farthest(b.state, columns[v], mine, measure)
        for u in range(order_a.shape[0]):
            i, start = order_a[u], max(0, u + 1 - first) if block.triangle else 0
            if start >= columns.shape[0]:
                break
            accumulate_row(measure.code, a.rows[i], others, lanes, values)
            own = _farthest(a.state, i, theirs, measure)
            for v in range(start, columns.shape[0]):
                label_a, label_b = block.labels_a[u], block.labels_b[first + v]
                dy = label_difference(label_a, label_b, block.label_code)
                if dy == 0.0:
                    continue
                proven += 1
                if values[v] > own and values[v] > far[v]:
                    continue
                j = columns[v]
                most = unfinish(measure.code, measure.factor, limit(dy, i, j, block, a, b))
                if values[v] <= most:
                    distance = finish(measure.code, measure.factor, values[v])
                    record(distance, dy, i, j, block, a, b)
                    own = _farthest(a.state, i, theirs, measure)
                    far[v] = _farthest(b.state, j, mine, measure)
    return proven


@compiled
def prove_runs(runs, orders, labels, label_code, same, measure, sides):
    """Compute all pairs between the runs of two panels: what `prove` does, for every two of them.

    Parameters
    ----------
    runs : pair of ndarray (k, 4), (l, 4) int64
        First position, last + 1, part, and whether silent (`panel.Run`).
    orders : pair of ndarray (n,), (m,) int64
        Positions → rows of the panels.
    labels : pair of ndarray (n, t), (m, t) float64
        In positions.
    label_code : int
    same : bool
        Whether both are the same panel: each pair is taken once.
    measure : Measure
    sides : pair of Side

    Returns
    -------
    int, int
        Pairs of positions, and those that were computed.
    """
    none, lanes = np.empty((0, 2), np.int32), np.empty(SCRATCH)
    pairs, proven, a, b = 0, 0, sides[0], sides[1]
    d = a.rows.shape[1]
    quick = has_row_sums(measure.code, d)
    others = np.zeros((d if quick else 0, AT_ONCE))
    scratch = others, np.empty((LANES, AT_ONCE)), np.empty(AT_ONCE), np.empty(AT_ONCE)
    for k in range(runs[0].shape[0]):
        lo, hi, part_a, silent_a = runs[0][k]
        for m in range(k if same else 0, runs[1].shape[0]):
            start, stop, part_b, silent_b = runs[1][m]
            block = Block(
                orders[0][lo:hi], orders[1][start:stop], labels[0][lo:hi], labels[1][start:stop],
                label_code, part_a, part_b, same and k == m, silent_a != 0, silent_b != 0,
                NO_DIFFERENCES,
            )  # fmt: skip
            pairs += (hi - lo) * (stop - start)
            if quick and stop - start >= LEAST:
                proven += _prove_by_column(block, measure, a, b, scratch)
            else:
                proven += _prove(none, -1, block, NO_LOWS, measure, sides, lanes)
    return pairs, proven


@compiled
def all_distances(row, rows, measure, out):
    """out[j] = distance of `row` and rows[j]."""
    lanes = np.empty(SCRATCH)
    for j in range(rows.shape[0]):
        value = reduced(measure.code, measure.p, row, rows[j], np.inf, lanes)
        out[j] = finish(measure.code, measure.factor, value)
