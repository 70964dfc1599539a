"""Equal rows by the thousand: all bits are the brute force's, and few of their pairs are proven."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    Case,
    assert_states_equal,
    basis_for,
    job_for,
    metric_argument,
    reduce_ranges,
)

import dskrobust as dr
from dskrobust.kernels import CountState, CountWithin, KNearest, LargestQuotient, Rows
from dskrobust.kernels.twins import find_twins, hash_rows

FEW = {"twins": 0, "boxes": False}
WAYS = {  # reduction, pair rule, labels
    "categories": (LargestQuotient(), "different", "categorical"),
    "real": (LargestQuotient(True), "different", "real"),
    "vectors": (LargestQuotient(True), "different", "vector-l2"),
    "same": (LargestQuotient(), "same", "categorical"),
    "nearest": (KNearest(3), "any", "categorical"),
    "nearest of others": (KNearest(3), "different", "categorical"),
    "nearest of the same": (KNearest(2), "same", "categorical"),
    "count": (CountWithin(), "any", "categorical"),
    "count of others": (CountWithin(), "different", "categorical"),
    "count of the same": (CountWithin(), "same", "categorical"),
}


def signed(X, rng):
    """The same rows, with zeros of either sign."""
    flip = (X == 0) & (rng.random(X.shape) < 0.5)
    return np.where(flip, -X, X) if X.dtype.kind == "f" else X


@st.composite
def blanks(draw, way, metrics=own.METRICS):
    """Rows of which most equal some few, zeros too, with few or many labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(10, 80)), draw(st.sampled_from((3, 20, 40)))
    dtype = draw(st.sampled_from(("uint8", "float32", "float64")))
    X = own.features(rng, n, d, dtype, draw(st.sampled_from(own.KINDS)), draw(st.integers(0, 1)))
    some, metric = rng.random(n) < draw(st.sampled_from((0.4, 1.0))), draw(st.sampled_from(metrics))
    X[some] = X[rng.integers(0, draw(st.integers(1, 4)), some.sum())]
    X[rng.random(n) < draw(st.sampled_from((0.0, 0.4)))] = metric == "angular"
    X[~X.any(axis=1)] = metric == "angular"
    reduction, rule, labels = WAYS[way]
    y = own.label_values(rng, n, labels, True)
    if draw(st.booleans()):
        y = rng.integers(0, 30, n) if labels == "categorical" else rng.standard_normal(y.shape)
    if draw(st.booleans()):
        y = np.sort(y, axis=0)
    parts = rng.integers(0, draw(st.integers(1, 2)), n).astype(np.int16)
    case = signed(X, rng), y, parts, metric_argument(metric), labels, rule, reduction
    return Case(*case)


def tile_of(draw, n):
    """The whole of some rows, or two ranges of them."""
    if draw(st.booleans()):
        return (0, n), (0, n)
    cut = draw(st.integers(1, n - 1))
    return (0, cut), (cut, n)


def radii(case, rows, columns, rng):
    """What a count asks for: a few radii, which are distances, so that ties matter."""
    if not isinstance(case.reduction, CountWithin):
        return None
    d = case.distances(rows, columns)
    some = np.append(rng.choice(d.ravel(), 3), 0.0)
    radius = rng.choice(some, (len(d), case.count))
    return CountState(radius, np.zeros(radius.shape, np.int64))


@pytest.mark.parametrize("way", WAYS)
@given(draw=st.data(), panel=st.tuples(st.integers(1, 85), st.integers(1, 85)))
@settings(max_examples=25)
def test_equal_rows_change_no_bit(way, draw, panel):
    case = draw.draw(blanks(way))
    rows, columns = tile_of(draw.draw, len(case.X))
    rng = np.random.default_rng(len(case.X))
    known = radii(case, rows, columns, rng), radii(case, columns, rows, rng)
    basis = None
    if case.labels == "categorical" and case.metric in ("euclidean", "angular"):
        points = case.rows().astype(np.float64)
        basis = draw.draw(st.sampled_from((None, basis_for(points, "any", 1, 3, rng))))
    side, seeds = draw.draw(st.sampled_from((7, 512))), draw.draw(st.sampled_from((1, 512)))
    few = {**FEW, "grid_rows": draw.draw(st.sampled_from((1, 64))), "side": side, "seeds": seeds}
    case.assert_tile(rows, columns, panel, basis, known, **few)


