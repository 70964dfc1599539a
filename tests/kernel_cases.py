"""Jobs, rows and tiles as the kernels take them, for several tests."""

from dataclasses import dataclass, replace

import brute
import numpy as np

import dskrobust as dr
from dskrobust.engine.spec import Context, PairSpec
from dskrobust.kernels import (
    Basis,
    CountState,
    CountWithin,
    Depths,
    KNearest,
    LargestQuotient,
    NearestState,
    Projector,
    QuotientState,
    Rows,
    Tuning,
    copy_of,
    kernel_rows,
    reduce_tile,
)
from dskrobust.kernels.bounds.prefix import stretch_of
from dskrobust.labels import LabelMap
from dskrobust.metrics import resolve_metric
from dskrobust.store import Block, summarise


def job_for(
    X,
    metric=None,
    labels="categorical",
    groups=("all",),
    *,
    rule="different",
    reduction=None,
    scale=1.0,
    **tuning,
):
    """The kernels' view of a run over X, made as the engine makes it; `tuning` are its fields."""
    metric = metric or dr.Euclidean()
    if reduction is None:
        reduction = LargestQuotient(rule == "different" and labels != "categorical")
    label_map, columns = LabelMap(*labels.split("-")), X.shape[1]
    spec = PairSpec(metric, label_map, groups, columns, scale, (0,), X.dtype, rule, reduction)
    block = Block(X, np.arange(len(X)), np.zeros(len(X), np.int16))
    summary = summarise(block)
    job = Context(summary.center, summary.largest_feature, 1.0).job(spec)
    return replace(job, tuning=Tuning(**tuning))


class Arrays:
    """Rows of arrays, as tiles ask for them.

    Parameters
    ----------
    X : ndarray (n, d)
    y : ndarray (n,) or (n, m)
    parts : ndarray (n,) int, optional
        One part without it.
    basis : Basis, optional
        Of the rows' prefixes; without it tiles are bounded by whole rows.
    projected : ndarray (n, d), optional
        What prefixes are made of, where it is not X itself.
    """

    def __init__(self, X, y, parts=None, basis=None, projected=None):
        n = len(X)
        self.X, self.labels = X, np.asarray(y, np.float64).reshape(n, -1)
        self.parts = np.zeros(n, np.int16) if parts is None else np.asarray(parts, np.int16)
        self.basis, self.prefix, self.asked = basis, None, []
        if basis is not None:
            self.prefix = np.empty((n, basis.depths.width), np.float32)
            Projector(basis)(X if projected is None else projected, self.prefix)

    def __len__(self):
        return len(self.X)

    def panel_rows(self, lo=0, hi=None):
        """Who rows lo:hi are."""
        hi = len(self) if hi is None else hi
        return Rows(np.arange(lo, hi), self.labels[lo:hi], self.parts[lo:hi])


class Tile:
    """A tile's two ranges of some arrays (`kernels.TileRows`)."""

    def __init__(self, arrays, ranges, parts):
        self._arrays, self._ranges, self._parts = arrays, ranges, parts
        self.depths = None if arrays.basis is None else arrays.basis.depths

    def _range(self, side, lo, hi):
        first, last = self._ranges[side]
        assert 0 <= lo < hi <= last - first
        return first + lo, first + hi

    def rows(self, side, lo, hi):
        who = self._arrays.panel_rows(*self._range(side, lo, hi))
        return who if self._parts[side] is None else who._replace(parts=self._parts[side][lo:hi])

    def features(self, side, lo, hi):
        lo, hi = self._range(side, lo, hi)
        self._arrays.asked.append((lo, hi))
        return self._arrays.X[lo:hi].copy()

    def prefixes(self, side, lo, hi):
        lo, hi = self._range(side, lo, hi)
        return self._arrays.prefix[lo:hi].copy()

    def cached(self, side, lo, hi, make):
        return None


def reduce_ranges(arrays, rows, columns, panel_rows, job, known=(None, None), one_sided=False):
    """Reduce the pairs of two ranges of rows: (left, right, counters).

    On the diagonal both sides are one state. `known` is what either side starts from, not written
    to; in a one-sided tile only the rows ask, and all of them are of part 0.
    """
    ranges, parts = (rows, columns), [None, None]

    def start(side):
        if known[side] is not None:
            return copy_of(known[side])
        lo, hi = ranges[side]
        return job.reduction.empty(hi - lo, job.parts)

    left = start(0)
    if one_sided:
        right = job.reduction.closed(columns[1] - columns[0])
        parts[0] = np.zeros(rows[1] - rows[0], np.int16)
    else:
        right = left if rows == columns else start(1)
    counters = reduce_tile(Tile(arrays, ranges, parts), panel_rows, job, left, right)
    return left, right, counters


def directions(kind, k, d, rng):
    """Matrices that a basis may have; the bounds must not need orthonormal rows."""
    matrix = rng.standard_normal((k, d))
    if kind == "orthonormal":
        matrix = np.linalg.qr(matrix.T)[0].T
    elif kind == "repeated":
        matrix[:] = matrix[0]
    elif kind == "zero":
        matrix[:] = 0
    return matrix.astype(np.float32)


def basis_for(X, kind, short, long, rng):
    d = X.shape[1]
    matrix = directions(kind, long, d, rng)
    center = X.mean(axis=0)
    size = np.abs(X - center).max()
    unit = 2.0 ** -np.ceil(np.log2(size)) if size > 0 else 1.0
    return Basis(center, matrix, stretch_of(matrix), Depths(d, short, long, unit))


