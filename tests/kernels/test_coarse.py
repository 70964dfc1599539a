"""Bounds by bytes: certified for any rows, and results that a brute force agrees with."""

import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    KINDS,
    Arrays,
    Case,
    adversary,
    job_for,
    metric_argument,
    reduce_ranges,
    same,
)

from dskrobust.kernels import Tuning
from dskrobust.kernels.bounds.byte_grid import make_grid, row_bytes
from dskrobust.kernels.bounds.byte_norms import bar_of, byte_distance, power_mean_of_bytes
from dskrobust.kernels.distances import _power_mean, reduced
from dskrobust.metrics import CHEBYSHEV, CITYBLOCK, HAMMING, resolve_metric

METRICS = ("cityblock", "chebyshev", "minkowski(1.5)", "minkowski(3)", "minkowski(4)")
METRICS = (*METRICS, "minkowski(7.3)")


ALWAYS = {"grid_rows": 1, "grid_columns": 1}  # grids for the smallest panels


def form_of(metric, columns):
    return resolve_metric(metric).form(columns, 1.0)


def distances_above(X, form):
    """All distances (n, n), rounded up: of so few columns float64 errs by less than 1e-12."""
    X = X.astype(np.float64)
    size = np.abs(X[:, None] - X[None, :])
    if form.code == CHEBYSHEV:
        found = size.max(axis=2)
    elif form.code == CITYBLOCK:
        found = size.sum(axis=2)
    else:
        found = (size**form.p).sum(axis=2) ** (1 / form.p)
    return found * (1 + 1e-12)


def assert_bounded(X, metric, **tuning):
    """Check that no level's bound exceeds the exact distance; return the levels."""
    form = form_of(metric, X.shape[1])
    with np.errstate(all="ignore"):
        grid = make_grid(X, form, Tuning(**ALWAYS, **tuning))
    if grid is None:
        return ()
    found = grid.coarse(X, np.arange(len(X)))
    exact = distances_above(X, form)
    for k, step in enumerate(grid.steps):
        part, error = found[k], found[3 + k]
        if not part.shape[1]:
            continue
        assert not np.isnan(error).any()
        for i in range(len(X)):
            for j in range(len(X)):
                measured = byte_distance(grid.power, part, i, part, j)
                limit = exact[i, j] / step + 1e-6 + error[i] + error[j]
                assert measured <= bar_of(grid.power, limit, part.shape[1])
    return grid.levels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 33, 128, 400])
@pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "minkowski(3)"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_are_certified(kind, d, metric, dtype):
    X = adversary(kind, 6, d, np.random.default_rng(d)).astype(dtype)
    assert_bounded(X, metric)


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "minkowski(2.5)", "minkowski(4)"])
def test_bounds_are_certified_for_bytes(metric):
    X = np.random.default_rng(0).integers(0, 256, (8, 500)).astype(np.uint8)
    levels = assert_bounded(X, metric)
    coarse = metric != "chebyshev"  # of which one column is enough to drop a pair
    assert [level is not None for level in levels] == [coarse, coarse, False]  # rows are bytes


def test_rows_outside_the_sample_stay_bounded():
    X = np.random.default_rng(1).standard_normal((9, 40)) * 10.0 ** np.arange(-4, 5)[:, None]
    for metric in ("cityblock", "chebyshev"):
        assert assert_bounded(X, metric, grid_sample=2)


@given(
    metric=st.sampled_from(METRICS),
    kind=st.sampled_from(["ties", "gaussian", "clusters"]),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    labels=st.sampled_from(own.LABELS),
    shape=st.tuples(st.integers(4, 60), st.sampled_from([3, 24, 40, 129, 200, 400])),
    parts=st.integers(1, 2),
    offset=st.sampled_from([0, 1, 10_000]),
    lead=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_results_are_the_brute_forces(
    metric, kind, dtype, labels, shape, parts, offset, lead, seed
):
    n, d = shape
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, dtype, kind, offset)
    y = own.label_values(rng, n, labels, bool(seed % 2))
    codes = (np.arange(n) % parts).astype(np.int16)
    case = Case(X, y, codes, metric_argument(metric), labels)
    panel, cut = int(rng.integers(5, 70)), int(rng.integers(1, n))
    ranges = ((0, n), (0, n)) if seed % 3 else ((0, cut), (cut, n))
    case.assert_tile(*ranges, (panel, panel), lead=lead, boxes=False, **ALWAYS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_tiles_agree_with_the_plain_way(metric, dtype, labels):
    rng = np.random.default_rng(3)
    base = rng.integers(0, 200, (40, 300))
    X = (base[rng.integers(0, 40, 1100)] + rng.integers(0, 30, (1100, 300))).astype(dtype)
    rows, tile = Arrays(X, rng.integers(0, 4, 1100)), ((0, 1100), (0, 1100), (700, 700))
    metric = resolve_metric(metric)
    found = reduce_ranges(rows, *tile, job_for(X, metric, labels))
    wanted = reduce_ranges(rows, *tile, job_for(X, metric, labels, grid_rows=10**9))
    assert same(found[0], wanted[0])
    assert found[2].proven < 0.2 * wanted[2].proven


@given(
    d=st.integers(1, 700),
    p=st.sampled_from([1.5, 3.0, 7.3]),
    part=st.sampled_from([0.2, 0.999, 1.0, 1.001, np.inf]),
    seed=st.integers(0, 2**32),
)
def test_values_of_bytes_are_the_canonical_ones(d, p, part, seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (2, d)).astype(np.uint8)
    lanes, a, b = np.empty(64), X[0], X[1]
    assert byte_distance(1, X, 0, X, 1) == reduced(CITYBLOCK, p, a, b, np.inf, lanes)
    assert byte_distance(0, X, 0, X, 1) == reduced(CHEBYSHEV, p, a, b, np.inf, lanes)
    assert reduced(HAMMING, p, a, b, np.inf, lanes) == (a != b).sum()
    whole = _power_mean(a, b, p, np.inf)
    powers = np.full((256, 256), -1.0)
    for _ in range(2):
        limit = whole * part
        found = power_mean_of_bytes(p, X, 0, X, 1, limit, powers)
        assert found == whole or (found == np.inf and whole > limit)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("columns", [10, 58, 300, 3000])
def test_bytes_of_a_row_are_as_planned(dtype, columns):
    X = np.random.default_rng(0).integers(0, 200, (80, columns)).astype(dtype)
    form = form_of("cityblock", columns)
    grid = make_grid(X, form, Tuning())
    planned = row_bytes(columns, form, X.dtype)
    if grid is None:
        assert planned == 0
        return
    made = [part for part in grid.coarse(X, np.arange(80)) if part is not X]
    assert sum(part.nbytes for part in made) <= 80 * planned
