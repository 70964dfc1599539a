"""Sweeps over a block of a product matrix: bound every pair, keep those that can still matter.

With rows a, b centred and rounded to float32, ``low = a_low + b_low − 2·product`` is at most the
squared distance and ``high = a_high + b_high − 2·product`` at least that (see `screen`). A pair can
only matter where its low bound does not exceed what one of its rows has already reached.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..distances import unfinish


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
