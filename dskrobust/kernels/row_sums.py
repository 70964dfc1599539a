"""What a row and some others accumulate, a column of all of them at a time and in the one order.

Vectors go along the rows here: the 32 lanes of `distances.reduced` lie below each other, each takes
its columns in their order, and they are added by halves. So the values are its very bits, and where
rows are short they take a third of the time.
"""

from __future__ import annotations

import numpy as np

from ..metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN
from .compiling import kernel
from .distances import LANES, STRIDE

AT_ONCE = 64  # rows that one is compared with
LEAST = 16  # rows that this is worth it for


@kernel()
def has_row_sums(code, columns):
    """Whether rows of so many columns are summed up here: longer ones may be given up before."""
    return columns <= STRIDE and code in (EUCLIDEAN, CHORD, CITYBLOCK, CHEBYSHEV)


@kernel()
def by_column(rows, order, out):
    """out[k, j] = column k of row order[j] as float64; out is (columns, AT_ONCE)."""
    for j in range(order.shape[0]):
        row = rows[order[j]]
        for k in range(row.shape[0]):
            out[k, j] = np.float64(row[k])


@kernel()
def accumulate_row(code, row, others, lanes, out):
    """out[j] = what `distances.reduced` accumulates for a row and row j of `by_column`.

    others (d, AT_ONCE), lanes (LANES, AT_ONCE) and out (AT_ONCE,): float64.
    """
    d, sizes, largest = row.shape[0], code in (CITYBLOCK, CHEBYSHEV), code == CHEBYSHEV
    for k in range(min(d, LANES)):
        a, other, lane = np.float64(row[k]), others[k], lanes[k]
        for j in range(AT_ONCE):
            t = abs(a - other[j])
            lane[j] = t if sizes else t * t
    for k in range(LANES, d):
        a, other, lane = np.float64(row[k]), others[k], lanes[k % LANES]
        for j in range(AT_ONCE):
            t = abs(a - other[j])
            term = t if sizes else t * t
            more = term if term > lane[j] else lane[j]
            lane[j] = more if largest else lane[j] + term
    width = LANES // 2
    while width > 0:
        for k in range(width):
            if k + width >= d:  # nothing is there
                break
            lane, other = lanes[k], lanes[k + width]
            for j in range(AT_ONCE):
                more = other[j] if other[j] > lane[j] else lane[j]
                lane[j] = more if largest else lane[j] + other[j]
        width //= 2
    lane = lanes[0]
    for j in range(AT_ONCE):
        out[j] = lane[j]
