"""Sweeps over a block of a product matrix: bound every pair, keep those that can still matter.

With rows a, b centred and rounded to float32, ``low = a_low + b_low − 2·product`` is at most the
squared distance and ``high = a_high + b_high − 2·product`` at least that (see `screen`). A pair can
only matter where its low bound does not exceed what one of its rows has already reached.
"""

from __future__ import annotations

import numpy as np

from ..compiling import compiled, kernel
from ..distances import surely_within, unfinish
from ..label_distances import ANY, SAME
from ..proof import TINY
from ..reductions.base import accept, hold, radius, within


@compiled
def _halves(low, reach):
    """Return low / 2 and (low − reach) / 2 in float32, both rounded down."""
    out = np.empty((2, low.shape[0]), np.float32)
    for k in range(low.shape[0]):
        half = 0.5 * np.float64(low[k])
        near = 0.5 * np.float64(reach[k])
        past = half - near
        taken = half - past  # what was taken off in truth, exact (TwoSum)
        if (half - (past + taken)) + (taken - near) < 0.0:  # rounded up
            past = np.nextafter(past, -np.inf)
        for r, value in enumerate((half, past)):
            rounded = np.float32(value)
            if np.float64(rounded) > value:
                rounded = np.nextafter(rounded, np.float32(-np.inf))
            out[r, k] = rounded
    return out


@compiled
def survivors(product, a_low, b_low, a_reach, b_reach, found):
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


@compiled(fastmath={"nnan", "nsz"})
def lowest(product, b_low, labels, code, own, k, found):
    """List for every row the k columns with the smallest low bounds that it makes pairs with.

    labels: of the rows and of the columns, first component; code: DIFFERENT labels count
    (CATEGORICAL), equal ones (SAME) or all (ANY); own: for every row the column that is itself,
    or -1.
    """
    a_label, b_label = labels
    count, columns, same = 0, product.shape[1], code == SAME
    size = min(k, columns)
    low, where = np.empty(size, np.float32), np.empty(size, np.int32)
    for i in range(product.shape[0]):
        low[:] = np.inf
        for j in range(columns):
            value = b_low[j] - (product[i, j] + product[i, j])
            if value >= low[size - 1] or j == own[i]:
                continue
            if code != ANY and (a_label[i] == b_label[j]) != same:
                continue
            at = size - 1
            while at > 0 and value < low[at - 1]:
                low[at], where[at] = low[at - 1], where[at - 1]
                at -= 1
            low[at], where[at] = value, j
        for m in range(size):
            if low[m] < np.inf:
                found[count, 0], found[count, 1] = i, where[m]
                count += 1
    return count


@kernel()
def squared_radii(state, part, order, measure, scale, out):
    """out[k] = min(out[k], an upper bound on the screen's squared radius of row order[k]).

    scale: the squared screen length of one accumulated unit, and a relative widening for the
    rounding of float64 distances, so that exact ties stay in. −∞ where a row asks for nothing.
    """
    per_unit, slack = scale
    for k in range(order.shape[0]):
        near = radius(state, order[k], part)
        if near < 0.0:
            out[k] = -np.inf
            continue
        value = unfinish(measure.code, measure.factor, near)
        if value < np.inf:
            bound = value * per_unit * (1.0 + slack) + TINY
            if bound < out[k]:
                out[k] = bound


@kernel()
def radii_of_block(block, one, other, measure, scale):
    """`squared_radii` of both sides of a block, (state, out) each; −∞ where the other is silent."""
    (state, out), (others, other_out) = one, other
    out[:] = -np.inf if block.silent_b else np.inf
    other_out[:] = -np.inf if block.silent_a else np.inf
    squared_radii(state, block.part_b, block.order_a, measure, scale, out)
    squared_radii(others, block.part_a, block.order_b, measure, scale, other_out)


@kernel()
def inner_radii(state, part, order, measure, scale, out):
    """out[k] = a lower bound on the squared screen length that `within` is for row order[k].

    Pairs whose high bound is not above it are accepted unproven; scale: as in `squared_radii`.
    """
    per_unit, slack = scale
    for k in range(order.shape[0]):
        near = within(state, order[k], part)
        out[k] = -np.inf
        if near >= 0.0:
            value = surely_within(measure.code, measure.factor, near)
            out[k] = value * per_unit * (1.0 - slack) - TINY


@kernel()
def settle_certain(found, count, bounds, limits, block, a, b):
    """Accept unproven what is certain; return how many pairs are left, listed in place.

    Parameters
    ----------
    found : ndarray (count or more, 2) int32
    bounds : ndarray (2, count) float64
        Low and high bounds of the squared screen length of every listed pair.
    limits : (outer_a, outer_b, inner_a, inner_b)
        `squared_radii` and `inner_radii` of the block's positions.
    block : Block
    a, b : Side
    """
    outer_a, outer_b, inner_a, inner_b = limits
    kept = 0
    for s in range(count):
        u, v = found[s, 0], found[s, 1]
        low, high = bounds[0, s], bounds[1, s]
        sure_a, sure_b = high <= inner_a[u], high <= inner_b[v]
        if (sure_a or low > outer_a[u]) and (sure_b or low > outer_b[v]):
            i, j = block.order_a[u], block.order_b[v]
            if sure_a:
                accept(a.state, i, block.part_b, 0.0, 1.0, b.numbers[j], b.weights[j])
                hold(b.state, j, block.part_a, a.weights[i])
            if sure_b:
                accept(b.state, j, block.part_a, 0.0, 1.0, a.numbers[i], a.weights[i])
                hold(a.state, i, block.part_b, b.weights[j])
            continue
        found[kept, 0], found[kept, 1] = u, v
        kept += 1
    return kept


@compiled
def listed_bounds(found, count, product, norms_a, norms_b):
    """Low and high bounds (2, count) float64 of the listed pairs.

    norms_a, norms_b (2, n): low and high squared norms of the block's positions.
    """
    out = np.empty((2, count))
    for s in range(count):
        u, v = found[s, 0], found[s, 1]
        twice = 2.0 * np.float64(product[u, v])
        for r in range(2):
            out[r, s] = np.float64(norms_a[r, u]) + np.float64(norms_b[r, v]) - twice
    return out
