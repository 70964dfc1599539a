"""The distance of one pair of rows, in float64 and in one fixed order of summation.

This is the number that every result is made of. 32 lanes take the columns k, k + 32, k + 64, …;
then the upper half of the lanes is added to the lower half until one is left. Nothing here may be
reassociated or contracted, so no fastmath: the same pair has the same bits on every machine, in
every tile and for both of its orders. (32 lanes are what LLVM turns into vector code.)
"""

from __future__ import annotations

import numpy as np

from ..metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN, HAMMING, MINKOWSKI
from .compiling import compiled, inlined, kernel

LANES = 32
STRIDE = 256  # columns between two looks at the limit
SCRATCH = 2 * LANES
BYTES = 256  # the sum of so many squares of bytes is exact in float32


@kernel()
def _fold(lanes, d):
    """Add up the lanes by halves; lanes beyond d columns hold nothing."""
    width = LANES // 2
    while width >= d and width > 1:
        width //= 2
    while width > 0:
        for k in range(width):
            lanes[k] += lanes[k + width]
        width //= 2
    return lanes[0]


@kernel()
def _exceeds(lanes, limit):
    """Whether the lanes' sum is beyond the limit; they stay as they are."""
    copy = lanes[LANES:]
    for k in range(LANES):
        copy[k] = lanes[k]
    return _fold(copy, LANES) > limit


@kernel()
def _sum_squares(a, b, limit, lanes):
    """Σ(a − b)², or infinity once a partial sum exceeds `limit`.

    Sums of non-negative terms in this order never fall, rounding included, so giving up is safe.
    """
    d = a.shape[0]
    for m in range(LANES):
        lanes[m] = 0.0
    whole = d - d % LANES
    for k in range(0, whole, LANES):  # from 0, so that Numba knows no index is negative
        for m in range(LANES):
            t = np.float64(a[k + m]) - np.float64(b[k + m])
            lanes[m] += t * t
        if k % STRIDE == STRIDE - LANES and _exceeds(lanes, limit):
            return np.inf
    for k in range(whole, d):
        t = np.float64(a[k]) - np.float64(b[k])
        lanes[k - whole] += t * t
    return _fold(lanes, d)


@kernel(fastmath={"reassoc", "contract"})
def _byte_squares(a, b):
    """Σ(a − b)² of at most BYTES bytes: integers below 2²⁴, exact in float32 and any order."""
    total = np.float32(0.0)
    for k in range(a.shape[0]):
        t = np.float32(a[k]) - np.float32(b[k])
        total += t * t
    return total


@kernel()
def _sum_byte_squares(a, b):
    """Σ(a − b)² of bytes: all partial sums are integers, so every order gives the same float64."""
    total = 0.0
    for k in range(0, a.shape[0], BYTES):
        total += np.float64(_byte_squares(a[k : k + BYTES], b[k : k + BYTES]))
    return total


@kernel()
def _sum_sizes(a, b, limit, lanes):
    """Σ|a − b|, or infinity once a partial sum exceeds `limit`."""
    d = a.shape[0]
    for m in range(LANES):
        lanes[m] = 0.0
    whole = d - d % LANES
    for k in range(0, whole, LANES):  # from 0, so that Numba knows no index is negative
        for m in range(LANES):
            lanes[m] += abs(np.float64(a[k + m]) - np.float64(b[k + m]))
        if k % STRIDE == STRIDE - LANES and _exceeds(lanes, limit):
            return np.inf
    for k in range(whole, d):
        lanes[k - whole] += abs(np.float64(a[k]) - np.float64(b[k]))
    return _fold(lanes, d)


@kernel(fastmath={"nnan", "nsz", "reassoc"})
def _top(a, b):
    """max|a − b|: the same in every order, so the vectoriser may choose one."""
    top = 0.0
    for k in range(a.shape[0]):
        top = max(top, abs(np.float64(a[k]) - np.float64(b[k])))
    return top


@kernel()
def _largest(a, b, limit):
    """max|a − b|, or infinity once it exceeds `limit`."""
    top = 0.0
    for start in range(0, a.shape[0], STRIDE):
        top = max(top, _top(a[start : start + STRIDE], b[start : start + STRIDE]))
        if top > limit:
            return np.inf
    return top


@kernel()
def _differing(a, b):
    """Number of columns that differ."""
    count = np.int32(0)  # narrow, so that many columns fit a vector
    for k in range(a.shape[0]):
        count = np.int32(count + np.int32(a[k] != b[k]))
    return np.float64(count)


@kernel()
def power_bar(limit, top, p):
    """A sum of (t/top)^p beyond which top·sum^(1/p) exceeds `limit`, rounding included."""
    if limit == np.inf:
        return np.inf
    return (limit / top) ** p * (1.0 + (p + 8.0) * 1e-14) + (p + 8.0) * 1e-14


