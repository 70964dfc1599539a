"""Which prefixes pay: directions from a sample, and depths from what they would cost.

A trial on the sample says how many pairs the bounds of a depth leave over, a table of costs what
that means in nanoseconds. Depths only decide how fast a run is, never what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...blas import matmul
from ..job import Screen
from ..twins import hash_rows
from .prefix import WIDE, Basis, Depths, slices, stretch_of

LEAST_COLUMNS = 96  # below, a product over all columns is as cheap
LEAST_ROWS = 4_000  # below, all is done before a basis would be found
SAMPLE = 4_096  # rows
SAMPLE_BYTES = 24 * 2**20  # of a sample in float32
WIDE_SAMPLE = 256  # rows that are longer than WIDE
PIECES = 8  # of consecutive rows that make a sample
PROBES = 64
OVERSAMPLED = 16  # directions looked for beyond those wanted
DEPTHS = (8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)

# nanoseconds on a core of 2024, roughly; only their ratios matter
PRODUCT, SWEEP = 0.022, 0.25  # a column of a pair; a pair
LOOK, LOOK_COLUMN = 10.0, 0.155  # a second screening and each of its columns
PROOF, PROOF_COLUMN = 200.0, 0.175  # a proof and each of its columns
PROJECTION = 0.05  # a column of a row in one direction


@dataclass(frozen=True)
class Trial:
    """What a sample says of the depths.

    Attributes
    ----------
    depths : tuple of int
    left : ndarray (depths,)
        Share of differently labelled pairs that the bound of a depth leaves over.
    """

    depths: tuple[int, ...]
    left: NDArray[np.float64]


def sample_pieces(rows: int, columns: int, budget: int | None = None) -> list[tuple[int, int]]:
    """Return evenly spaced runs of rows that make a sample; none where no basis is worth a look.

    Parameters
    ----------
    rows, columns : int
    budget : int, optional
        Bytes that finding a basis may take.
    """
    most, share = (SAMPLE_BYTES, 6) if columns <= WIDE else (WIDE_SAMPLE * 4 * columns, 4)
    least = most if budget is None else min(most, budget // share)
    count = min(SAMPLE, least // (4 * columns))
    if columns < LEAST_COLUMNS or rows < LEAST_ROWS or count < 4 * DEPTHS[2]:
        return []
    size = count // PIECES
    starts = np.linspace(0, rows - size, PIECES).astype(int)
    return [(int(a), int(a) + size) for a in starts]


@dataclass(frozen=True)
class Sample:
    """A part of a sample.

    Attributes
    ----------
    rows : ndarray (m, d) float32
        Centred, multiplied by the screen's unit.
    labels : ndarray (m,)
    sketch : ndarray (d, k) float32
        Xᵀ X Ω of the rows over `size`, with the random Ω of all parts; (d, 0) of long rows.
    size : float
        Largest value of the rows, or the squares of tiny ones would vanish.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.float64]
    sketch: NDArray[np.float32]
    size: float


def sketch_rows(
    rows: NDArray[Any], labels: NDArray[np.float64], screen: Screen, total: int
) -> Sample:
    """Make a part of a sample of `total` rows.

    Parameters
    ----------
    rows : ndarray (m, d)
        As distances are computed from them.
    labels : ndarray (m,)
    screen : Screen
        Centre and unit of the run.
    total : int
        Rows of the sample.
    """
    center = np.zeros(rows.shape[1]) if screen.center is None else screen.center
    columns = rows.shape[1]
    x: NDArray[np.float32] = np.empty((len(rows), columns), np.float32)
    for part in slices(columns):
        x[:, part] = (rows[:, part] - center[part]) * screen.unit
    size = max(float(np.abs(x[:, part]).max(initial=0.0)) for part in slices(columns))
    count = _most_columns(total, columns)
    if count < DEPTHS[0] or not np.isfinite(size) or size == 0 or x.shape[1] > WIDE:
        return Sample(x, labels, np.zeros((x.shape[1], 0), np.float32), size)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((x.shape[1], count + OVERSAMPLED), dtype=np.float32)
    scaled = x / np.float32(size)
    sketch = np.asarray(matmul(scaled.T, matmul(scaled, start)), np.float32)
    return Sample(x, labels, sketch, size)


