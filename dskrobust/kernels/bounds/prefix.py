"""Prefixes: rows rotated into leading directions and cut off, so that few columns bound distances.

For any matrix P and x = (row − center)·unit let a = P x / √σ with σ ≥ ‖P Pᵀ‖₂. Then
xᵀ(I − PᵀP/σ)x is not negative and its root ρ(x) is a seminorm, so

    ‖a − a′‖² + (ρ − ρ′)²  ≤  ‖x − x′‖²  ≤  ‖a − a′‖² + (ρ + ρ′)²

whatever P is; P only decides how tight it is. A *prefix* of a row is the float32 vector
(a₁ … a_k, ρ at the short depth, ρ at the long one). With s = (a, ρ) and ŝ what is kept of it,
‖ŝ − s‖ ≤ ε‖x‖ where

    ε = u + √(2g + 2γ + 8·2⁻⁵³),  u = 2⁻²⁴,  γ = (d + 2)·2⁻⁵³,  g = γ·√k

(a is computed in float64 with an error of at most g‖x‖, ‖x‖² with one of γ‖x‖², their difference
ρ² is off by their sum, its root by at most the root of that; rounding to float32 adds u). So

    ‖ŝ − ŝ′‖² − (2/θ)(ε²‖x‖² + ε²‖x′‖²)  ≤  (1 + 2θ)‖x − x′‖²      for θ ≤ ½,

from (t − e)² ≥ (1 − θ)t² − (1/θ)e², and the upper bound likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...blas import matmul
from ..compiling import compiled, kernel

THETA = 2.0**-14
SUB_ROWS_BYTES = 2**23  # float64 rows projected at once
WIDE = 2**16  # columns that are worked on at once of longer rows


@dataclass(frozen=True)
class Depths:
    """How many columns the first and the second screening take.

    Attributes
    ----------
    columns : int
        Of the rows.
    short, long : int
    unit : float
        What the rows were multiplied by.
    """

    columns: int
    short: int
    long: int
    unit: float

    @property
    def width(self) -> int:
        """Columns of a kept prefix."""
        return self.long + 2

    @property
    def epsilon(self) -> float:
        """ε of the bounds."""
        gamma = (self.columns + 2) * 2.0**-53
        return float(2.0**-24 + np.sqrt(2 * gamma * np.sqrt(self.long) + 2 * gamma + 8 * 2.0**-53))


@dataclass(frozen=True)
class Basis:
    """How rows become prefixes.

    Attributes
    ----------
    center : ndarray (d,) float64
    matrix : ndarray (k, d) float32
        Directions, nearly orthonormal.
    stretch : float
        σ, at least the largest eigenvalue of ``matrix @ matrix.T``.
    depths : Depths
    """

    center: NDArray[np.float64]
    matrix: NDArray[np.float32]
    stretch: float
    depths: Depths


def slices(columns: int) -> list[slice]:
    """Cut columns into equal slices of at most WIDE."""
    step = -(-columns // max(1, -(-columns // WIDE)))
    return [slice(a, min(a + step, columns)) for a in range(0, columns, step)]


def stretch_of(matrix: NDArray[np.float32]) -> float:
    """Return σ: an upper bound on the largest eigenvalue of ``matrix @ matrix.T``."""
    gram = np.zeros((len(matrix), len(matrix)))
    for part in slices(matrix.shape[1]):
        wide = matrix[:, part].astype(np.float64)
        gram += matmul(wide, wide.T)
    rows = np.abs(gram).sum(axis=1).max()  # Gershgorin
    frobenius = 1.0 + float(np.linalg.norm(gram - np.eye(len(gram))))
    return float(max(1.0, min(rows, frobenius)) * (1 + 1e-9))


class Projector:
    """Makes prefixes of rows, in buffers of its own: fresh pages cost as much as the products."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._directions = np.ascontiguousarray(basis.matrix.T, np.float64)
        columns, long = self._directions.shape
        self._slices = slices(columns)
        width = self._slices[0].stop
        step = max(64, SUB_ROWS_BYTES // (8 * width))
        self._x, self._a = np.empty((step, width)), np.empty((step, long))

    def __call__(self, rows: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Write the prefixes of rows (n, d) to `out` (n, width)."""
        for lo in range(0, len(rows), len(self._x)):
            self._project(rows[lo : lo + len(self._x)], out[lo : lo + len(self._x)])

    def _project(self, rows: NDArray[Any], out: NDArray[np.float32]) -> None:
        basis, depths = self._basis, self._basis.depths
        a = self._a[: len(rows)]
        for k, part in enumerate(self._slices):
            x = self._x[: len(rows), : part.stop - part.start]
            np.subtract(rows[:, part], basis.center[part], out=x)
            x *= depths.unit
            if k == 0:
                square = np.einsum("ij,ij->i", x, x)
                matmul(x, self._directions[part], out=a)
            else:
                square += np.einsum("ij,ij->i", x, x)
                a += matmul(x, self._directions[part])
        a *= 1.0 / np.sqrt(basis.stretch)
        out[:, : depths.long] = a
        a *= a
        first = a[:, : depths.short].sum(axis=1)
        for column, taken in ((-2, first), (-1, first + a[:, depths.short :].sum(axis=1))):
            out[:, column] = np.sqrt(np.maximum(square - taken, 0.0))


def screen_prefixes(
    prefix: NDArray[np.float32],
    depths: Depths,
    kappa: float,
    screen: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fill `screen` (n, short + 1) with (a₁ … a_short, ρ) and return norms (2, n) float32.

    The first row is ‖ŝ‖²(1 − κ) − (2/θ)ε²‖x‖² − tiny, of which a low bound is made, the second
    the error (2/θ)ε²‖x‖². κ is the margin of the product (`panel.margin`).
    """
    norms = np.empty((2, len(prefix)))
    extra, tiny = 2.02 * depths.epsilon**2 / THETA, (depths.width + 8) * 2.0**-126
    _split_prefixes(prefix, depths.short, kappa, extra, tiny, screen, norms)
    return norms.astype(np.float32)


@kernel()
def _split_prefixes(prefix, short, kappa, extra, tiny, screen, norms):
    long = prefix.shape[1] - 2
    for i in range(prefix.shape[0]):
        row = prefix[i]
        total = 0.0
        for k in range(short):
            value = row[k]
            screen[i, k] = value
            total += np.float64(value) * np.float64(value)
        rho = row[long]
        screen[i, short] = rho
        square = total + np.float64(rho) * np.float64(rho)  # ‖x‖², but for a relative 2ε
        norms[0, i] = square * (1.0 - kappa) - extra * square - tiny
        norms[1, i] = extra * square + tiny


@kernel(fastmath={"nnan", "nsz", "reassoc"})
def _squares(a, b, columns):
    """Σ(aₖ − bₖ)² over the first columns, in float32 and any order."""
    total = np.float32(0.0)
    for k in range(columns):
        t = a[k] - b[k]
        total += t * t
    return total


@kernel()
def refine(found, count, a, b, gamma):
    """Bound the listed pairs by their long prefixes; keep those that still matter, in place.

    found (count, 2): positions in this block; a, b: (prefix, error, squared reach) of its sides.
    """
    a_prefix, a_error, a_reach = a
    b_prefix, b_error, b_reach = b
    last = a_prefix.shape[1] - 1
    kept = 0
    for s in range(count):
        i, j = found[s, 0], found[s, 1]
        p, q = a_prefix[i], b_prefix[j]
        limit = max(a_reach[i], b_reach[j])
        near = np.float64(p[last]) - np.float64(q[last])
        low = near * near + np.float64(_squares(p, q, last - 1)) * (1.0 - gamma)
        if low - (np.float64(a_error[i]) + np.float64(b_error[j])) <= limit:
            found[kept, 0], found[kept, 1] = i, j
            kept += 1
    return kept


@compiled
def prefix_bounds(found, count, a, b, gamma):
    """Low and high bounds (2, count) float64 of the listed pairs, by their long prefixes.

    a, b: as in `refine`. The high bound is ‖a − a′‖² + (ρ + ρ′)², widened by 2θ and the errors.
    """
    last, out = a[0].shape[1] - 1, np.empty((2, count))
    for s in range(count):
        i, j = found[s, 0], found[s, 1]
        p, q = a[0][i], b[0][j]
        one, other = np.float64(p[last]), np.float64(q[last])
        square, error = np.float64(_squares(p, q, last - 1)), np.float64(a[1][i]) + b[1][j]
        out[0, s] = (one - other) ** 2 + square * (1.0 - gamma) - error
        out[1, s] = ((one + other) ** 2 + square * (1.0 + gamma)) * (1.0 + 2 * THETA) + error
    return out
