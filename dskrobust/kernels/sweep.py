"""Sweeps over a block of a product matrix: bound every pair, keep those that can still matter.

With rows a, b centred and rounded to float32, ``low = a_low + b_low − 2·product`` is at most the
squared distance and ``high = a_high + b_high − 2·product`` at least that (see `screen`). A pair can
only matter where its low bound does not exceed what one of its rows has already reached.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..labels import CATEGORICAL, L1, L2, SAME
from .distances import SCRATCH, finish, reduced, unfinish

SMALLEST = 1e-305  # quotients below have lost digits: they bound nothing
LARGEST = float(np.finfo(np.float64).max)  # a quotient that overflowed is at least this


@njit(nogil=True, cache=True)
def label_differences(ya, yb, code, out):  # type: ignore[no-untyped-def]
    """out[i, j] = ‖ya[i] − yb[j]‖, float64; exactly 0 for equal labels only."""
    for i in range(ya.shape[0]):
        for j in range(yb.shape[0]):
            out[i, j] = label_difference(ya[i], yb[j], code)


@njit(nogil=True, cache=True)
def label_difference(a, b, code):  # type: ignore[no-untyped-def]
    """‖a − b‖ of two labels (m,), exactly 0 for equal labels only; for SAME 1 for these only."""
    if a.shape[0] == 1:
        t = abs(a[0] - b[0])
        if code == SAME:
            return 1.0 if t == 0.0 else 0.0
        return (1.0 if t > 0.0 else 0.0) if code == CATEGORICAL else t
    top = 0.0
    for k in range(a.shape[0]):
        t = abs(a[k] - b[k])
        top = t if t > top else top
    if code == SAME:
        return 1.0 if top == 0.0 else 0.0
    if top == 0.0:
        return 0.0
    if code == CATEGORICAL:
        return 1.0
    total = 0.0
    for k in range(a.shape[0]):
        t = abs(a[k] - b[k])
        if code == L1:
            total += t
        elif code == L2:  # scaled, so that a difference never vanishes by underflow
            total += (t / top) * (t / top)
    if code == L1:
        return total
    return top * np.sqrt(total) if code == L2 else top


@njit(nogil=True, cache=True)
def _halves(low, reach):  # type: ignore[no-untyped-def]
    """Return low / 2 and (low − reach) / 2 in float32, both rounded down."""
    out = np.empty((2, low.shape[0]), np.float32)
    for k in range(low.shape[0]):
        half = 0.5 * np.float64(low[k])
        for r, value in enumerate((half, half - 0.5 * np.float64(reach[k]))):
            rounded = np.float32(value)
            if np.float64(rounded) > value:
                rounded = np.nextafter(rounded, np.float32(-np.inf))
            out[r, k] = rounded
    return out


@njit(nogil=True, cache=True)
def survivors(product, a_low, b_low, a_reach, b_reach, found):  # type: ignore[no-untyped-def]
    """List the pairs whose low bound is within one of the two squared reaches.

    `found` (capacity, 2) int32 takes the pairs; the count is returned. The bound is solved for the
    product: a pair stays where ``product ≥ (a_low − a_reach)/2 + b_low/2``, or with the other
    reach. Halves are rounded down and their sum is rounded monotonely, so no pair is lost by that
    (DESIGN.md, "The proof"); what is not a number stays. A row's pairs are flagged first, which
    LLVM vectorises, and looked at eight at a time.
    """
    columns = product.shape[1]
    mine, theirs = _halves(a_low, a_reach), _halves(b_low, b_reach)
    b_half, b_past = theirs[0], theirs[1]
    flags = np.zeros((columns + 7) // 8 * 8, np.uint8)
    eights = flags.view(np.uint64)
    count = 0
    for i in range(product.shape[0]):
        row, half, past = product[i], mine[0, i], mine[1, i]
        for j in range(columns):
            one, other = past + b_half[j], half + b_past[j]
            flags[j] = not row[j] < (one if one < other else other)
        for eight in range(eights.shape[0]):
            if eights[eight] == 0:
                continue
            for k in range(8 * eight, 8 * eight + 8):
                if flags[k]:
                    found[count, 0] = i
                    found[count, 1] = k
                    count += 1
    return count


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def nearest(product, b_low, labels, same, own, found):  # type: ignore[no-untyped-def]
    """List for every row the column with the smallest low bound that it makes a pair with.

    labels: of the rows and of the columns; same: whether equal ones are wanted, not different
    ones; own: for every row the column that is itself, or -1.
    """
    a_label, b_label = labels
    count = 0
    for i in range(product.shape[0]):
        best, where = np.float32(np.inf), -1
        for j in range(product.shape[1]):
            low = b_low[j] - (product[i, j] + product[i, j])
            if low < best and (a_label[i] == b_label[j]) == same and j != own[i]:
                best, where = low, j
        if where >= 0:
            found[count, 0] = i
            found[count, 1] = where
            count += 1
    return count


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
def limit_of(dy, i, j, gi, gj, a, b):  # type: ignore[no-untyped-def]
    """Return a distance beyond which pair (i, j) changes nothing."""
    limit = max(a[1][i, gj], b[1][j, gi])
    if a[3].shape[0]:
        least = min(a[3][i, gj], b[3][j, gi], LARGEST)
        reach = dy / least * (1.0 + 1e-14) if least > SMALLEST else np.inf
        limit = max(limit, reach)
    return limit


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
def squared_reaches(reach, order, metric, per_unit, slack, out):  # type: ignore[no-untyped-def]
    """out[k] = min(out[k], an upper bound on the screen's squared reach of row order[k]).

    per_unit: squared screen length of one accumulated unit; slack: relative, for the rounding of
    float64 distances, so that exact ties stay in.
    """
    code, _, factor = metric
    for k in range(order.shape[0]):
        value = unfinish(code, factor, reach[order[k]])
        if value < np.inf:
            bound = value * per_unit * (1.0 + slack) + 1e-40
            if bound < out[k]:
                out[k] = bound


@njit(nogil=True, cache=True)
def all_distances(row, rows, metric, out):  # type: ignore[no-untyped-def]
    """out[j] = distance of `row` and rows[j]."""
    code, p, factor = metric
    lanes = np.empty(SCRATCH)
    for j in range(rows.shape[0]):
        out[j] = finish(code, factor, reduced(code, p, row, rows[j], np.inf, lanes))
