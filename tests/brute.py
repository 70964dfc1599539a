"""The definitions of the paper written down with NumPy, pair by pair and in float64.

Nothing here is shared with the engine. The order of summation is the documented one of
``kernels/distances.py`` (32 lanes take the columns k, k + 32, …; then halves are added), so values
can be compared with ``==``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import repeat
from operator import add

import numpy as np

LANES = 32
TABLES = (
    "robustness",
    "lipschitz",
    "reach",
    "witness",
    "nearest",
    "lipschitz_by_group",
    "reach_by_group",
    "witness_by_group",
    "nearest_by_group",
)


def lane_sum(terms):
    """Add up the last axis, shape (..., d) → (...), in 32 lanes and then by halves."""
    lanes = np.zeros((*terms.shape[:-1], LANES))
    for k in range(0, terms.shape[-1], LANES):
        part = terms[..., k : k + LANES]
        lanes[..., : part.shape[-1]] += part
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def unit_rows(X):
    """Divide rows by their largest entry and then by their length."""
    X = X / np.abs(X).max(axis=1, keepdims=True)
    return X / np.sqrt(lane_sum(X * X))[:, None]


def whitened(X, VI, scale):
    """Multiply rows by the factor of VI, column after column."""
    matrix = np.linalg.cholesky((VI + VI.T) / 2).T * scale
    out = np.zeros(X.shape)
    for k in range(X.shape[1]):
        out += matrix[:, k][None, :] * X[:, k][:, None]
    return out


def power_mean(difference, p):
    """(Σ|t|^p)^(1/p) of one difference of rows, the largest term taken out."""
    top = float(difference.max())
    if top == 0:
        return 0.0
    terms = map(math.pow, (difference / top).tolist(), repeat(p))
    return top * math.pow(reduce(add, terms, 0.0), 1 / p)


def distances(X, metric="euclidean", scale=1.0, others=None):
    """All distances, shape (n, m): of rows of X and `others` (X itself by default).

    metric: a name, ("minkowski", p), ("mahalanobis", VI), or a function of two rows.
    """
    X = np.asarray(X).astype(np.float64)
    alike = others is None
    others = X if alike else np.asarray(others).astype(np.float64)
    name, argument = metric if isinstance(metric, tuple) else (metric, None)
    if name == "angular":
        X, others = unit_rows(X), unit_rows(others)
    if name == "mahalanobis":
        X, others = whitened(X, argument, scale), whitened(others, argument, scale)
    out = np.empty((len(X), len(others)))
    for i, row in enumerate(X):
        first = i if alike else 0  # lower rows are as far from this one as it is from them
        line, rest = out[i, first:], others[first:]
        if callable(name):
            a, b = scale * row, scale * rest
            line[:] = [name(a, c) if i <= j else name(c, a) for j, c in enumerate(b, first)]
            continue
        size = np.abs(row - rest)
        if name in ("euclidean", "angular", "mahalanobis"):
            line[:] = np.sqrt(lane_sum(size * size))
        elif name == "cityblock":
            line[:] = scale * lane_sum(size)
        elif name == "chebyshev":
            line[:] = scale * size.max(axis=1)
        elif name == "minkowski":
            line[:] = [scale * power_mean(d, argument) for d in size]
        elif name == "hamming":
            line[:] = (size != 0).sum(axis=1) / X.shape[1]
        else:
            raise ValueError(name)
    if alike:
        lower = np.tril_indices(len(X), -1)
        out[lower] = out.T[lower]
    if name == "euclidean":
        out *= scale
    if name == "angular":
        out = np.array([[2 * math.asin(min(1.0, c / 2)) for c in row] for row in out.tolist()])
    return out


def label_distances(y, labels):
    """All ‖y − y′‖, shape (n, n); labels: categorical, real, vector-l1, -l2, -linf, or a norm."""
    y = np.asarray(y).astype(np.float64)
    y = y.reshape(len(y), -1)
    if callable(labels):
        pairs = ((a - b, k - j) for j, a in enumerate(y) for k, b in enumerate(y))
        return np.reshape([labels(v if up >= 0 else -v) for v, up in pairs], (len(y), len(y)))
    size = np.abs(y[:, None, :] - y[None, :, :])
    top = size.max(axis=2)
    if labels == "categorical":
        return (top > 0).astype(np.float64)
    if labels in ("real", "vector-linf") or y.shape[1] == 1:
        return top
    total = np.zeros(top.shape)
    if labels == "vector-l1":
        for k in range(y.shape[1]):
            total += size[:, :, k]
        return total
    divisor = np.where(top > 0, top, 1.0)
    for k in range(y.shape[1]):
        total += (size[:, :, k] / divisor) * (size[:, :, k] / divisor)
    return top * np.sqrt(total)


def label_bound(y, labels):
    """Return ‖y‖∞."""
    if labels == "categorical":
        return 1.0
    if callable(labels):
        return max(map(labels, np.asarray(y).astype(np.float64).reshape(len(y), -1)))
    size = np.abs(np.asarray(y).astype(np.float64).reshape(len(y), -1))
    if labels == "vector-l1":
        return float(size.sum(axis=1).max())
    if labels in ("vector-l2", "vector"):
        return float(np.sqrt((size * size).sum(axis=1)).max())
    return float(size.max())


@dataclass(frozen=True)
class Expected:
    """What `Scores` must hold, under the same names."""

    robustness: np.ndarray
    lipschitz: np.ndarray
    reach: np.ndarray
    witness: np.ndarray
    nearest: np.ndarray
    lipschitz_by_group: np.ndarray
    reach_by_group: np.ndarray
    witness_by_group: np.ndarray
    nearest_by_group: np.ndarray
    groups: tuple


def best(values, allowed):
    """Smallest allowed value of every row and the lowest column that has it; ∞ and -1 without."""
    values = np.where(allowed, values, np.inf)
    index = np.argmin(values, axis=1)
    found = allowed.any(axis=1)
    # An allowed ∞ comes after nothing: the lowest allowed column is the one.
    infinite = found & np.isposinf(values[np.arange(len(values)), index])
    index = np.where(infinite, np.argmax(allowed, axis=1), index)
    return values[np.arange(len(values)), index], np.where(found, index, -1)


def score(X, y, split=None, metric="euclidean", labels="categorical", scale=1.0):
    """Score every sample by brute force (paper, 3.2 to 3.4)."""
    d = distances(X, metric, scale)
    dy = label_distances(y, labels)
    split = np.array(["all"] * len(d)) if split is None else np.asarray(split)
    groups, codes = np.unique(split, return_inverse=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = dy / d
    columns = {name: [] for name in ("reach", "nearest", "lipschitz", "witness")}
    for code in range(len(groups)):
        allowed = (dy > 0) & (codes == code)[None, :]
        reach, nearest = best(d, allowed)
        if labels == "categorical":
            with np.errstate(divide="ignore"):
                lipschitz, witness = 1 / reach, nearest
        else:
            negative, witness = best(-quotients, allowed)
            lipschitz = np.where(witness < 0, 0.0, -negative)
        for name, values in zip(columns, (reach, nearest, lipschitz, witness), strict=True):
            columns[name].append(values)
    tables = {name: np.stack(values, axis=1) for name, values in columns.items()}
    own = {name: table[np.arange(len(d)), codes] for name, table in tables.items()}
    bound = label_bound(y, labels)
    robustness = bound / (own["lipschitz"] + bound)
    by_group = {f"{name}_by_group": table for name, table in tables.items()}
    return Expected(robustness=robustness, **own, **by_group, groups=tuple(map(str, groups)))


def assert_same(scores, expected):
    """Compare every array of computed scores with `==`, row numbers included."""
    assert tuple(scores.groups) == tuple(expected.groups)
    for name in TABLES:
        got, wanted = np.asarray(getattr(scores, name)), np.asarray(getattr(expected, name))
        assert got.dtype.kind == wanted.dtype.kind, name
        np.testing.assert_array_equal(got, wanted, err_msg=name, strict=False)


def exact_square(a, b):
    """Squared Euclidean distance as a fraction: no rounding at all."""
    return sum((Fraction(float(s)) - Fraction(float(t))) ** 2 for s, t in zip(a, b, strict=True))


# -- what a tile's rows come to ----------------------------------------------------------------

NOBODY = 2**63 - 1  # where no pair was seen


def counting_pairs(y, labels, rule, rows, columns, itself=False):
    """Which pairs of some rows and columns count, and their ‖Δy‖: two (r, c) arrays.

    rule: "different", "same" or "any" labels; no row counts with itself but with `itself`.
    """
    rows, columns = np.asarray(rows), np.asarray(columns)
    dy = label_distances(y, labels)[np.ix_(rows, columns)]
    if rule == "different":
        return dy > 0, dy
    allowed = np.ones(dy.shape, bool) if itself else rows[:, None] != columns[None, :]
    return allowed & ((dy == 0) | (rule == "any")), np.ones(dy.shape)


def _named(index, columns):
    """Columns as row numbers, NOBODY where there are none."""
    return np.where(index < 0, NOBODY, np.asarray(columns)[index])


def largest_quotients(d, dy, allowed, parts, columns, *, quotients):
    """Reach, nearest, quotient and witness (r, p) against every part.

    parts: for every part which columns lie in it; columns: their row numbers, ascending.
    """
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = dy / d
    for inside in parts:
        reach, nearest = best(d, allowed & inside)
        negative, witness = best(-ratio, allowed & inside)
        q = np.where(witness < 0, 0.0, -negative)
        found.append((reach, _named(nearest, columns), q, _named(witness, columns)))
    reach, nearest, q, witness = (np.stack(column, axis=1) for column in zip(*found, strict=True))
    if not quotients:
        return reach, nearest, np.zeros((0, 0)), np.zeros((0, 0), np.int64)
    return reach, nearest, q, witness


def k_nearest(d, allowed, parts, columns, k):
    """Distances and row numbers (r, p, k) of the nearest in every part."""
    distance = np.full((len(d), len(parts), k), np.inf)
    index = np.full(distance.shape, NOBODY)
    for p, inside in enumerate(parts):
        at = np.flatnonzero(inside)
        near, counts = d[:, at], allowed[:, at]
        order = np.lexsort((near, ~counts), axis=1)[:, :k]  # stable: of equals the lowest first
        found, place = np.take_along_axis(counts, order, 1), slice(order.shape[1])
        distance[:, p, place] = np.where(found, np.take_along_axis(near, order, 1), np.inf)
        index[:, p, place] = np.where(found, np.asarray(columns)[at[order]], NOBODY)
    return distance, index


def count_within(d, allowed, parts, radius):
    """How many pairs are within the radius (r, p) of their row, in every part."""
    counts = [
        ((d <= radius[:, p, None]) & allowed & inside).sum(axis=1) for p, inside in enumerate(parts)
    ]
    return np.stack(counts, axis=1)
