"""Pairs computed in float64 from the rows themselves."""

from __future__ import annotations

import numpy as np
from numba import njit

from .distances import SCRATCH, finish, reduced, unfinish
from .reductions import limit_of, record


@njit(nogil=True, cache=True)
def prove(found, count, dy, rows_a, rows_b, order_a, order_b, groups, metric, a, b):  # type: ignore[no-untyped-def]
    """Compute the listed pairs from the rows themselves and merge those that still matter.

    found (count, 2): positions in this block; dy (rows, columns) or empty for all ones;
    order_a, order_b: from positions to rows; metric: (code, p, factor).
    """
    code, p, factor = metric
    gi, gj = groups
    lanes = np.empty(SCRATCH)
    for s in range(count):
        i, j = order_a[found[s, 0]], order_b[found[s, 1]]
        difference = dy[found[s, 0], found[s, 1]] if dy.shape[0] else 1.0
        limit = limit_of(difference, i, j, gi, gj, a, b)
        value = reduced(code, p, rows_a[i], rows_b[j], unfinish(code, factor, limit), lanes)
        if value < np.inf:
            record(finish(code, factor, value), difference, i, j, gi, gj, a, b)


@njit(nogil=True, cache=True)
def direct(dy, rows_a, rows_b, order_a, order_b, triangle, groups, metric, a, b):  # type: ignore[no-untyped-def]
    """Compute every pair with different labels from the rows, giving up early where it can."""
    code, p, factor = metric
    gi, gj = groups
    lanes = np.empty(SCRATCH)
    for u in range(order_a.shape[0]):
        i = order_a[u]
        for v in range(u + 1 if triangle else 0, order_b.shape[0]):
            if dy[u, v] == 0.0:
                continue
            j = order_b[v]
            limit = limit_of(dy[u, v], i, j, gi, gj, a, b)
            value = reduced(code, p, rows_a[i], rows_b[j], unfinish(code, factor, limit), lanes)
            if value < np.inf:
                record(finish(code, factor, value), dy[u, v], i, j, gi, gj, a, b)


@njit(nogil=True, cache=True)
def all_distances(row, rows, metric, out):  # type: ignore[no-untyped-def]
    """out[j] = distance of `row` and rows[j]."""
    code, p, factor = metric
    lanes = np.empty(SCRATCH)
    for j in range(rows.shape[0]):
        out[j] = finish(code, factor, reduced(code, p, row, rows[j], np.inf, lanes))
