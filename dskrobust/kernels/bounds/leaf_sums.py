"""What a row of a leaf and the rows of another accumulate, in vector code and in one order.

Columns are filled up with zeros to a power of two and summed up by halves: that is the order of
`distances.reduced` for up to 32 columns, so the values are its very bits.
"""

from __future__ import annotations

from ...metrics import CHEBYSHEV, CITYBLOCK
from ..compiling import inlined, kernel


@inlined()
def accumulate(one, i, two, width, limit, code, work):
    """work.value[j] = what row i of a leaf and row j of another accumulate, as `reduced` has it.

    one, two (columns, w): the leaves' blocks; width: rows of the other one. Returns how many are
    within the limit.
    """
    columns, out = one.shape[0], work.value
    if code in (CITYBLOCK, CHEBYSHEV) or columns > 16:
        return _any_sums(one, i, two, width, limit, code, work)
    if columns == 4:
        return _squares4(one, i, two, width, limit, out)
    if columns == 8:
        return _squares8(one, i, two, width, limit, out)
    return _squares16(one, i, two, width, limit, out)


@kernel(inline="always")
def _square(a, b):
    return (a - b) * (a - b)


@kernel()
def _squares4(one, i, two, width, limit, out):
    a0, a1, a2, a3 = one[0, i], one[1, i], one[2, i], one[3, i]
    hits = 0
    for j in range(width):
        left = _square(a0, two[0, j]) + _square(a2, two[2, j])
        value = left + (_square(a1, two[1, j]) + _square(a3, two[3, j]))
        out[j] = value
        hits += value <= limit
    return hits


@kernel()
def _squares8(one, i, two, width, limit, out):
    a0, a1, a2, a3 = one[0, i], one[1, i], one[2, i], one[3, i]
    a4, a5, a6, a7 = one[4, i], one[5, i], one[6, i], one[7, i]
    hits = 0
    for j in range(width):
        s0 = _square(a0, two[0, j]) + _square(a4, two[4, j])
        s1 = _square(a1, two[1, j]) + _square(a5, two[5, j])
        s2 = _square(a2, two[2, j]) + _square(a6, two[6, j])
        s3 = _square(a3, two[3, j]) + _square(a7, two[7, j])
        value = (s0 + s2) + (s1 + s3)
        out[j] = value
        hits += value <= limit
    return hits


@kernel()
def _squares16(one, i, two, width, limit, out):
    """In two sweeps, the even and the odd lanes: sixteen columns are more than registers."""
    a0, a2, a4, a6 = one[0, i], one[2, i], one[4, i], one[6, i]
    a8, aa, ac, ae = one[8, i], one[10, i], one[12, i], one[14, i]
    for j in range(width):
        s0 = _square(a0, two[0, j]) + _square(a8, two[8, j])
        s4 = _square(a4, two[4, j]) + _square(ac, two[12, j])
        s2 = _square(a2, two[2, j]) + _square(aa, two[10, j])
        s6 = _square(a6, two[6, j]) + _square(ae, two[14, j])
        out[j] = (s0 + s4) + (s2 + s6)
    a1, a3, a5, a7 = one[1, i], one[3, i], one[5, i], one[7, i]
    a9, ab, ad, af = one[9, i], one[11, i], one[13, i], one[15, i]
    hits = 0
    for j in range(width):
        s1 = _square(a1, two[1, j]) + _square(a9, two[9, j])
        s5 = _square(a5, two[5, j]) + _square(ad, two[13, j])
        s3 = _square(a3, two[3, j]) + _square(ab, two[11, j])
        s7 = _square(a7, two[7, j]) + _square(af, two[15, j])
        value = out[j] + ((s1 + s5) + (s3 + s7))
        out[j] = value
        hits += value <= limit
    return hits


@kernel()
def _any_sums(one, i, two, width, limit, code, work):
    """Any accumulation over any power of two of columns, by halves."""
    parts, out = work.parts, work.value
    half, plain = two.shape[0], code in (CITYBLOCK, CHEBYSHEV)
    for k in range(half):
        a = one[k, i]
        for j in range(width):
            t = abs(a - two[k, j])
            parts[k, j] = t if plain else t * t
    while half > 1:
        half //= 2
        for k in range(half):
            left, right = parts[k], parts[k + half]
            for j in range(width):
                more = right[j] if right[j] > left[j] else left[j]
                left[j] = more if code == CHEBYSHEV else left[j] + right[j]
    hits = 0
    for j in range(width):
        out[j] = parts[0, j]
        hits += parts[0, j] <= limit
    return hits