@dataclass(frozen=True)
class Case:
    """Rows with all that a tile's results depend on; brute force says what these must be.

    Attributes
    ----------
    X, y : ndarray
    parts : ndarray (n,) int16
    metric : str or tuple
        What `brute.distances` takes: a name, ("minkowski", p) or ("mahalanobis", VI).
    labels, rule : str
    reduction : Reduction, optional
        The largest quotient by default.
    scale : float
    """

    X: np.ndarray
    y: np.ndarray
    parts: np.ndarray
    metric: str | tuple = "euclidean"
    labels: str = "categorical"
    rule: str = "different"
    reduction: object = None
    scale: float = 1.0

    @property
    def count(self):
        """Into how many parts the rows are cut."""
        return int(self.parts.max()) + 1

    def job(self, **tuning):
        """The kernels' view."""
        metric = self.metric
        if isinstance(metric, tuple):
            name, argument = metric
            makers = {"minkowski": dr.Minkowski, "mahalanobis": dr.Mahalanobis}
            metric = makers[name](argument)
        groups = tuple(map(str, range(self.count)))
        return job_for(
            self.X, resolve_metric(metric), self.labels, groups,
            rule=self.rule, reduction=self.reduction, scale=self.scale, **tuning,
        )  # fmt: skip

    def rows(self):
        """What distances are computed from."""
        return kernel_rows(self.X, np.arange(len(self.X)), self.job())

    def arrays(self, basis=None):
        """The rows as tiles read them."""
        projected = None if basis is None else self.rows()
        return Arrays(self.X, self.y, self.parts, basis, projected)

    def distances(self, rows, columns):
        """Distances of two ranges of rows; what would underflow is multiplied up before."""
        X, scale = np.asarray(self.X).astype(np.float64), self.scale
        if 0 < np.abs(X).max() < 1e-100 and self.metric not in ("angular", "hamming"):
            X, scale = X * 2.0**500, scale * 2.0**-500
        return brute.distances(X[slice(*rows)], self.metric, scale, X[slice(*columns)])

    def expected(self, rows, columns, radius=None, itself=False):
        """What the rows know of the columns, as a state."""
        reduction = self.job().reduction
        mine, theirs = np.arange(*rows), np.arange(*columns)
        d = self.distances(rows, columns)
        allowed, dy = brute.counting_pairs(self.y, self.labels, self.rule, mine, theirs, itself)
        parts = [self.parts[slice(*columns)] == part for part in range(self.count)]
        if isinstance(reduction, CountWithin):
            return CountState(radius, brute.count_within(d, allowed, parts, radius))
        if isinstance(reduction, KNearest):
            return NearestState(*brute.k_nearest(d, allowed, parts, theirs, reduction.k))
        wanted = brute.largest_quotients(
            d, dy, allowed, parts, theirs, quotients=reduction.quotients
        )
        return QuotientState(*wanted)

    def assert_tile(self, rows, columns, panel_rows, basis=None, known=(None, None), **tuning):
        """Reduce a tile and compare every bit of both sides; return what it did."""
        arrays, job = self.arrays(basis), self.job(**tuning)
        left, right, counters = reduce_ranges(arrays, rows, columns, panel_rows, job, known)
        for found, mine, theirs in ((left, rows, columns), (right, columns, rows)):
            radius = found.radius if isinstance(found, CountState) else None
            assert_states_equal(found, self.expected(mine, theirs, radius))
        return counters


def assert_states_equal(found, wanted):
    """Compare states array by array, so that what differs is shown; then every bit."""
    for name, values in wanted._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)
    assert same(found, wanted)


def adversary(kind, n, d, rng):
    """Rows that make float32 products as wrong as they get."""
    X = rng.standard_normal((n, d))
    if kind == "offset":
        X += 1e4
    elif kind == "aligned":  # all products of one sign: nothing cancels
        X = np.abs(X) + 1
        X[::2] *= -1
    elif kind == "near":  # the exact distance is far below the rounding of the norms
        X = 100 + X[0] + 1e-6 * X
    elif kind == "wide":
        X *= 10.0 ** rng.integers(-37, 37, (n, d))
    elif kind == "wide rows":
        X *= 10.0 ** rng.integers(-44, 30, (n, 1))
    elif kind == "denormal":
        X *= 1e-42
    elif kind == "one outlier":
        X *= 1e-20
        X[0] = 1.0
    elif kind == "halfway":  # every rounding to float32 goes the same way
        X = np.float64(1) + 2.0**-24 * (1 + rng.integers(0, 2, (n, d))) * 0.999
    elif kind == "constant":
        X = np.full((n, d), 0.1)
    return X


KINDS = (
    "plain",
    "offset",
    "aligned",
    "near",
    "wide",
    "wide rows",
    "denormal",
    "one outlier",
    "halfway",
    "constant",
)


def same(one, other):
    """Whether two states hold the same bits."""
    return type(one) is type(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(one, other, strict=True)
    )


def parts_of(data):
    """The part of every row of a `strategies.Data`: every group is one."""
    if data.split is None:
        return np.zeros(len(data.X), np.int16)
    return np.unique(data.split, return_inverse=True)[1].astype(np.int16)


def arrays_of(data):
    """Rows of a `strategies.Data`, as tiles read them."""
    return Arrays(data.X, data.y, parts_of(data))


def metric_argument(metric):
    """A metric's name as `brute.distances` takes it: "minkowski(3)" is ("minkowski", 3.0)."""
    name, _, argument = metric.partition("(")
    return (name, float(argument[:-1])) if argument else name
