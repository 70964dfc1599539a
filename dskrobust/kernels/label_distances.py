"""‖Δy‖ of two labels, and which pairs count."""

from __future__ import annotations

import numpy as np

from ..labels import CATEGORICAL, L1, L2, LEADING
from .compiling import compiled, inlined

SAME, ANY = 4, 5  # beside the codes of label maps: pairs of equal labels count, or all, as 1


@compiled
def label_differences(ya, yb, code, out):
    """out[i, j] = ‖ya[i] − yb[j]‖, float64; exactly 0 for pairs that do not count only."""
    for i in range(ya.shape[0]):
        for j in range(yb.shape[0]):
            out[i, j] = label_difference(ya[i], yb[j], code)


@inlined()
def label_difference(a, b, code):
    """‖a − b‖ of two labels (m,), exactly 0 for equal labels only; for SAME 1 for these only.

    With leading columns that of the others, and 0 where those are equal.
    """
    if code < LEADING:
        return _difference(a, b, code)
    leading = code // LEADING
    for k in range(leading):
        if a[k] != b[k]:
            return _difference(a[leading:], b[leading:], code % LEADING)
    return 0.0


@inlined()
def _difference(a, b, code):
    if code == ANY:
        return 1.0
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
