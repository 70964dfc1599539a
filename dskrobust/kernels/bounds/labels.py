"""Sweeps over pairs with real, vector or mixed labels: what is near enough for its Δy.

With Q so far of row x, a pair can only raise or equal it where d ≤ ‖Δy‖ / Q. So every row has a
*span*, the length per unit of label difference at which a pair equals its quotient, and a pair
matters where

    low ≤ max(reach², (‖Δy‖·span)²)   of one of its two rows.

Rows are sorted by label, so a run of rows has a narrow box of labels, and the farthest corner of
the box turns the right side into one radius for row and run. Then a run is passed over with a
float32 comparison per pair that sees no label; only runs with a hit are looked at pair by pair.
Ratios are never squared before they are lengths, so labels of any size neither over- nor
underflow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...labels import CATEGORICAL, L1, L2, LEADING
from ...metrics import CHORD
from ..compiling import compiled, kernel
from ..proof import TINY
from ..reductions.base import LARGEST, SMALLEST, slope

RUN = 32  # positions with one box of labels
FLOOR = 1e-150  # of a label difference that is not 0, in units of the block's largest one
ROUGH = 1e-140  # label differences below are mostly floor: they bound no quotient from below
MANY = 8  # hits in a run from which all its label differences are computed at once
SLACK = 1e-6  # relative, far above the rounding of lengths and of label differences


class LabelledSide(NamedTuple):
    """One side of a block of pairs, as the kernels take it.

    Attributes
    ----------
    low, high : ndarray (n,) float32
        Low and high squared norms.
    reach : ndarray (n,) float64
        Squared reaches so far, in screen lengths, rounded up.
    span : ndarray (n,) float64
        Screen length per scaled label difference at the quotients so far, rounded up.
    labels : ndarray (m, n) float64
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    reach: NDArray[np.float64]
    span: NDArray[np.float64]
    labels: NDArray[np.float64]


class Units(NamedTuple):
    """How lengths and label differences of a block are measured.

    Attributes
    ----------
    code : int
        How ‖Δy‖ is taken.
    scale : float
        A power of two that brings the block's label differences to at most 1.
    length : float
        Screen length of a distance of 1.
    grain : float
        A screen length beyond what distances lose below the normal numbers.
    shortest, longest : float
        Spans of the largest and of the least quotient that can be told from others.
    """

    code: int
    scale: float
    length: float
    grain: float
    shortest: float
    longest: float


def units_of(code: int, scale: float, length: float) -> Units:
    """Return the measures of a block.

    Parameters
    ----------
    code : int
    scale : float
        From `label_scale`.
    length : float
        Screen length of a distance of 1.
    """
    shortest = length / LARGEST / scale * (1 + SLACK)
    return Units(code, scale, length, length * 2.0**-1072, shortest, length / SMALLEST / scale)


@kernel()
def label_scale(a, b):
    """Return a power of two that brings label differences to at most 1, 0 if all labels are equal.

    a, b : ndarray (n, m) float64, the labels of two blocks.
    """
    widest = 0.0
    for k in range(a.shape[1]):
        low = high = a[0, k]
        for labels in (a, b):
            for i in range(labels.shape[0]):
                low, high = min(low, labels[i, k]), max(high, labels[i, k])
        widest = max(widest, high - low)
    return 2.0 ** min(-np.ceil(np.log2(widest)), 1000.0) if widest > 0.0 else 0.0


def widest(
    a: NDArray[np.float64],
    rows: list[tuple[int, int]],
    b: NDArray[np.float64],
    columns: list[tuple[int, int]],
) -> NDArray[np.float64]:
    """Return the largest difference in any label component, for every pair of blocks.

    a, b : ndarray (n, m) of labels; rows, columns : blocks [lo, hi) of them.
    """
    low, high = (np.stack([f(a[slice(*i)], axis=0) for i in rows]) for f in (np.min, np.max))
    lows, highs = (np.stack([f(b[slice(*j)], axis=0) for j in columns]) for f in (np.min, np.max))
    up, down = high[:, None] - lows[None], highs[None] - low[:, None]
    return np.asarray(np.maximum(up, down).max(axis=2))