@kernel()
def _power_mean(a, b, p, limit):
    """(Σ|t|^p)^(1/p), scaled by the largest term so that no power under- or overflows."""
    top = _largest(a, b, limit)
    if top == 0.0 or top == np.inf:
        return top
    total, bar = 0.0, power_bar(limit, top, p)
    for k in range(a.shape[0]):
        total += (abs(np.float64(a[k]) - np.float64(b[k])) / top) ** p
        if total > bar:
            return np.inf
    return top * total ** (1.0 / p)


@inlined()
def reduced(code, p, a, b, limit, lanes):
    """What the metric accumulates for rows a and b; infinity where it surely exceeds `limit`.

    lanes: scratch of SCRATCH float64.
    """
    if code in (EUCLIDEAN, CHORD):
        if a.itemsize == 1 and b.itemsize == 1:  # bytes; decided when compiled
            return _sum_byte_squares(a, b)
        return _sum_squares(a, b, limit, lanes)
    if code == CITYBLOCK:
        return _sum_sizes(a, b, limit, lanes)
    if code == CHEBYSHEV:
        return _largest(a, b, limit)
    if code == MINKOWSKI:
        return _power_mean(a, b, p, limit)
    return _differing(a, b)


@inlined()
def finish(code, factor, value):
    """Turn what was accumulated into the distance."""
    if code == EUCLIDEAN:
        return factor * np.sqrt(value)
    if code == CHORD:
        return 2.0 * np.arcsin(min(1.0, 0.5 * np.sqrt(value)))
    if code == HAMMING:
        return value / factor
    return factor * value


@inlined()
def unfinish(code, factor, distance):
    """Return a value that every accumulated one of at most this distance stays below; −∞ of −∞."""
    if abs(distance) == np.inf:
        return distance
    if code == EUCLIDEAN:
        root = distance / factor
        return root * root * (1.0 + 1e-14)
    if code == CHORD:
        half = min(distance, np.pi) * 0.5
        chord = 2.0 * np.sin(half)
        return (chord * chord) * (1.0 + 1e-12) + 1e-300
    if code == HAMMING:
        return distance * factor * (1.0 + 1e-14)
    return distance / factor * (1.0 + 1e-14)


@inlined()
def surely_within(code, factor, distance):
    """Return a value that only accumulated ones of at most this distance stay below."""
    if code == EUCLIDEAN:
        root = distance / factor
        return root * root * (1.0 - 1e-14)
    if code == CHORD:
        chord = 2.0 * np.sin(min(distance, np.pi) * 0.5)
        return (chord * chord) * (1.0 - 1e-12) - 1e-300
    if code == HAMMING:
        return distance * factor * (1.0 - 1e-14)
    return distance / factor * (1.0 - 1e-14)


@compiled
def unit_rows(rows, out):
    """Divide rows by their Euclidean norms; return the first row without one, or -1."""
    zero, lanes = np.zeros(rows.shape[1]), np.empty(SCRATCH)
    for i in range(rows.shape[0]):
        top = _largest(rows[i], zero, np.inf)
        if top == 0.0:
            return i
        for k in range(rows.shape[1]):
            out[i, k] = rows[i, k] / top
        norm = np.sqrt(_sum_squares(out[i], zero, np.inf, lanes))
        for k in range(rows.shape[1]):
            out[i, k] /= norm
    return -1


@compiled
def center_rows(rows, order, center, unit, out, square):
    """out[i] = float32((rows[order[i]] − center)·unit), square[i] = ‖out[i]‖² in float64."""
    d = rows.shape[1]
    lanes = np.empty(SCRATCH)
    whole = d - d % LANES
    for i in range(order.shape[0]):
        row, mine = rows[order[i]], out[i]
        for m in range(LANES):
            lanes[m] = 0.0
        for k in range(0, whole, LANES):
            for m in range(LANES):
                mine[k + m] = np.float32((np.float64(row[k + m]) - center[k + m]) * unit)
            for m in range(LANES):
                lanes[m] += np.float64(mine[k + m]) * np.float64(mine[k + m])
        for k in range(whole, d):
            mine[k] = np.float32((np.float64(row[k]) - center[k]) * unit)
            lanes[k - whole] += np.float64(mine[k]) * np.float64(mine[k])
        square[i] = _fold(lanes, d)


@compiled
def linear_rows(rows, center, columns, out):
    """out[i] = Σ_k columns[k]·(rows[i, k] − center[k]), in the order of k for every row."""
    for i in range(rows.shape[0]):
        out[i, :] = 0.0
        for k in range(rows.shape[1]):
            t = np.float64(rows[i, k]) - center[k]
            for r in range(out.shape[1]):
                out[i, r] += columns[k, r] * t
