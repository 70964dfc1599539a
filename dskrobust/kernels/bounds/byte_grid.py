"""Rows in few bytes, and how far those bytes may be from the truth (DESIGN.md, "Other metrics").

Columns that go together are put into groups, each group becomes one number that no distance is
shorter than, and each number becomes a byte. What rounding to bytes costs is measured row by row,
so bounds hold for any rows and any grid; a poor grid only makes them say little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...blas import matmul
from ...metrics import CHEBYSHEV, CITYBLOCK, MINKOWSKI, KernelForm
from ..compiling import kernel
from ..job import Tuning
from .byte_bins import COLUMNS

NARROW = 128  # columns up to which every column is its own group
FIRST, SECOND = 64, 512  # groups of the two coarse levels; powers of two
SAMPLE_VALUES = 2**19  # in 4 MiB: copies of a sample fit the scratch that is planned for
LEVELS = 3


@dataclass(frozen=True)
class Level:
    """One way from a row to bytes.

    Attributes
    ----------
    columns : ndarray (d,) int64
        Columns in the order of the groups.
    starts : ndarray (m + 1,) int64
        Where groups begin in `columns`.
    weights : ndarray (m,) float64
        s^(1/p − 1) for a group of s columns: then no distance gets longer.
    low : ndarray (m,) float64
        What byte 0 stands for.
    step : float
        From one byte to the next, the same for all groups.
    """

    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    weights: NDArray[np.float64]
    low: NDArray[np.float64]
    step: float


class Coarse(NamedTuple):
    """A panel's rows at three levels, as kernels take them; levels may be empty, (0, 0).

    first, second (n, m) uint8 are in positions, fine (n, d) in row order; the errors (n,) float64
    say how far bytes are from their rows, in steps.
    """

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    fine: NDArray[np.uint8]
    first_error: NDArray[np.float64]
    second_error: NDArray[np.float64]
    fine_error: NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """How the panels of a tile become bytes; all of them alike, so that they can be compared.

    Attributes
    ----------
    levels : tuple of three Level or None
        Coarse, less coarse, all columns.
    power : int
        Exponent of the norm that bytes are compared in, 0 for the largest difference.
    slack : float
        Relative widening for what float64 distances are off.
    """

    levels: tuple[Level | None, Level | None, Level | None]
    power: int
    slack: float

    @property
    def steps(self) -> NDArray[np.float64]:
        return np.array([level.step if level else 1.0 for level in self.levels])

    def coarse(self, rows: NDArray[Any], order: NDArray[np.int64]) -> Coarse:
        """Return a panel's bytes; uint8 rows are their own."""
        parts: list[NDArray[Any]] = []
        errors: list[NDArray[np.float64]] = []
        for k, level in enumerate(self.levels):
            if level is None:
                whole = k == LEVELS - 1 and rows.dtype == np.uint8
                parts.append(rows if whole else np.empty((0, 0), np.uint8))
                errors.append(np.zeros(len(rows) if whole else 0))
                continue
            by = order if k < LEVELS - 1 else np.arange(len(rows))
            part, error = _cut_bytes(level, rows, by, self.power)
            parts.append(part)
            errors.append(error)
        return Coarse(parts[0], parts[1], parts[2], errors[0], errors[1], errors[2])


def power_of(form: KernelForm) -> int:
    """The exponent of the norm that bytes are compared in, 0 for the largest difference.

    ‖z‖_p ≥ ‖z‖_q for p ≤ q, so the next whole exponent bounds the ones below.
    """
    if form.code == MINKOWSKI and form.p <= 4:
        return int(np.ceil(form.p))
    return 1 if form.code == CITYBLOCK else 0