@kernel()
def spans(state, part, order, units, slack, out):
    """out[k] = an upper bound on the screen length per scaled label difference of row order[k].

    slack: relative, for the rounding of distances. A chord is shorter than its angle, so the bound
    holds for angles as it is.
    """
    for k in range(order.shape[0]):
        value = min(slope(state, order[k], part, -1), LARGEST)
        out[k] = np.inf
        if value > SMALLEST:
            out[k] = units.length / value / units.scale * (1.0 + slack) * (1.0 + SLACK)


@kernel()
def _components(low, high, lows, highs, scale, out):
    """out[j] = the largest |y − y′|·scale of y in [low, high], y′ in [lows[j], highs[j]].

    0 only where that is 0: smaller ones than FLOOR are raised to it.
    """
    for j in range(out.shape[0]):
        up, down = high - lows[j], highs[j] - low
        t = up if up > down else down
        u = t * scale
        u = u if u > FLOOR else FLOOR
        out[j] = u if t > 0.0 else 0.0


@kernel()
def _sizes(low, high, lows, highs, units, part, out):
    """out[j] ≥ ‖y − y′‖·scale (but for rounding) for labels in two boxes, 0 for equal ones only.

    low, high (m,); lows, highs (m, n); part (n,): scratch. A label is a box without width, and
    every step is monotone: the size for a box is at least that for any label in it.
    """
    leading, code, scale = units.code // LEADING, units.code % LEADING, units.scale
    _components(low[leading], high[leading], lows[leading], highs[leading], scale, out)
    m = low.shape[0] - leading
    if m > 1 and code == L2:
        for j in range(out.shape[0]):
            out[j] *= out[j]
    for k in range(leading + 1, leading + m):
        _components(low[k], high[k], lows[k], highs[k], scale, part)
        if code == L1:
            for j in range(out.shape[0]):
                out[j] += part[j]
        elif code == L2:
            for j in range(out.shape[0]):
                out[j] += part[j] * part[j]
        else:
            for j in range(out.shape[0]):
                out[j] = part[j] if part[j] > out[j] else out[j]
    if m > 1 and code == L2:
        for j in range(out.shape[0]):
            out[j] = np.sqrt(out[j])
    if code == CATEGORICAL:
        for j in range(out.shape[0]):
            out[j] = 1.0 if out[j] > 0.0 else 0.0
    if leading:
        _drop_equal(low[:leading], high[:leading], lows[:leading], highs[:leading], out)


@compiled
def _drop_equal(low, high, lows, highs, out):
    """out[j] = 0 where no pair counts: all leading columns are equal in both boxes."""
    for j in range(out.shape[0]):
        counts = False
        for k in range(low.shape[0]):
            counts |= high[k] > lows[k, j] or highs[k, j] > low[k]
        out[j] = out[j] if counts else 0.0


