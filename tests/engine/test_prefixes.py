"""Prefixes: their bounds hold for any rows and any directions, and results do not notice them."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import brute
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, Case, basis_for, reduce_ranges, same

import dskrobust as dr
from dskrobust import store as stores
from dskrobust.engine.plan import Resources, make_plan
from dskrobust.engine.workload import Workload
from dskrobust.errors import DamagedStoreError
from dskrobust.kernels import (
    Basis,
    Depths,
    Projector,
    Screen,
    choose_basis,
    copy_of,
    sample_pieces,
    sketch_rows,
)
from dskrobust.kernels.bounds import basis as basis_module
from dskrobust.kernels.bounds import prefix as prefix_module
from dskrobust.kernels.bounds.prefix import (
    THETA,
    prefix_bounds,
    refine,
    screen_prefixes,
    stretch_of,
)
from dskrobust.kernels.panel import margin
from dskrobust.runs import RunOptions

KINDS = ["noise", "near", "offset", "low rank", "constant", "tiny", "denormal", "equal", "spread"]


def rows_of(kind, n, d, rng):
    """Rows that are hard on the bounds."""
    X = rng.standard_normal((n, d))
    if kind == "near":
        X = X[:1] + 1e-7 * X
    elif kind == "offset":
        X = 1e4 + 1e-2 * X
    elif kind == "low rank":
        X = X[:, :2] @ rng.standard_normal((2, d))
    elif kind == "constant":
        X[:, 1:] = 3.0
    elif kind == "tiny":
        X *= 1e-20
    elif kind == "denormal":
        X *= 1e-40
    elif kind == "equal":
        X[:] = X[0]
    elif kind == "spread":
        X *= 10.0 ** rng.integers(-12, 1, (n, 1))
    return X


def exact_squares(X, unit):
    """Squared distances of all pairs in screen lengths, as fractions."""
    scale = Fraction(unit)
    exact = [[Fraction(float(v)) for v in row] for row in X]
    out = np.empty((len(X), len(X)), object)
    for i, a in enumerate(exact):
        for j, b in enumerate(exact):
            out[i, j] = sum(((s - t) * scale) ** 2 for s, t in zip(a, b, strict=True))
    return out


def squares(X, unit):
    """Squared distances of all pairs in screen lengths, rounded once."""
    return exact_squares(X, unit).astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", ["orthonormal", "any", "repeated", "zero"])
def test_bounds_hold_for_any_rows_and_directions(kind, matrix):
    rng = np.random.default_rng(KINDS.index(kind))
    n, d, short, long = 12, 40, 5, 17
    X = rows_of(kind, n, d, rng)
    basis = basis_for(X, matrix, short, long, rng)
    exact = squares(X, basis.depths.unit) * (1 + 2 * THETA) * (1 + 1e-12)
    prefix = np.empty((n, long + 2), np.float32)
    Projector(basis)(X, prefix)
    screen = np.empty((n, short + 1), np.float32)
    norms = screen_prefixes(prefix, basis.depths, margin(short + 1), screen)
    low = norms[0][:, None] + norms[0][None, :] - 2 * (screen @ screen.T)
    assert (low <= exact * (1 + 1e-6) + 1e-37).all()
    # the second bound through the kernel that uses it: no pair within the true distance is lost
    pairs = np.argwhere(np.ones((n, n), bool)).astype(np.int32)
    for i, j in pairs:
        found = np.array([[i, j]], np.int32)
        reach = np.full(n, np.float32(exact[i, j]) * np.float32(1 + 1e-6) + np.float32(1e-37))
        side = prefix, norms[1], reach
        assert refine(found, 1, side, side, margin(long + 2)) == 1, (i, j)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", ["orthonormal", "any", "repeated", "zero"])
def test_long_prefixes_bound_from_both_sides(kind, matrix):
    rng = np.random.default_rng(1 + KINDS.index(kind))
    n, d, short, long = 12, 40, 5, 17
    X = rows_of(kind, n, d, rng)
    basis = basis_for(X, matrix, short, long, rng)
    exact = exact_squares(X, basis.depths.unit)
    arrays = Arrays(X, np.zeros(n), basis=basis)
    screen = np.empty((n, short + 1), np.float32)
    norms = screen_prefixes(arrays.prefix, basis.depths, margin(short + 1), screen)
    pairs = np.argwhere(np.ones((n, n), bool)).astype(np.int32)
    side = arrays.prefix, norms[1], np.zeros(n)
    low, high = prefix_bounds(pairs, len(pairs), side, side, margin(long + 2))
    for s, (i, j) in enumerate(pairs):
        wider = exact[i, j] * (1 + 2 * Fraction(THETA))  # what squared radii are widened by
        assert Fraction(float(low[s])) <= wider, (i, j)
        assert exact[i, j] <= Fraction(float(high[s])), (i, j)


@given(
    n=st.integers(2, 8),
    d=st.integers(1, 40),
    long=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    matrix=st.sampled_from(["orthonormal", "any", "repeated", "zero"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_long_prefixes_bound_any_rows(n, d, long, kind, matrix, seed):
    rng = np.random.default_rng(seed)
    X, long = rows_of(kind, n, max(d, 2), rng), min(long, max(d, 2))
    basis = basis_for(X, matrix, 1, long, rng)
    exact = exact_squares(X, basis.depths.unit)
    arrays, screen = Arrays(X, np.zeros(n), basis=basis), np.empty((n, 2), np.float32)
    norms = screen_prefixes(arrays.prefix, basis.depths, margin(2), screen)
    pairs = np.argwhere(np.ones((n, n), bool)).astype(np.int32)
    side = arrays.prefix, norms[1], np.zeros(n)
    low, high = prefix_bounds(pairs, len(pairs), side, side, margin(long + 2))
    wider = exact.ravel() * (1 + 2 * Fraction(THETA))
    assert all(Fraction(float(value)) <= most for value, most in zip(low, wider, strict=True))
    least = exact.ravel()
    assert all(value <= Fraction(float(most)) for value, most in zip(least, high, strict=True))


def test_long_prefixes_say_something():
    """Bounds that hold but are far off would decide nothing."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 6)) @ rng.standard_normal((6, 40))
    matrix = np.linalg.svd(X, full_matrices=False)[2][:9].astype(np.float32)
    basis = Basis(np.zeros(40), matrix, stretch_of(matrix), Depths(40, 3, 9, 1.0))
    arrays, screen = Arrays(X, np.zeros(30), basis=basis), np.empty((30, 4), np.float32)
    norms = screen_prefixes(arrays.prefix, basis.depths, margin(4), screen)
    pairs = np.argwhere(~np.eye(30, dtype=bool)).astype(np.int32)
    side = arrays.prefix, norms[1], np.zeros(30)
    low, high = prefix_bounds(pairs, len(pairs), side, side, margin(11))
    assert (high < 1.01 * low).all()