def make_grid(rows: NDArray[Any], form: KernelForm, tuning: Tuning) -> Grid | None:
    """Choose groups of columns and bytes for rows like these; None where none are worth it."""
    n, d = rows.shape
    if not form.byte_bounded:
        return None
    if n < tuning.grid_rows or d < tuning.grid_columns:
        return None
    count = min(n, tuning.grid_sample, max(16, SAMPLE_VALUES // d))
    sample = rows[np.linspace(0, n - 1, count).astype(np.int64)].astype(np.float64)
    size = float(np.abs(sample).max())
    if not size > 1e-200:
        return None
    slack = (d + form.p * (form.code == MINKOWSKI) + 32) * 2.0**-50
    p = {CITYBLOCK: 1.0, CHEBYSHEV: np.inf}.get(form.code, form.p)
    plain = np.arange(d), np.arange(d + 1)
    if power_of(form) == 0:  # one column is enough to drop a pair, so none are put together
        fine = None if rows.dtype == np.uint8 else _level(sample, *plain, p, rows.dtype)
        return Grid((None, None, fine), 0, slack)
    if d <= NARROW:
        levels = (_level(sample, *plain, p, rows.dtype), None, None)
        return Grid(levels, power_of(form), slack)
    second = min(SECOND, 2 ** int(np.log2(d / 3)))
    columns, starts = _bisect(sample[:: max(1, len(sample) // 64)] / size, max(second, FIRST))
    first = starts[:: (len(starts) - 1) // FIRST]
    return Grid(
        (
            _level(sample, columns, first, p, rows.dtype),
            _level(sample, columns, starts, p, rows.dtype) if second > FIRST else None,
            None if rows.dtype == np.uint8 else _level(sample, *plain, p, rows.dtype),
        ),
        power_of(form),
        slack,
    )


def row_bytes(columns: int, form: KernelForm, dtype: np.dtype[Any]) -> int:
    """Bytes of a row's `Coarse` at most, and of what is needed to make it."""
    if not form.byte_bounded or columns < Tuning.grid_columns:
        return 0
    fine = 0 if dtype == np.uint8 else -(-columns // 32) * 32
    if power_of(form) == 0:
        return fine + 2 * COLUMNS + 32
    if columns <= NARROW:
        return NARROW + 32
    return FIRST + SECOND + 32 + fine


def _level(
    sample: NDArray[np.float64],
    columns: NDArray[np.int64],
    starts: NDArray[np.int64],
    p: float,
    dtype: np.dtype[Any],
) -> Level:
    """Spread 256 bytes over nearly all of the sample; what lies outside only bounds less well."""
    sizes = np.diff(starts).astype(np.float64)
    weights = sizes ** ((0.0 if p == np.inf else 1 / p) - 1)
    if dtype == np.uint8 and len(sizes) == len(columns):
        return Level(columns, starts, weights, np.zeros(len(sizes)), 1.0)
    values = np.add.reduceat(sample[:, columns], starts[:-1], axis=1) * weights
    cut = len(sample) // 500
    ordered = np.sort(values, axis=0)
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    half = float((high / 2 - low / 2).max())
    step = half * 2 / 255
    if not step > 1e-250:  # constant columns
        step = 1.0
    return Level(columns, starts, weights, low / 2 + high / 2 - step * 127.5, step)


def _bisect(sample: NDArray[np.float64], parts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Halve the columns along their main direction, again and again, into groups that agree."""
    table = np.ascontiguousarray((sample - sample.mean(axis=0)).T)
    groups = [np.arange(len(table))]
    rng = np.random.default_rng(0)
    while len(groups) < parts:
        halves = []
        for group in groups:
            part = table[group]
            part = part - part.mean(axis=0)
            along = rng.standard_normal(len(group))
            for _ in range(3):
                along = matmul(part, matmul(along, part))
                along /= np.abs(along).max() + 1e-300
            order = group[np.argsort(along, kind="stable")]
            middle = len(order) // 2
            halves += [order[:middle], order[middle:]]
        groups = halves
    return np.concatenate(groups), np.cumsum([0, *map(len, groups)])


def _cut_bytes(
    level: Level, rows: NDArray[Any], order: NDArray[np.int64], power: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    groups = len(level.low)
    out = np.zeros((len(order), -(-groups // 32) * 32), np.uint8)
    error = np.empty(len(order))
    grid = level.columns, level.starts, level.weights, level.low, level.step
    _to_bytes(rows, order, grid, power, out, error)
    return out, error


@kernel()
def _to_bytes(rows, order, grid, power, out, error):
    """Fill `out` with the nearest bytes, `error` with a bound on how far they are, in steps.

    The bound holds the rounding of this very computation: a sum of s terms in float64 is off by
    less than (s + 8)·2⁻⁵² of s times the largest, and what follows by as much of what it adds to.
    """
    columns, starts, weights, low, step = grid
    inverse = 1.0 / step
    for i in range(order.shape[0]):
        row, total, size = rows[order[i]], 0.0, 0.0
        for c in range(row.shape[0]):
            size = max(size, abs(np.float64(row[c])))
        for g in range(low.shape[0]):
            value, count = 0.0, starts[g + 1] - starts[g]
            for c in range(starts[g], starts[g + 1]):
                value += np.float64(row[columns[c]])
            value *= weights[g]
            near = np.rint(min(max((value - low[g]) * inverse, 0.0), 255.0))
            out[i, g] = np.uint8(near)
            off = abs(value - (low[g] + step * near))
            scale = count * weights[g] * size + abs(low[g]) + 255.0 * step
            off += (count + 8) * 2.0**-52 * scale
            off *= inverse
            if power == 0:
                total = max(total, off)
            elif power == 1:
                total += off
            elif power == 2:
                total += off * off
            elif power == 3:
                total += off * off * off
            else:
                total += (off * off) * (off * off)
        if power > 1:
            total = total ** (1.0 / power)
        error[i] = total * (1.0 + (low.shape[0] + 64) * 2.0**-50) + 1e-9