@pytest.mark.parametrize("way", WAYS)
@given(draw=st.data(), panel=st.integers(1, 85))
@settings(max_examples=10)
def test_queries_find_equal_references(way, draw, panel):
    case = draw.draw(blanks(way))
    n, rng = len(case.X), np.random.default_rng(len(case.X))
    rows, columns = (0, max(1, 2 * n // 3)), (n // 3, n)
    known = radii(case, rows, columns, rng)
    job, tile = case.job(**FEW), (rows, columns, (panel, panel))
    found = reduce_ranges(case.arrays(), *tile, job, (known, None), one_sided=True)[0]
    radius = None if known is None else known.radius
    assert_states_equal(found, case.expected(rows, columns, radius, itself=True))


@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize("size", [1e-310, 1e300])
def test_quotients_of_equal_rows_may_overflow(labels, size):
    """Lower rows with the same infinite quotient may be of another group of equal rows."""
    rng = np.random.default_rng(0)
    X = np.repeat([[1.0] * 20, [1.0 + 2**-50] * 20, [1.5] * 20], 30, axis=0)[rng.permutation(90)]
    y = rng.integers(0, 5, 90) if labels == "categorical" else rng.standard_normal(90) * size
    case = Case(X, y, np.zeros(90, np.int16), labels=labels)
    for panel in ((90, 90), (40, 17)):
        with np.errstate(over="ignore"):  # of the brute force
            case.assert_tile((0, 90), (0, 90), panel, **FEW)


@pytest.mark.parametrize("block", [37, 60, 300])
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_no_block_changes_what_equal_rows_come_to(labels, block):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 30)).astype(np.float32)
    X[rng.random(300) < 0.5] = 0
    X, y = signed(X, rng), own.label_values(rng, 300, labels, False)
    split = np.where(rng.random(300) < 0.3, "test", "train")
    options = dr.RunOptions(own.UNLIMITED, block_rows=block, panel_rows=min(block, 50))
    found = dr.sample_robustness(X, y, split=split, labels=labels, options=options)
    brute.assert_same(found, brute.score(X, y, split, labels=labels))


# -- which rows are equal ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("d", [1, 7, 8, 33])
def test_hashes_tell_rows_apart(dtype, d):
    rng = np.random.default_rng(0)
    X = np.unique(rng.integers(0, 2, (2_000, d)), axis=0).astype(dtype)
    assert len(np.unique(hash_rows(X))) == len(X)
    assert (hash_rows(signed(X, rng)) == hash_rows(X)).all()


def test_twins_are_equal_in_columns_label_and_part():
    X = np.array([[1, 0], [2, 2], [1, -0.0], [1, 0], [1, 0], [2, 2], [1, 0]])
    y, parts = np.array([0, 0, 0, 1, 0, 0, 0])[:, None] * 1.0, np.array([0, 0, 0, 0, 1, 0, -1])
    who = Rows(np.arange(7), y, parts.astype(np.int16))
    twins = find_twins(X, who, None, job_for(X, twins=0))
    assert dict(zip(twins.takers.tolist(), twins.givers.tolist(), strict=True)) == {2: 0, 5: 1}
    every = find_twins(X, who, None, job_for(X, rule="any", reduction=KNearest(1), twins=0))
    assert dict(zip(every.takers.tolist(), every.givers.tolist(), strict=True)) == {3: 2}
    assert find_twins(X, who, None, job_for(X, twins=2)) is None
    counted = job_for(X, rule="any", reduction=CountWithin(), twins=0)
    radius = np.array([np.inf, 1, 2, np.inf, np.inf, 3, np.inf])[:, None]
    assert find_twins(X, who, radius, counted).takers.tolist() == [3]


def test_rows_beyond_the_two_lowest_labels_are_silent():
    X, y = np.zeros((6, 3)), np.array([4.0, 4, 7, 1, 7, 2])[:, None]
    who = Rows(np.arange(6), y, np.zeros(6, np.int16))
    twins = find_twins(X, who, None, job_for(X, twins=0))
    assert sorted(twins.takers) == [1, 4]
    assert sorted(twins.silent) == [3, 5]


# -- few of their pairs are proven -------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
@pytest.mark.parametrize("labels", ["one", "few", "many"])
@pytest.mark.parametrize("way", ["categories", "real", "same", "nearest", "count"])
def test_equal_rows_add_no_proofs(way, labels, metric):
    """A third of the rows equal each other, nearer to all others than these are."""
    rng, n = np.random.default_rng(0), 1_200
    X, blank = rng.standard_normal((n, 40)).astype(np.float32), rng.random(n) < 1 / 3
    reduction, rule, kind = WAYS[way]
    y = rng.integers(0, 10, n) if kind == "categorical" else rng.standard_normal(n)
    y = rng.permutation(n) if labels == "many" else np.where(blank & (labels == "one"), 3, y)
    size = np.abs(X).sum(axis=1) if metric == "cityblock" else np.sqrt((X * X).sum(axis=1))
    proven = []
    for rows in (X, np.where(blank[:, None], np.float32(0), X)):
        case = Case(rows, y, np.zeros(n, np.int16), metric, kind, rule, reduction)
        known = None
        if way == "count":  # blank rows are at the others' radius, but for rounding
            radius = np.where(blank, 1.0, size)[:, None]
            known = CountState(radius, np.zeros((n, 1), np.int64))
        job = case.job()
        counters = reduce_ranges(case.arrays(), (0, n), (0, n), (700, 700), job, (known, None))[2]
        proven.append(counters.proven)
    assert proven[1] < 2 * proven[0] + 8 * n
