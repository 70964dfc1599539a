"""What a proven pair changes, and beyond which distance a pair changes nothing."""

from __future__ import annotations

import numpy as np
from numba import njit

SMALLEST = 1e-305  # quotients below have lost digits: they bound nothing
LARGEST = float(np.finfo(np.float64).max)  # a quotient that overflowed is at least this


@njit(nogil=True, cache=True)
def better(value, index, best, where):  # type: ignore[no-untyped-def]
    """Whether (value, index) comes before (best, where): smaller, then lower index."""
    return value < best or (value == best and index < where)


@njit(nogil=True, cache=True)
def record(distance, dy, i, j, gi, gj, a, b):  # type: ignore[no-untyped-def]
    """Merge one proven pair into the tables of both sides.

    a, b are (first row, reach, nearest, quotient, witness) of the sides; tables are (n, groups).
    """
    first_a, reach_a, nearest_a, quotient_a, witness_a = a
    first_b, reach_b, nearest_b, quotient_b, witness_b = b
    if better(distance, first_b + j, reach_a[i, gj], nearest_a[i, gj]):
        reach_a[i, gj] = distance
        nearest_a[i, gj] = first_b + j
    if better(distance, first_a + i, reach_b[j, gi], nearest_b[j, gi]):
        reach_b[j, gi] = distance
        nearest_b[j, gi] = first_a + i
    if quotient_a.shape[0]:
        q = dy / distance if distance > 0.0 else np.inf
        if better(-q, first_b + j, -quotient_a[i, gj], witness_a[i, gj]):
            quotient_a[i, gj] = q
            witness_a[i, gj] = first_b + j
        if better(-q, first_a + i, -quotient_b[j, gi], witness_b[j, gi]):
            quotient_b[j, gi] = q
            witness_b[j, gi] = first_a + i


@njit(nogil=True, cache=True)
def limit_of(dy, i, j, gi, gj, a, b):  # type: ignore[no-untyped-def]
    """Return a distance beyond which pair (i, j) changes nothing."""
    limit = max(a[1][i, gj], b[1][j, gi])
    if a[3].shape[0]:
        least = min(a[3][i, gj], b[3][j, gi], LARGEST)
        reach = dy / least * (1.0 + 1e-14) if least > SMALLEST else np.inf
        limit = max(limit, reach)
    return limit
