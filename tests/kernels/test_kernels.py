"""The certificate of the screen, distances of pairs, tiles, and one BLAS thread a tile."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import KINDS, Arrays, adversary, arrays_of, job_for, reduce_ranges, same
from threadpoolctl import threadpool_info

import dskrobust as dr
from dskrobust import blas
from dskrobust.blas import one_blas_thread
from dskrobust.kernels import (
    KNearest,
    LargestQuotient,
    Screen,
    beside,
    copy_of,
    reduce_rows,
)
from dskrobust.kernels.bounds import product
from dskrobust.kernels.distances import finish, reduced, surely_within, unfinish
from dskrobust.kernels.panel import make_panel, margin
from dskrobust.kernels.reductions import part_of
from dskrobust.metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN, HAMMING, MINKOWSKI

# -- the certificate ---------------------------------------------------------------------------


def integers(values, shift):
    """values · 2^shift as exact Python integers."""
    flat = [int(Fraction(v) * 2**shift) for v in values.astype(np.float64).ravel().tolist()]
    return np.array(flat, dtype=object).reshape(values.shape)


def exact_squares(X):
    """All squared distances of rows, as fractions."""
    shift = 1100
    whole = integers(X, shift)
    out = np.empty((len(X), len(X)), object)
    for i, row in enumerate(whole):
        for j, other in enumerate(whole):
            difference = row - other
            out[i, j] = Fraction(int((difference * difference).sum()), 4**shift)
    return out


def bounds(panel, order=slice(None)):
    """Low and high bounds of all pairs, in the arithmetic of the sweeps."""
    low, high = panel.norms
    products = panel.screen @ panel.screen.T
    twice = products + products
    lows = (low[:, None] + low[None, :]) - twice
    highs = (high[None, :] - twice) + high[:, None]
    return lows, highs


def assert_certified(X, metric=None):
    """Check low ≤ exact ≤ high for every pair; return the widest gap beside its norms."""
    with np.errstate(all="ignore"):
        job = job_for(X, metric, twins=len(X))
        panel = make_panel(Arrays(X, np.zeros(len(X))).panel_rows(), X, job)
        lows, highs = bounds(panel)
    unit = Fraction(float(job.screen.unit)) ** 2
    exact = exact_squares(panel.rows[panel.order])
    assert np.isfinite(lows).all()
    assert np.isfinite(highs).all()
    for i in range(len(X)):
        for j in range(len(X)):
            assert Fraction(float(lows[i, j])) <= exact[i, j] * unit <= Fraction(float(highs[i, j]))
    assert_survive(panel, exact * unit)
    assert_listed(panel, exact * unit)
    norms = panel.norms[1].astype(np.float64)
    return float(((highs - lows) / (norms[:, None] + norms[None, :])).max())


def assert_survive(panel, exact):
    """Check that a sweep keeps every pair that is exactly as far as one of its rows has reached."""
    n, low = len(panel), panel.norms[0]
    products, nothing = panel.screen @ panel.screen.T, np.full(n, -np.inf, np.float32)
    found = np.empty((n * n, 2), np.int32)
    for step in range(1, min(n, 4)):
        others = (np.arange(n) + step) % n
        reach = np.array([float32_above(exact[i, j]) for i, j in enumerate(others)])
        for sides, columns in (((reach, nothing), (0, 1)), ((nothing, reach), (1, 0))):
            count = product.survivors(products, low, low, *sides, found)
            kept = {tuple(pair) for pair in found[:count, columns].tolist()}
            assert kept >= set(enumerate(others.tolist()))
    assert product.survivors(products, low, low, nothing, nothing, found) == 0
    assert product.survivors(products, low, low, -nothing, nothing, found) == n * n


def assert_listed(panel, exact):
    """Check the bounds of listed pairs, which counts are made of."""
    products = panel.screen @ panel.screen.T
    pairs = np.argwhere(np.ones(products.shape, bool)).astype(np.int32)
    pairs = pairs[np.random.default_rng(0).permutation(len(pairs))]
    low, high = product.listed_bounds(pairs, len(pairs), products, panel.norms, panel.norms)
    for s, (i, j) in enumerate(pairs):
        assert Fraction(float(low[s])) <= exact[i, j] <= Fraction(float(high[s]))


@given(
    st.lists(st.tuples(*[st.floats(-(2.0**20), 2.0**20, width=32)] * 2), min_size=1, max_size=40),
    st.integers(-149, 20),
    st.integers(0, 2**32 - 1),
)
def test_no_pair_within_a_reach_is_lost(lows, exponent, seed):
    """Where the product is exactly what the bound needs, or a float32 more or less."""
    rng = np.random.default_rng(seed)
    low, other = np.array(lows, np.float32).T.copy()
    reach = np.float32(2.0**exponent) * rng.random(len(low), np.float32)
    reach[rng.random(len(low)) < 0.2] = rng.choice([np.inf, -np.inf, 0.0])
    nothing = np.full(len(low), -np.inf, np.float32)
    exact = (low.astype(np.float64)[:, None] + other - reach.astype(np.float64)[:, None]) / 2
    products = exact.astype(np.float32)
    with np.errstate(over="ignore"):  # from an infinity to the largest number and back
        for _ in range(int(rng.integers(0, 3))):
            products = np.nextafter(products, np.float32(rng.choice([-np.inf, np.inf])))
    found = np.empty((products.size, 2), np.int32)
    for matrix, sides, columns in (
        (products, (low, other, reach, nothing), (0, 1)),
        (products.T.copy(), (other, low, nothing, reach), (1, 0)),
    ):
        count = product.survivors(matrix, *sides, found)
        kept = {tuple(pair) for pair in found[:count, columns].tolist()}
        for i in range(len(low)):
            for j in range(len(other)):
                if reach[i] == np.inf:
                    assert (i, j) in kept
                elif reach[i] > -np.inf:
                    needed = Fraction(float(low[i])) + Fraction(float(other[j]))
                    needed -= Fraction(float(reach[i]))
                    if 2 * Fraction(float(products[i, j])) >= needed:
                        assert (i, j) in kept


def float32_above(value):
    """The smallest float32 that is not below an exact number."""
    rounded = np.float32(float(value))
    up = np.nextafter(rounded, np.float32(np.inf))
    return rounded if Fraction(float(rounded)) >= value else up


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 31, 33, 300, 2000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_are_certified(kind, d, dtype):
    n = 6 if d > 100 else 12
    X = adversary(kind, n, d, np.random.default_rng(d)).astype(dtype)
    gap = assert_certified(X)
    if kind in ("plain", "offset", "aligned"):  # a certificate that says nothing is no use
        assert gap <= 2.5 * margin(d)


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 6),
    d=st.integers(1, 120),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_bounds_are_certified_for_any_rows(kind, n, d, seed, dtype):
    assert_certified(adversary(kind, n, d, np.random.default_rng(seed)).astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_bounds_are_certified_for_narrow_dtypes(dtype):
    rng = np.random.default_rng(0)
    assert_certified(rng.integers(0, 256, (10, 784)).astype(dtype))
    assert_certified(rng.integers(250, 256, (10, 784)).astype(dtype))


def test_bounds_are_certified_for_unit_rows():
    assert_certified(np.random.default_rng(0).standard_normal((10, 50)), dr.Angular())


def test_margin_grows_with_the_columns():
    margins = [margin(d) for d in (1, 10, 1000, 100_000)]
    assert margins == sorted(margins)
    assert margin(3072) < 3e-4


@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_a_naive_product_is_wrong_and_ours_is_right(labels):
    # The nearest rows differ by 1/16 at an offset of 4096: ‖a‖² + ‖b‖² − 2ab has no digit left.
    rng = np.random.default_rng(0)
    X = (4096 + rng.integers(0, 64, (400, 16)) / 16).astype(np.float32)
    y = rng.integers(0, 2, 400)
    square = (X * X).sum(axis=1)
    naive = square[:, None] + square[None, :] - 2 * (X @ X.T)
    naive[y[:, None] == y] = np.inf
    wanted = brute.score(X, y, labels=labels)
    assert (naive.argmin(axis=1) != wanted.nearest).mean() > 0.5
    brute.assert_same(dr.sample_robustness(X, y, labels=labels).compute(), wanted)


# -- one pair ----------------------------------------------------------------------------------

CODES = {
    "euclidean": EUCLIDEAN,
    "cityblock": CITYBLOCK,
    "chebyshev": CHEBYSHEV,
    "minkowski": MINKOWSKI,
    "hamming": HAMMING,
}
P = 3.0


def rows_for(rng, d, dtype):
    a, b = (own.features(rng, 2, d, dtype, "gaussian", 0)[k] for k in (0, 1))
    return np.asarray(a), np.asarray(b)


@given(
    d=st.integers(1, 600),
    name=st.sampled_from(sorted(CODES)),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    part=st.sampled_from([0.0, 0.2, 0.999, 1.0, 1.001, np.inf]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_giving_up_is_safe_and_order_is_fixed(d, name, dtype, part, seed):
    a, b = rows_for(np.random.default_rng(seed), d, dtype)
    lanes, code = np.empty(64), CODES[name]
    factor = float(d) if name == "hamming" else 1.0
    whole = reduced(code, P, a, b, np.inf, lanes)
    assert whole == reduced(code, P, b, a, np.inf, lanes)
    metric = (name, P) if name == "minkowski" else name
    wanted = brute.distances(a[None], metric, others=b[None])[0, 0]
    assert finish(code, factor, whole) == wanted
    limit = whole * part if whole else 0.0
    found = reduced(code, P, a, b, limit, lanes)
    assert found == whole or (found == np.inf and whole > limit)


@given(
    code=st.sampled_from([*CODES.values(), CHORD]),
    value=st.just(0.0) | st.floats(1e-250, 1e300),
    factor=st.sampled_from([1.0, 1 / 255, 3.7, 2.0**-60]),
)
@settings(max_examples=500)
def test_unfinish_is_an_upper_bound(code, value, factor):
    if code == CHORD:
        value = value % 4.0
    if code == HAMMING:
        factor, value = 784.0, value % 784
    with np.errstate(over="ignore"):
        assert unfinish(code, factor, finish(code, factor, value)) >= value


@given(
    code=st.sampled_from([*CODES.values(), CHORD]),
    value=st.just(0.0) | st.floats(1e-250, 1e300),
    factor=st.sampled_from([1.0, 1 / 255, 3.7, 2.0**-60]),
    off=st.integers(-3, 3),
)
@settings(max_examples=500)
def test_surely_within_is_a_lower_bound(code, value, factor, off):
    """What accumulates less than it is within the distance, however finishing rounds."""
    if code == CHORD:
        value = value % 4.0
    if code == HAMMING:
        factor, value = 784.0, value % 784
    with np.errstate(over="ignore"):
        distance = finish(code, factor, value)
    for _ in range(abs(off) if distance > 1e-280 else 0):
        distance = np.nextafter(distance, np.inf * np.sign(off))
    least = surely_within(code, factor, distance)
    assert least <= unfinish(code, factor, distance)
    if least >= 0 and np.isfinite(distance):
        assert finish(code, factor, least) <= distance


# -- parts of states ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [LargestQuotient(), LargestQuotient(True), KNearest(3)])
def test_parts_are_views(reduction):
    whole = reduction.empty(6, 2)
    part_of(whole, 2, 4)[0][:] = 3
    moved = (whole[0] == 3).reshape(6, -1).all(axis=1)
    np.testing.assert_array_equal(moved, [0, 0, 1, 1, 0, 0])
    copy_of(whole)[0][:] = 7
    assert not (whole[0] == 7).any()


def test_states_stand_beside_each_other():
    one, two = LargestQuotient().empty(4, 1), LargestQuotient().empty(4, 2)
    one.reach[:], two.reach[:] = 1, 2
    both = beside(one, two)
    np.testing.assert_array_equal(both.reach, [[1, 2, 2]] * 4)
    assert both.quotient.shape == (0, 0)


# -- tiles -------------------------------------------------------------------------------------


def example(labels, n=90):
    rng = np.random.default_rng(4)
    y = own.label_values(rng, n, labels, True)
    split = np.array(["a", "b"])[rng.integers(0, 2, n)]
    return own.Data(own.features(rng, n, 9, "float32", "ties", 0), y, split, labels)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize("panel_rows", [(90, 90), (40, 13), (7, 50), (1, 1)])
@pytest.mark.parametrize("ranges", [((0, 90), (0, 90)), ((0, 33), (33, 90)), ((50, 90), (0, 41))])
def test_tiles_agree_with_reduce_rows(labels, panel_rows, ranges, boxes):
    data = example(labels)
    rows = arrays_of(data)
    job = job_for(data.X, labels=labels, groups=("a", "b"), boxes=boxes)
    left, right, counters = reduce_ranges(rows, *ranges, panel_rows, job)
    assert (left is right) == (ranges[0] == ranges[1])
    assert counters.rows_read == sum(hi - lo for lo, hi in rows.asked)
    assert max(hi - lo for lo, hi in rows.asked) <= max(panel_rows)
    for found, mine, theirs in ((left, *ranges), (right, *ranges[::-1])):
        assert same(found, second_opinion(rows, mine, theirs, job))


def second_opinion(rows, mine, theirs, job):
    """What `reduce_rows` says of a tile."""
    wanted = job.reduction.empty(mine[1] - mine[0], job.parts)
    one, two = slice(*mine), slice(*theirs)
    others = theirs[0], rows.X[two], rows.labels[two], rows.parts[two]
    reduce_rows((np.arange(*mine), rows.X[one], rows.labels[one]), others, job, wanted)
    return wanted


def test_results_do_not_depend_on_the_centre_or_unit():
    data, whole = example("real"), (0, 90)
    job = job_for(data.X, labels="real", groups=("a", "b"), boxes=False)
    first = reduce_ranges(arrays_of(data), whole, whole, (90, 90), job)[0]
    for center, unit in ((np.zeros(9), 2.0**-30), (np.full(9, 17.3), 2.0**-6), (None, 1 / 4)):
        other = replace(job, screen=Screen(center, unit))
        assert same(reduce_ranges(arrays_of(data), whole, whole, (90, 90), other)[0], first)


def test_the_screen_spares_most_pairs():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1500, 8)), rng.integers(0, 2, 1500)
    job = job_for(X, boxes=False)
    counters = reduce_ranges(Arrays(X, y), (0, 1500), (0, 1500), (1500, 1500), job)[2]
    assert counters.pairs > 0.4 * 1500**2 / 2
    assert counters.proven < 0.05 * counters.pairs


# -- BLAS threads ------------------------------------------------------------------------------


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_threads_are_limited_and_restored():
    before = blas_threads()
    assert before
    with one_blas_thread():
        with one_blas_thread():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_libraries_are_looked_for_once_until_more_is_imported(monkeypatch):
    looked = []
    found = blas.ThreadpoolController
    monkeypatch.setattr(blas, "ThreadpoolController", lambda: looked.append(1) or found())
    with one_blas_thread():
        pass
    looked.clear()
    for more in (0, 0, 1, 0):
        if more:
            monkeypatch.setitem(sys.modules, "brings_a_blas", sys)
        with one_blas_thread():
            assert set(blas_threads()) == {1}
    assert looked == [1]


def test_blas_threads_are_restored_after_concurrent_tiles():
    before, seen = blas_threads(), []
    gate = threading.Barrier(4)

    def one(k):
        gate.wait()
        for _ in range(20):
            try:
                with one_blas_thread():
                    seen.append(tuple(blas_threads()))
                    if k == 0:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert {count for threads in seen for count in threads} == {1}
    assert blas_threads() == before


def test_blas_threads_are_restored_after_a_failing_tile():
    before = blas_threads()
    data = example("real")

    class Gone(Arrays):
        def panel_rows(self, *_):
            assert set(blas_threads()) == {1}
            raise OSError("gone")

    job = job_for(data.X, labels="real")
    with pytest.raises(OSError, match="gone"):
        reduce_ranges(Gone(data.X, data.y), (0, 9), (0, 9), (9, 9), job)
    assert blas_threads() == before
