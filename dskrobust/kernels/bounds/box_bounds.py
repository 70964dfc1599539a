"""Least distances and largest label differences between boxes, and between rows and a box."""

from __future__ import annotations

import numpy as np

from ...labels import L2, LEADING, LINF
from ...metrics import CHEBYSHEV, CITYBLOCK
from ..compiling import inlined, kernel
from ..label_distances import ANY, SAME

TINY = 1e-290  # squares below have lost digits: they rule nothing out


@inlined()
def between(low, high, leaf, their_low, their_high, node, code):
    """Return the least that is accumulated between two boxes, and how far apart they lie."""
    bound, off = 0.0, 0.0
    for k in range(low.shape[1]):
        gap = their_low[node, k] - high[leaf, k]
        back = low[leaf, k] - their_high[node, k]
        off += (gap - back) * (gap - back)
        gap = gap if gap > back else back
        gap = gap if gap > 0.0 else 0.0
        if code == CITYBLOCK:
            bound += gap
        elif code == CHEBYSHEV:
            bound = gap if gap > bound else bound
        else:
            bound += gap * gap
    return bound, off


@inlined()
def label_gap(low, high, their_low, their_high, leaf, node, code):
    """Return the largest ‖Δy‖ between two nodes, rounded up; 0 where no pair counts."""
    if code == ANY:
        return 1.0
    if code == SAME:
        for k in range(low.shape[1]):
            if high[leaf, k] < their_low[node, k] or their_high[node, k] < low[leaf, k]:
                return 0.0
        return 1.0
    top, total, square, apart, leading = 0.0, 0.0, 0.0, 0.0, code // LEADING
    for k in range(low.shape[1]):
        t = max(high[leaf, k] - their_low[node, k], their_high[node, k] - low[leaf, k])
        if k < leading:
            apart = max(apart, t)
        else:
            top, total, square = max(top, t), total + t, square + t * t
    if leading and apart == 0.0:
        return 0.0
    return _norm(top, total, square, low.shape[1] - leading, code % LEADING)


@kernel(inline="always")
def _norm(top, total, square, columns, code):
    """A label norm, rounded up, and 0 for equal labels only."""
    if columns == 1 or code == LINF:
        return top
    if code == L2 and square > TINY:
        return np.sqrt(square) * (1.0 + 1e-12)
    return total


@inlined()
def to_box(block, size, low, high, code, out):
    """out[i] = what is accumulated at least between row i of a block and a box."""
    for i in range(size):
        out[i] = 0.0
    for k in range(low.shape[0]):
        line, lo, hi = block[k], low[k], high[k]
        for i in range(size):
            gap, back = lo - line[i], line[i] - hi
            gap = gap if gap > back else back
            gap = gap if gap > 0.0 else 0.0
            if code == CITYBLOCK:
                out[i] += gap
            elif code == CHEBYSHEV:
                out[i] = gap if gap > out[i] else out[i]
            else:
                out[i] += gap * gap


@kernel()
def label_bounds(block, size, low, high, code, out):
    """out[i] = the largest ‖Δy‖ between label i of a block and a box, rounded up."""
    if code == SAME:
        for i in range(size):
            out[i] = 1.0
            for k in range(block.shape[0]):
                if block[k, i] < low[k] or high[k] < block[k, i]:
                    out[i] = 0.0
        return
    leading, code = code // LEADING, code % LEADING
    m = block.shape[0] - leading
    for i in range(size):
        top, total, square, apart = 0.0, 0.0, 0.0, 0.0
        for k in range(leading):
            apart = max(apart, block[k, i] - low[k], high[k] - block[k, i])
        for k in range(m):
            t = max(
                block[leading + k, i] - low[leading + k], high[leading + k] - block[leading + k, i]
            )
            top, total, square = max(top, t), total + t, square + t * t
        out[i] = 0.0 if leading and apart == 0.0 else _norm(top, total, square, m, code)