@compiled
def _boxes(labels):
    """Lowest and highest labels of every run of RUN positions, shape (2, m, runs)."""
    m, n = labels.shape
    out = np.empty((2, m, (n + RUN - 1) // RUN))
    for k in range(m):
        for r in range(out.shape[2]):
            part = labels[k, r * RUN : (r + 1) * RUN]
            out[0, k, r], out[1, k, r] = part.min(), part.max()
    return out


@compiled
def _radii(side, boxes, units):
    """Squared screen lengths beyond which a row's pairs with a run of labels change nothing.

    boxes: (2, m, runs) of the other side. Returns (runs, n) float32, −∞ where all labels of a run
    equal the row's.
    """
    n = side.reach.shape[0]
    out = np.empty((boxes.shape[2], n), np.float32)
    sizes, part = np.empty(n), np.empty(n)
    for r in range(boxes.shape[2]):
        low, high = boxes[0, :, r].copy(), boxes[1, :, r].copy()
        _sizes(low, high, side.labels, side.labels, units, part, sizes)
        for j in range(n):
            length = sizes[j] * side.span[j] + units.grain
            square = max(side.reach[j], length * length) * (1.0 + SLACK) + TINY
            out[r, j] = np.float32(square if sizes[j] > 0.0 else -np.inf)
    return out


@kernel()
def _hits(product, mine, low, reach, radius):
    """Number of a row's pairs in a run whose low bound is within a radius (uint32: vectorised)."""
    hits = np.uint32(0)
    for j in range(product.shape[0]):
        bound = mine + low[j] - (product[j] + product[j])
        wider = reach if reach > radius[j] else radius[j]
        hits += np.uint32(bound <= wider)
    return hits


@kernel(inline="always")
def _size(a, i, b, j, code, scale):
    """What `_sizes` says of two labels a[:, i] and b[:, j]."""
    total, leading, code = 0.0, code // LEADING, code % LEADING
    counts = leading == 0
    for k in range(a.shape[0]):
        t = abs(a[k, i] - b[k, j])
        if k < leading:
            counts |= t > 0.0
            continue
        u = max(t * scale, FLOOR) if t > 0.0 else 0.0
        if code == L1:
            total += u
        elif code == L2:
            total += u * u
        else:
            total = max(total, u)
    total = total if counts else 0.0
    return np.sqrt(total) if code == L2 else total


@compiled
def candidates(product, a, b, units, triangle, limit, found):
    """List the pairs that can still matter; stop once there are more than `limit`.

    product: (rows, columns) float32; a, b: `LabelledSide`; with `triangle` only pairs
    i < j are listed.
    `found` (limit + RUN or all pairs, 2) int32 takes the pairs; the count is returned.
    """
    wide, high = _radii(a, _boxes(b.labels), units), _radii(b, _boxes(a.labels), units)
    labels, others, spans_b, reaches_b, lows = a.labels, b.labels, b.span, b.reach, b.low
    part, sizes, count = np.empty(RUN), np.empty(RUN), 0
    for i in range(product.shape[0]):
        row, low, radius = product[i], a.low[i], high[i // RUN]
        for r in range(wide.shape[0]):
            start, stop = r * RUN, min((r + 1) * RUN, row.shape[0])
            mine = wide[r, i]
            if mine < 0.0 or (triangle and stop <= i):
                continue
            hits = _hits(row[start:stop], low, lows[start:stop], mine, radius[start:stop])
            if hits == 0:
                continue
            dense = hits > MANY
            if dense:
                y, run = labels[:, i].copy(), others[:, start:stop]
                _sizes(y, y, run, run, units, part, sizes[: stop - start])
            for j in range(max(start, i + 1) if triangle else start, stop):
                bound = low + lows[j] - (row[j] + row[j])
                if bound > max(mine, radius[j]):
                    continue
                size = sizes[j - start]
                if not dense:
                    size = _size(labels, i, others, j, units.code, units.scale)
                length = size * max(a.span[i], spans_b[j]) + units.grain
                square = max(length * length, a.reach[i], reaches_b[j])
                if size > 0.0 and bound <= square * (1.0 + SLACK) + TINY:
                    found[count, 0] = i
                    found[count, 1] = j
                    count += 1
            if count > limit:
                return count
    return count


@compiled
def tighten(product, a, b, units, stretch):
    """Lower reaches and spans to what the high bounds of the block's pairs say.

    stretch: at least the ratio of distance to screen length over all pairs, 0 without
    quotients. (An angle is up to π/2 times its chord, so Δy/chord may exceed every quotient.)
    """
    columns = product.shape[1]
    sizes, part, high = np.empty(columns), np.empty(columns), np.empty(columns)
    for i in range(product.shape[0]):
        y, row = a.labels[:, i].copy(), product[i]
        _sizes(y, y, b.labels, b.labels, units, part, sizes)
        for j in range(columns):
            bound = np.float64(a.high[i]) + b.high[j] - 2.0 * row[j]
            bound = bound if bound > 0.0 else 0.0
            high[j] = bound if sizes[j] > 0.0 else LARGEST
        a.reach[i] = _lower(high, a.reach[i], b.reach)
        if stretch > 0.0:
            for j in range(columns):
                size = sizes[j] if sizes[j] > ROUGH else ROUGH
                ratio = (np.sqrt(high[j]) + units.grain) / size * stretch
                ratio = ratio if ratio > units.shortest else units.shortest
                sure = (sizes[j] > ROUGH) & (ratio < units.longest)
                high[j] = ratio if sure else np.inf
            a.span[i] = _lower(high, a.span[i], b.span)


@kernel()
def _lower(values, best, others):
    """Lower `others` to the values; return the lowest value, or `best` where that is lower."""
    for j in range(values.shape[0]):
        others[j] = values[j] if values[j] < others[j] else others[j]
    for j in range(values.shape[0]):
        best = values[j] if values[j] < best else best
    return best


def stretch_of(code: int) -> float:
    """Return the `stretch` of `tighten` for a metric, rounding allowed for."""
    return (np.pi / 2 if code == CHORD else 1.0) * (1.0 + 4 * SLACK)
