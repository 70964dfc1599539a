"""Norms of differences of byte rows: what bounds by bytes are made of."""

from __future__ import annotations

import numpy as np

from ..compiling import kernel
from ..distances import power_bar

WIDTH = 64  # bytes of the first level's rows, nearly always
ROUNDING = 1.0 + 2.0**-15  # more than float32 thresholds, and sums of NARROW terms, are off
LOOSE = {"reassoc", "nsz", "contract"}  # for bounds only

u8, i32, f32 = np.uint8, np.int32, np.float32


@kernel()
def _sum_of_sizes(a, i, b, j):
    """Σ|a − b| of rows i and j. (abs of int32 is what LLVM makes psadbw of.)"""
    total = i32(0)
    for k in range(a.shape[1]):
        total = i32(total + abs(i32(i32(a[i, k]) - i32(b[j, k]))))
    return total


@kernel()
def _largest_of_bytes(a, i, b, j):
    """max|a − b| of rows i and j, in byte lanes."""
    top = u8(0)
    for k in range(a.shape[1]):
        top = max(top, u8(max(a[i, k], b[j, k]) - min(a[i, k], b[j, k])))
    return top


@kernel(fastmath=LOOSE)
def _sum_of_powers(power, a, i, b, j):
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


@kernel(inline="always")
def byte_distance(power, a, i, b, j):
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


@kernel()
def bar_of(power, value, columns):
    """A threshold for ‖·‖ as one for `byte_distance`, whose float32 sums are off by an ulp."""
    rounding = ROUNDING + columns * 2.0**-23
    if power <= 1:
        return value * rounding
    square = value * value
    if power == 2:
        return square * rounding
    return (square * value if power == 3 else square * square) * rounding


@kernel()
def measure(power, rows, columns, out):
    """out[i, j] = `byte_distance` of rows[i] and columns[j], float32."""
    width = rows.shape[1]
    for i in range(rows.shape[0]):
        a, line = rows[i], out[i]
        if power == 1 and width == WIDTH:
            _sizes_of_64(a, columns, line)
        elif power == 0 and width == WIDTH:
            _largest_of_64(a, columns, line)
        else:
            for j in range(columns.shape[0]):
                line[j] = f32(byte_distance(power, rows, i, columns, j))


@kernel()
def _sizes_of_64(a, columns, out):
    for j in range(columns.shape[0]):
        b = columns[j]
        total = i32(0)
        for k in range(WIDTH):
            total = i32(total + abs(i32(i32(a[k]) - i32(b[k]))))
        out[j] = f32(total)


@kernel()
def _largest_of_64(a, columns, out):
    for j in range(columns.shape[0]):
        b = columns[j]
        top = u8(0)
        for k in range(WIDTH):
            top = max(top, u8(max(a[k], b[k]) - min(a[k], b[k])))
        out[j] = f32(top)


@kernel()
def power_mean_of_bytes(p, a, i, b, j, limit, powers):
    """distances._power_mean to the last bit, its 255 different terms looked up.

    powers (256, 256): [top, t] = (t/top)^p, a row filled when first needed (negative before).
    """
    top = byte_distance(0, a, i, b, j)
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
