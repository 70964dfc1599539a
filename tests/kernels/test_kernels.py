"""The certificate of the screen, the merge of partial results, and one BLAS thread a tile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import KINDS, adversary, job_for, reader, same
from threadpoolctl import threadpool_info

import dskrobust as dr
from dskrobust.kernels import NOBODY, Tables, make_panel, one_blas_thread, reduce_rows, reduce_tile
from dskrobust.kernels.bounds import product as sweep
from dskrobust.kernels.distances import finish, reduced, unfinish
from dskrobust.kernels.panel import margin
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
    product = panel.screen @ panel.screen.T
    twice = product + product
    lows = (low[:, None] + low[None, :]) - twice
    highs = (high[None, :] - twice) + high[:, None]
    return lows, highs


def assert_certified(X, metric=None):
    """Check low ≤ exact ≤ high for every pair; return the widest gap beside its norms."""
    with np.errstate(all="ignore"):
        job = job_for(X, metric)
        labels = np.zeros((len(X), 1))
        panel = make_panel(0, X, labels, np.zeros(len(X), np.int16), job)
        lows, highs = bounds(panel)
    unit = Fraction(float(job.screen.unit)) ** 2
    exact = exact_squares(panel.rows[panel.order])
    assert np.isfinite(lows).all()
    assert np.isfinite(highs).all()
    for i in range(len(X)):
        for j in range(len(X)):
            assert Fraction(float(lows[i, j])) <= exact[i, j] * unit <= Fraction(float(highs[i, j]))
    assert_survive(panel, exact * unit)
    norms = panel.norms[1].astype(np.float64)
    return float(((highs - lows) / (norms[:, None] + norms[None, :])).max())


def assert_survive(panel, exact):
    """Check that a sweep keeps every pair that is exactly as far as one of its rows has reached."""
    n, low = len(panel), panel.norms[0]
    product, nothing = panel.screen @ panel.screen.T, np.full(n, -np.inf, np.float32)
    found = np.empty((n * n, 2), np.int32)
    for step in range(1, min(n, 4)):
        others = (np.arange(n) + step) % n
        reach = np.array([float32_above(exact[i, j]) for i, j in enumerate(others)])
        for sides, columns in (((reach, nothing), (0, 1)), ((nothing, reach), (1, 0))):
            count = sweep.survivors(product, low, low, *sides, found)
            kept = {tuple(pair) for pair in found[:count, columns].tolist()}
            assert kept >= set(enumerate(others.tolist()))
    assert sweep.survivors(product, low, low, nothing, nothing, found) == 0
    assert sweep.survivors(product, low, low, -nothing, nothing, found) == n * n


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
    product = exact.astype(np.float32)
    with np.errstate(over="ignore"):  # from an infinity to the largest number and back
        for _ in range(int(rng.integers(0, 3))):
            product = np.nextafter(product, np.float32(rng.choice([-np.inf, np.inf])))
    found = np.empty((product.size, 2), np.int32)
    for matrix, sides, columns in (
        (product, (low, other, reach, nothing), (0, 1)),
        (product.T.copy(), (other, low, nothing, reach), (1, 0)),
    ):
        count = sweep.survivors(matrix, *sides, found)
        kept = {tuple(pair) for pair in found[:count, columns].tolist()}
        for i in range(len(low)):
            for j in range(len(other)):
                if reach[i] == np.inf:
                    assert (i, j) in kept
                elif reach[i] > -np.inf:
                    needed = Fraction(float(low[i])) + Fraction(float(other[j]))
                    needed -= Fraction(float(reach[i]))
                    if 2 * Fraction(float(product[i, j])) >= needed:
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


# -- merging partial results -------------------------------------------------------------------


@st.composite
def tables(draw, quotients):
    """Partial results of 3 rows and 2 groups, with many ties."""
    shape = (3, 2)

    def column(values, nothing):
        chosen = [draw(st.sampled_from(values)) for _ in range(6)]
        index = [NOBODY if v == nothing else draw(st.integers(0, 3)) for v in chosen]
        return np.array(chosen).reshape(shape), np.array(index, np.int64).reshape(shape)

    reach, nearest = column([0.0, 1.0, 2.0, np.inf], np.inf)
    quotient, witness = np.zeros((0, 0)), np.full((0, 0), NOBODY)
    if quotients:
        quotient, witness = column([0.0, 1.0, 2.0, np.inf], 0.0)
    return Tables(5, reach, nearest, quotient, witness)


@pytest.mark.parametrize("quotients", [False, True])
@given(draw=st.data())
def test_merge_is_a_semilattice(quotients, draw):
    a, b, c = (draw.draw(tables(quotients)) for _ in range(3))
    assert same(a.merge(b), b.merge(a))
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(a), a)
    assert same(a.merge(b).merge(b), a.merge(b))
    nothing = Tables.empty(5, 3, 2, quotients)
    assert same(a.merge(nothing), a)
    assert same(nothing.merge(a), a)


def test_parts_are_views():
    whole = Tables.empty(10, 6, 2, True)
    whole.part(12, 14).reach[:] = 3
    np.testing.assert_array_equal((whole.reach == 3).all(axis=1), [0, 0, 1, 1, 0, 0])
    assert whole.part(12, 14).first == 12


# -- tiles -------------------------------------------------------------------------------------


def example(labels, n=90):
    rng = np.random.default_rng(4)
    y = own.label_values(rng, n, labels, True)
    split = np.array(["a", "b"])[rng.integers(0, 2, n)]
    return own.Data(own.features(rng, n, 9, "float32", "ties", 0), y, split, labels)


@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize("panel_rows", [(90, 90), (40, 13), (7, 50), (1, 1)])
@pytest.mark.parametrize("ranges", [((0, 90), (0, 90)), ((0, 33), (33, 90)), ((50, 90), (0, 41))])
def test_tiles_agree_with_reduce_rows(labels, panel_rows, ranges):
    data, log = example(labels), []
    job = job_for(data.X, labels=labels, groups=("a", "b"))
    left, right, counters = reduce_tile(reader(data, log), *ranges, panel_rows, job)
    assert (left is right) == (ranges[0] == ranges[1])
    assert counters.rows_read == sum(hi - lo for lo, hi in log)
    assert max(hi - lo for lo, hi in log) <= max(panel_rows)
    read = reader(data)
    for tables_, mine, theirs in ((left, *ranges), (right, *ranges[::-1])):
        wanted = Tables.empty(mine[0], mine[1] - mine[0], 2, labels == "real")
        X, y, _ = read(*mine)
        reduce_rows((np.arange(*mine), X, y), (theirs[0], *read(*theirs)), job, wanted)
        assert same(tables_, wanted)


def test_results_do_not_depend_on_the_centre_or_unit():
    data = example("real")
    job = job_for(data.X, labels="real", groups=("a", "b"))
    screen = type(job.screen)
    first = reduce_tile(reader(data), (0, 90), (0, 90), (90, 90), job)[0]
    for center, unit in ((np.zeros(9), 2.0**-30), (np.full(9, 17.3), 2.0**-6), (None, 1 / 4)):
        other = type(job)(job.form, job.label_code, True, 2, screen(center, unit), job.lift)
        assert same(reduce_tile(reader(data), (0, 90), (0, 90), (90, 90), other)[0], first)


def test_the_screen_spares_most_pairs():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1500, 8)), rng.integers(0, 2, 1500)
    data = own.Data(X, y, np.array(["a"] * 1500), "categorical")
    job = job_for(X)
    counters = reduce_tile(reader(data), (0, 1500), (0, 1500), (1500, 1500), job)[2]
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

    def read(lo, hi, side=0):
        assert set(blas_threads()) == {1}
        raise OSError("gone")

    job = job_for(data.X, labels="real")
    with pytest.raises(OSError, match="gone"):
        reduce_tile(read, (0, 9), (0, 9), (9, 9), job)
    assert blas_threads() == before