def test_prefixes_spare_pairs_and_lose_none():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 30)) @ rng.standard_normal((30, 50))
    exact = squares(X, 1.0)
    center = np.zeros(50)
    matrix = np.linalg.svd(X, full_matrices=False)[2][:20].astype(np.float32)
    basis = Basis(center, matrix, stretch_of(matrix), Depths(50, 10, 20, 1.0))
    prefix = np.empty((40, 22), np.float32)
    Projector(basis)(X, prefix)
    kept = []
    for columns, rho in ((10, -2), (20, -1)):
        a, r = prefix[:, :columns].astype(float), prefix[:, rho].astype(float)
        low = ((a[:, None] - a) ** 2).sum(axis=2) + (r[:, None] - r) ** 2
        assert (low <= exact * (1 + 1e-6)).all()
        kept.append((low <= np.quantile(exact[exact > 0], 0.1)).mean())
    assert kept[1] < kept[0] < 1  # deeper prefixes leave fewer pairs over


@given(
    kind=st.sampled_from([*KINDS[:4], "equal", "spread"]),
    matrix=st.sampled_from(["orthonormal", "any", "zero"]),
    n=st.integers(2, 120),
    classes=st.integers(2, 40),
    panels=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    cut=st.integers(0, 120),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=120)
def test_tiles_are_the_same_with_prefixes(kind, matrix, n, classes, panels, cut, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rows_of(kind, n, 24, rng)
    X = (X * 40 % 256 if dtype == "uint8" else X).astype(dtype)
    X[rng.integers(0, n, n // 4)] = X[rng.integers(0, n, n // 4)]  # ties and contradictions
    y, parts = rng.integers(0, classes, n), rng.integers(0, 2, n).astype(np.int16)
    case, basis = Case(X, y, parts), basis_for(X.astype(np.float64), matrix, 4, 9, rng)
    ranges = ((0, n), (0, n)) if cut in (0, n) or cut > n else ((0, cut), (cut, n))
    plain = reduce_ranges(case.arrays(), *ranges, panels, case.job())
    screened = reduce_ranges(case.arrays(basis), *ranges, panels, case.job())
    for one, other in zip(plain[:2], screened[:2], strict=True):
        assert same(one, other)


def test_known_pairs_spare_proofs_and_change_nothing():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((900, 24)), rng.integers(0, 3, 900)
    rows = Arrays(X, y, basis=basis_for(X, "orthonormal", 6, 16, rng))
    job = Case(X, y, rows.parts).job()
    a, b, panels = (0, 450), (450, 900), (450, 450)
    known = tuple(reduce_ranges(Arrays(X, y), s, s, panels, job)[0] for s in (a, b))
    before = [copy_of(state) for state in known]
    cold = reduce_ranges(rows, a, b, panels, job)
    warm = reduce_ranges(rows, a, b, panels, job, known)
    assert warm[2].proven < cold[2].proven
    for side in (0, 1):
        assert same(cold[side].merge(known[side]), warm[side])
        assert same(before[side], known[side])  # not written to


# -- the choice --------------------------------------------------------------------------------


def low_rank(rng, n=4500, d=120, classes=4):
    """Rows near a few directions, as images are, and labels that follow the first ones."""
    inside = rng.standard_normal((n, 30)) * 0.8 ** np.arange(30)
    X = inside @ rng.standard_normal((30, d)) + 0.02 * rng.standard_normal((n, d))
    return X.astype(np.float32), (np.abs(inside[:, 0]) * 2).astype(int) % classes


def chosen_from(X, y, screen, parts=1):
    """The basis chosen from a sample that was taken in parts."""
    cuts = np.array_split(np.arange(len(X)), parts)
    taken = [sketch_rows(X[cut], y[cut].astype(float), screen, len(X)) for cut in cuts]
    return choose_basis(taken, screen, 100_000)


@pytest.mark.parametrize("parts", [1, 3])
def test_depths_follow_the_spectrum(parts):
    rng = np.random.default_rng(0)
    X, y = low_rank(rng)
    screen = Screen(X.mean(axis=0).astype(np.float64), 2.0**-6)
    basis = chosen_from(X, y, screen, parts)
    assert basis is not None
    assert basis.depths.short < basis.depths.long <= 60
    assert 1 - 1e-5 < basis.stretch < 1 + 1e-3
    flat = rng.standard_normal((4500, 120))
    assert chosen_from(flat, y, Screen(None, 2.0**-3), parts) is None
    assert chosen_from(X[:, :60], y, Screen(None, 2.0**-6), parts) is None
    assert chosen_from(X, np.zeros(len(X)), screen, parts) is None


def test_equal_rows_do_not_hide_what_prefixes_spare():
    """No bound tells the pairs of blank rows apart, but few of these are ever made."""
    rng = np.random.default_rng(0)
    X, y = low_rank(rng)
    plain = X.copy()
    X[rng.random(len(X)) < 0.3] = X.mean(axis=0) + 30
    for rows in (plain, X):
        assert chosen_from(rows, y, Screen(rows.mean(axis=0).astype(np.float64), 2.0**-6))
    X[:] = 1
    assert chosen_from(X, y, Screen(None, 2.0**-6)) is None


def test_directions_do_not_depend_on_the_parts_of_a_sample():
    rng = np.random.default_rng(0)
    X, y = low_rank(rng)
    X[:1500] *= 1e-3  # a part of far smaller rows must not count for more than it is
    screen = Screen(X.mean(axis=0).astype(np.float64), 2.0**-6)
    one, three = (chosen_from(X, y, screen, parts) for parts in (1, 3))
    assert one.depths == three.depths
    leading = one.matrix[:20].astype(float) @ three.matrix[:20].T.astype(float)
    assert np.linalg.svd(leading)[1].min() > 0.999  # they span the same


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e140])
def test_rows_of_any_size_have_a_basis(size):
    rng = np.random.default_rng(0)
    X, y = low_rank(rng)
    X = X.astype(np.float64) * size
    X[0] *= 1e3
    screen = Screen(X.mean(axis=0), 2.0 ** -np.ceil(np.log2(2 * np.abs(X).max())))
    assert chosen_from(X, y, screen, 2) is not None


@pytest.mark.parametrize("parts", [1, 3])
def test_long_rows_are_worked_on_in_slices(parts, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = low_rank(rng, d=300)
    screen = Screen(X.mean(axis=0).astype(np.float64), 2.0**-6)
    few = np.sort(rng.choice(len(X), 256, replace=False))
    whole = chosen_from(X[few], y[few], screen, parts)
    for module in (basis_module, prefix_module):
        monkeypatch.setattr(module, "WIDE", 77)
    sliced = chosen_from(X[few], y[few], screen, parts)
    assert sliced.depths == whole.depths
    leading = sliced.matrix[:20].astype(float) @ whole.matrix[:20].T.astype(float)
    assert np.linalg.svd(leading)[1].min() > 0.99
    assert 1 - 1e-5 < sliced.stretch < 1 + 1e-3
    short, long = (np.empty((100, sliced.depths.width), np.float32) for _ in range(2))
    Projector(sliced)(X[:100], short)
    monkeypatch.undo()
    Projector(sliced)(X[:100], long)
    assert np.allclose(short, long, rtol=0, atol=1e-6)


@pytest.mark.parametrize("columns", [98_304, 98_305, 200_000])
def test_very_long_rows_have_a_sample_within_the_memory_of_a_small_worker(columns):
    work = Workload((20_000,), columns, 4, 4, True, 16, prefixed=True, stored=True)
    plan = make_plan(work, Resources(2, 1, 2**30))
    pieces = sample_pieces(20_000, columns, plan.panel_bytes)
    rows = sum(hi - lo for lo, hi in pieces)
    assert 64 <= rows <= 256
    assert 4 * rows * columns <= plan.panel_bytes / 4


def test_parts_without_rows_that_vary_count_for_nothing():
    rng = np.random.default_rng(0)
    X, y = low_rank(rng)
    X[:1500] = 0
    screen = Screen(np.zeros(120), 2.0**-6)
    assert chosen_from(X, y, screen, 3) is not None
    assert chosen_from(np.zeros_like(X), y, screen, 3) is None


# -- in a store --------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    X, y = low_rank(np.random.default_rng(5))
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y)
    return store, X, y


def prefix_files(store):
    folder = Path(store.url) / "prefixes"
    return {
        str(f): f.stat().st_mtime_ns for f in folder.rglob("*") if "/c/" in str(f) and f.is_file()
    }


def from_arrays(X, y, metric):
    """The same computation on arrays."""
    return dr.sample_robustness(
        np.ascontiguousarray(X), y, metric=metric, options=RunOptions(block_rows=3000)
    ).compute(scheduler="threads")


def same_as_real(scores, X, y):
    """A few rows against every other row in float64."""
    reach, witness = np.asarray(scores.reach), np.asarray(scores.witness)
    for row in range(0, len(X), 450):
        difference = X[row].astype(np.float64) - X.astype(np.float64)
        distance = np.sqrt(brute.lane_sum(difference**2))
        distance[y == y[row]] = np.inf
        assert reach[row] == distance.min()
        assert witness[row] == distance.argmin()


def test_prefixes_are_kept_and_used_again(made):
    store, X, y = made
    scores = dr.sample_robustness(store, options=RunOptions(block_rows=1500)).write()
    same_as_real(scores, X, y)
    before, reach, witness = prefix_files(store), scores.reach.compute(), scores.witness.compute()
    assert before
    shutil.rmtree(f"{store.url}/results")
    again = dr.sample_robustness(store, options=RunOptions(block_rows=4500)).write()
    assert prefix_files(store) == before
    np.testing.assert_array_equal(np.asarray(again.reach), reach)
    np.testing.assert_array_equal(np.asarray(again.witness), witness)


def test_appended_rows_use_the_same_basis(made):
    store, X, y = made
    dr.sample_robustness(store).write()
    before = prefix_files(store)
    more, labels = low_rank(np.random.default_rng(6), n=300)
    more *= 100  # farther out than anything the basis has seen
    more[0] = X[17] + np.float32(1e-3)
    labels[0] = y[17] + 1
    stores.append_rows(store, [stores.Block(more, labels, np.zeros(300, np.int16))])
    store = dr.open_store(store.url)
    scores = dr.sample_robustness(store).write()
    same_as_real(scores, np.concatenate([X, more]), np.concatenate([y, labels]))
    after = prefix_files(store)
    assert set(before.items()) < set(after.items())  # nothing written again, something added


def test_rows_far_beyond_the_basis_get_a_new_one(made):
    store, X, y = made
    dr.sample_robustness(store).write()
    far = np.full((2, X.shape[1]), 1e20, np.float32)
    far[1, 0] = 2e20
    stores.append_rows(store, [stores.Block(far, np.array([0, 1]), np.zeros(2, np.int16))])
    scores = dr.sample_robustness(dr.open_store(store.url)).write()
    same_as_real(scores, np.concatenate([X, far]), np.concatenate([y, [0, 1]]))
    assert np.asarray(scores.witness)[-1] == len(X)


def test_damaged_prefixes_are_named(made):
    store, *_ = made
    reach = np.asarray(dr.sample_robustness(store).write().reach)
    shutil.rmtree(f"{store.url}/results")
    os.remove(next(f for f in prefix_files(store) if "/c/" in f))
    with pytest.raises(DamagedStoreError, match=r"'prefixes/.* is missing.*repair"):
        dr.sample_robustness(store).compute(scheduler="threads")
    (mended,) = dr.verify_store(store, repair=True).mended
    assert mended.startswith("prefixes/")
    again = dr.sample_robustness(store).compute(scheduler="threads")
    np.testing.assert_array_equal(again.reach, reach)


@pytest.mark.parametrize("metric", ["angular", "mahalanobis"])
def test_transformed_rows_have_prefixes_of_their_own(made, metric):
    store, X, y = made
    scores = dr.sample_robustness(store, metric=metric).compute(scheduler="threads")
    kinds = os.listdir(f"{store.url}/prefixes") if os.path.exists(f"{store.url}/prefixes") else []
    if metric == "angular":
        assert len([k for k in kinds if k != "zarr.json"]) == 1
    else:
        metric = dr.Mahalanobis.fit(store.features, store.spec.scale)
    given = from_arrays(X, y, metric)
    np.testing.assert_array_equal(scores.reach, given.reach)
    np.testing.assert_array_equal(scores.witness, given.witness)


def test_a_store_we_may_only_read_is_screened_by_whole_rows(made, monkeypatch):
    store, X, y = made

    def refuse(*_, **__):
        raise PermissionError("read only")

    monkeypatch.setattr("dskrobust.engine.prefixes.save_basis", refuse)
    same_as_real(dr.sample_robustness(store).compute(scheduler="threads"), X, y)
    assert not os.path.exists(f"{store.url}/prefixes")


def test_arrays_in_memory_have_prefixes_too(made, monkeypatch):
    _, X, y = made
    chosen = []
    real = choose_basis

    def note(*given):
        chosen.append(real(*given))
        return chosen[-1]

    monkeypatch.setattr("dskrobust.engine.prefixes.choose_basis", note)
    same_as_real(from_arrays(X, y, "euclidean"), X, y)
    assert chosen[0] is not None


def test_rows_are_read_only_where_a_pair_is_left_to_prove():
    rng = np.random.default_rng(8)
    X = np.repeat([[0.0], [1000.0]], 300, axis=0) + rng.random((600, 24))  # two far heaps
    y = rng.integers(0, 2, 600)
    rows = Arrays(X, y, basis=basis_for(X, "orthonormal", 6, 16, rng))
    job, a, b, panels = Case(X, y, rows.parts).job(), (0, 300), (300, 600), (300, 300)
    known = tuple(reduce_ranges(Arrays(X, y), s, s, panels, job)[0] for s in (a, b))
    counters = reduce_ranges(rows, a, b, panels, job, known)[2]
    assert rows.asked == []
    assert counters.rows_read == counters.proven == 0
    assert counters.prefixes_read == 600
