"""Matrix products by BLAS, whose floating-point flags say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def matmul(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a @ b``, shapes (r, k) and (k, c); finite operands of ours give finite products.

    Vector kernels of BLAS also compute on lanes that they drop. What lies there may raise a
    flag, of which NumPy makes a warning (numpy issue 24067): an error to who makes errors of
    warnings, and false.
    """
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out=out)