def _most_columns(sample: int, columns: int) -> int:
    """Return how deep the prefixes may be that a sample of so many rows says something of."""
    return min(DEPTHS[-1], columns // 3, sample // 4)


def choose_basis(parts: Sequence[Sample], screen: Screen, total: int) -> Basis | None:
    """Find directions and depths, or None where a product over all columns is cheaper.

    Parameters
    ----------
    parts : sequence of Sample
        All of a sample.
    screen : Screen
        Centre and unit of the run.
    total : int
        Rows of the whole data set.
    """
    x = np.concatenate([part.rows for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    (m, d), size = x.shape, max(part.size for part in parts)
    most = _most_columns(m, d)
    if d < LEAST_COLUMNS or total < LEAST_ROWS or most < DEPTHS[0]:
        return None
    if size == 0 or not all(np.isfinite(part.size) for part in parts):
        return None
    directions, inside = (_leading_of_few if d > WIDE else _leading)(x, parts, size, most)
    first = np.unique(hash_rows(x), return_index=True)[1]
    if len(first) < len(x):  # one of equal rows is all that is swept
        first.sort()
        x, labels, inside = x[first], labels[first], inside[first]
    trial = _try(x, labels, inside, total)
    chosen = _cheapest(trial, d, total) if trial is not None else None
    if chosen is None:
        return None
    short, long = chosen
    matrix = np.ascontiguousarray(directions[:long])
    depths = Depths(d, short, long, screen.unit)
    center = np.zeros(d) if screen.center is None else screen.center
    return Basis(center, matrix, stretch_of(matrix), depths)


def _leading(
    x: NDArray[np.float32], parts: Sequence[Sample], size: float, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Leading directions (count, d) of the rows, and the rows in these (m, count).

    A randomised range finder with a fixed seed: the parts' sketches, added, span nearly what the
    rows vary in.
    """
    weights = [np.float32((part.size / size) ** 2) for part in parts]
    sketches = (weight * p.sketch for weight, p in zip(weights, parts, strict=True) if p.size)
    basis, _ = np.linalg.qr(sum(sketches))
    inside = matmul(x, basis)
    scaled = inside / np.float32(size)
    _, vectors = np.linalg.eigh(matmul(scaled.T, scaled))
    turn = vectors[:, : -count - 1 : -1]
    return np.ascontiguousarray(matmul(basis, turn).T, np.float32), matmul(inside, turn)


def _leading_of_few(
    x: NDArray[np.float32], parts: Sequence[Sample], size: float, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the same of few long rows: from their products with each other, without a sketch."""
    gram, unit = np.zeros((len(x), len(x)), np.float32), np.float32(1 / size)
    for part in slices(x.shape[1]):
        scaled = x[:, part] * unit
        gram += matmul(scaled, scaled.T)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 1e-6 * values[-1])  # no rounding errors are made directions of
    turn = vectors[:, : -count - 1 : -1] / np.sqrt(values[: -count - 1 : -1])
    directions = np.empty((count, x.shape[1]), np.float32)
    for part in slices(x.shape[1]):
        directions[:, part] = matmul(turn.T, x[:, part] * unit)
    return directions, matmul(x, directions.T)


def _try(
    x: NDArray[np.float32], labels: NDArray[np.float64], a: NDArray[np.float32], total: int
) -> Trial | None:
    """Screen some rows of the sample against all of it at every depth; `a`: x in directions."""
    probes = np.unique(np.linspace(0, len(x) - 1, PROBES).astype(int))
    square = np.einsum("ij,ij->i", x, x)
    differ = labels[probes][:, None] != labels[None, :]
    distance = square[probes][:, None] + square[None, :] - 2 * matmul(x[probes], x.T)
    distance = np.where(differ, distance, np.inf)
    reach = distance.min(axis=1)
    fewer = distance[:, ::4].min(axis=1)
    seen = np.isfinite(fewer) & (fewer > 0)
    if seen.sum() < 8:
        return None
    # squared reaches shrink by this factor when rows become four times as many; on the way
    # to the end of a run they are half way there
    shrink = float(np.clip(np.median(reach[seen] / fewer[seen]), 0.05, 1.0))
    steps = max(0.0, np.log(total / len(x)) / np.log(4)) / 2
    limit = (reach * shrink**steps)[seen][:, None]
    probes, differ = probes[seen], differ[seen]
    depths = tuple(k for k in DEPTHS if k <= a.shape[1])
    left = np.empty(len(depths))
    sums, inside = square[probes][:, None] + square[None, :], np.zeros(len(x), np.float32)
    for s, (start, k) in enumerate(pairwise((0, *depths))):
        part = a[:, start:k]
        inside += np.einsum("ij,ij->i", part, part)
        sums -= 2 * matmul(part[probes], part.T)
        rest = np.sqrt(np.maximum(square - inside, 0))
        low = sums - 2 * np.outer(rest[probes], rest)
        left[s] = ((low <= limit) & differ).sum() / max(1, differ.sum())
    return Trial(depths, left)


def _cheapest(trial: Trial, columns: int, total: int) -> tuple[int, int] | None:
    """The depths (short, long) of the least cost a pair; None where none beats all columns."""
    proof = PROOF + PROOF_COLUMN * columns
    # both rows of a pair may keep it; a share counted on few pairs may be several too small
    left = 2 * trial.left + 2.0 / total
    best, chosen = 0.8 * (PRODUCT * columns + SWEEP + proof * 4.0 / total), None
    for s, short in enumerate(trial.depths):
        first = PRODUCT * (short + 1) + SWEEP
        for t in range(s + 1, len(trial.depths)):
            long = trial.depths[t]
            if short + long + 3 > columns:
                break  # would need more memory than the rows themselves
            cost = first + left[s] * (LOOK + LOOK_COLUMN * long) + left[t] * proof
            cost += 2 * PROJECTION * columns * long / total
            if cost < best:
                best, chosen = cost, (short, long)
    return chosen
