"""Sums of a row and many others: the canonical ones to the last bit, and pairs that count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case

from dskrobust.kernels import KNearest
from dskrobust.kernels.distances import LANES, SCRATCH, reduced
from dskrobust.kernels.row_sums import AT_ONCE, accumulate_row, by_column, has_row_sums
from dskrobust.metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN, HAMMING, MINKOWSKI

CODES = (EUCLIDEAN, CITYBLOCK, CHEBYSHEV, CHORD)


@given(
    code=st.sampled_from(CODES),
    d=st.one_of(st.integers(1, 70), st.sampled_from([96, 127, 255, 256])),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    seed=st.integers(0, 2**32),
)
def test_sums_by_column_are_the_canonical_ones(code, d, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (50, d)).astype(dtype)
    if dtype != "uint8":
        X *= rng.standard_normal((50, d)).astype(dtype)
        X *= (10.0 ** rng.integers(-15, 15, d)).astype(dtype) if seed % 2 else 1
    order, one = rng.permutation(50), int(rng.integers(0, 50))
    others, lanes, values = np.zeros((d, AT_ONCE)), np.empty((LANES, AT_ONCE)), np.empty(AT_ONCE)
    by_column(X, order, others)
    accumulate_row(code, X[one], others, lanes, values)
    scratch = np.empty(SCRATCH)
    for j, other in enumerate(order):
        assert values[j] == reduced(code, 2.0, X[one], X[other], np.inf, scratch)


def test_long_rows_and_other_metrics_are_computed_pair_by_pair():
    assert all(has_row_sums(code, 256) for code in CODES)
    assert not any(has_row_sums(code, 257) for code in CODES)
    assert not has_row_sums(HAMMING, 8)
    assert not has_row_sums(MINKOWSKI, 8)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", "angular"])
@given(
    labels=st.sampled_from(["categorical", "real", "vector-l2"]),
    nearest=st.booleans(),
    n=st.sampled_from([40, 150]),
    d=st.sampled_from([3, 33, 257]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=15)
def test_pairs_without_bounds_are_the_brute_forces(metric, labels, nearest, n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 4 if seed % 2 else 200, (n, d)).astype(np.float64)
    labels = "categorical" if nearest else labels
    y = np.sort(rng.integers(0, 3, n))
    if labels != "categorical":
        y = rng.integers(0, 9, (n, 2) if labels == "vector-l2" else n) / 4
    parts, reduction = (np.arange(n) % 2).astype(np.int16), KNearest(3) if nearest else None
    case = Case(X, y, parts, metric, labels, reduction=reduction)
    cut = int(rng.integers(1, n))
    ranges = ((0, n), (0, n)) if seed % 3 else ((0, cut), (cut, n))
    case.assert_tile(*ranges, (n, n), plain=True)
