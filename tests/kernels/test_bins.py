"""Bins of bytes: what their words drop is too far, and results that a brute force agrees with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, Case, job_for, reduce_ranges, same

from dskrobust.kernels import CountWithin, KNearest, LargestQuotient
from dskrobust.kernels.bounds.bin_sweep import outgrown
from dskrobust.kernels.bounds.byte_bins import (
    BINS,
    LANES,
    NOTHING,
    UNROLLED,
    WIDTH,
    choose_columns,
    fill_words,
    list_lanes,
    make_bins,
    or_words,
    put_into_bins,
)
from dskrobust.metrics import resolve_metric


def saturated(rng, n, d, share=0.5):
    """Images nearly black and white: bytes at or near both ends, some between."""
    X = np.where(rng.random((n, d)) < 0.7, 0, 255)
    grey = rng.random((n, d)) < share * rng.random(n)[:, None]
    return np.where(
        grey, rng.integers(0, 256, (n, d)), X - np.sign(X) * rng.integers(0, 3, X.shape)
    )


def left_of(bins, a, b, least):
    """Which pairs the words of bins leave, (n, m)."""
    one = put_into_bins(a, np.arange(len(a)), bins)
    other = put_into_bins(b, np.arange(len(b)), bins)
    words = np.full((len(bins.columns), BINS, WIDTH), 7, np.uint8)
    scratch, lanes = np.empty((2, LANES), np.uint8), np.empty(LANES, np.int64)
    fill_words(bins.low, bins.high, other.bytes, 0, least, scratch, words)
    out, taken = np.zeros((len(a), len(b)), bool), np.empty(WIDTH, np.uint8)
    for i in range(len(a)):
        taken[:] = 0
        if or_words(words.ravel().view(np.uint64), one.bins[i], taken.view(np.uint64)):
            found = lanes[: list_lanes(taken, taken.view(np.uint64), lanes)]
            out[i, found[found < len(b)]] = True
    return out


@given(
    d=st.integers(1, 300),
    m=st.sampled_from((1, 63, 64, 65, 200, 511, LANES)),
    guess=st.integers(1, 255),
    seed=st.integers(0, 2**32),
)
def test_words_drop_only_what_is_too_far(d, m, guess, seed):
    rng = np.random.default_rng(seed)
    X = saturated(rng, 20 + m, d) if seed % 2 else rng.integers(0, 256, (20 + m, d))
    X = X.astype(np.uint8)
    a, b = X[:20], X[20:]
    least = rng.integers(1, NOTHING + 1, m).astype(np.int16)
    if seed % 3:
        least[:] = guess
    columns = choose_columns(a, b[:64], guess)
    assert len(columns) % UNROLLED == 0
    bins = make_bins(X, columns, guess)
    for k in range(len(columns)):
        assert (
            (bins.low[k, bins.of[k]] <= np.arange(256))
            & (np.arange(256) <= bins.high[k, bins.of[k]])
        ).all()
    exact = np.abs(a[:, None].astype(int) - b[None]).max(axis=2)
    left = left_of(bins, a, b, least)
    assert left[exact < least].all()


def test_words_drop_all_that_columns_can_decide():
    """Of bytes that are bins of their own no pair is left that a chosen column decides."""
    rng = np.random.default_rng(0)
    X = rng.choice(np.array([0, 0, 1, 2, 253, 253, 254, 255], np.uint8), (200, 40))
    a, b = X[:100], X[100:]
    columns = choose_columns(a, b, 254)
    assert len(set(columns.tolist())) == 40
    exact = np.abs(a[:, None].astype(int) - b[None]).max(axis=2)
    for least in (253, 254, 255):
        left = left_of(make_bins(X, columns, 253), a, b, np.full(100, least, np.int16))
        assert (left == (exact < least)).all()


def test_columns_come_in_the_order_in_which_they_decide():
    X = np.zeros((64, 6), np.uint8)
    X[::2, 4] = 200  # decides half of all pairs
    X[1::4, 1] = X[1::4, 2] = 200  # of the rest as many, twice
    assert choose_columns(X, X, 100)[:2].tolist() == [4, 1]
    nothing = choose_columns(X, X, 250)
    assert (left_of(make_bins(X, nothing, 250), X, X, np.full(64, 250, np.int16))).all()


@pytest.mark.parametrize("least", range(1, NOTHING + 1, 5))
def test_columns_are_chosen_anew_a_few_times_only(least):
    times, now = 0, least
    for typical in range(least, 0, -1):
        if outgrown(now, typical):
            times, now = times + 1, typical
    assert times <= 32
    assert not outgrown(now, now)
    assert outgrown(100, 50)
    assert outgrown(254, 252)


REDUCTIONS = {
    "quotient": lambda labels: LargestQuotient(labels != "categorical"),
    "nearest": lambda labels: KNearest(4),
}


@given(
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    metric=st.sampled_from(["chebyshev", ("minkowski", 7.3)]),
    labels=st.sampled_from(["categorical", "real", "vector-l1"]),
    reduction=st.sampled_from(sorted(REDUCTIONS)),
    rule=st.sampled_from(["different", "same", "any"]),
    shape=st.tuples(st.integers(4, 100), st.sampled_from([3, 30, 129])),
    parts=st.integers(1, 2),
    side=st.sampled_from([40, 512]),
    scale=st.sampled_from([1.0, 1 / 255, 3.7]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100)
def test_results_are_the_brute_forces(
    dtype, metric, labels, reduction, rule, shape, parts, side, scale, seed
):
    n, d = shape
    n = min(n, 24) if metric != "chebyshev" else n  # brute force takes powers one by one
    rng = np.random.default_rng(seed)
    X = saturated(rng, n, d).astype(dtype)
    if dtype != "uint8" and seed % 2:
        X += rng.random((n, d)).astype(dtype)
    labels = labels if rule == "different" and reduction == "quotient" else "categorical"
    y = np.sort(rng.integers(0, 3, n)) if seed % 3 else rng.integers(0, 3, n)
    if labels != "categorical":
        steps = rng.integers(0, 3, (n, 2)) / 4
        y = y[:, None] + steps if labels == "vector-l1" else y + steps[:, 0]
    codes = (np.arange(n) % parts).astype(np.int16)
    case = Case(X, y, codes, metric, labels, rule, REDUCTIONS[reduction](labels), scale)
    panel, cut = int(rng.integers(5, 130)), int(rng.integers(1, n))
    ranges = ((0, n), (0, n)) if seed % 3 else ((0, cut), (cut, n))
    case.assert_tile(*ranges, (panel, panel), side=side, grid_rows=1, grid_columns=1)


@pytest.mark.parametrize("reduction", [LargestQuotient(), KNearest(7), CountWithin(both=True)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_large_blocks_agree_with_the_plain_way(reduction, dtype):
    """Blocks of more columns than lanes, in several strips, ties by the thousand."""
    rng = np.random.default_rng(3)
    X = saturated(rng, 1700, 60, 0.3).astype(dtype)
    rows = Arrays(X, rng.integers(0, 3, 1700))
    tile, metric = ((0, 1700), (0, 1700), (1300, 1300)), resolve_metric("chebyshev")
    known = None
    if isinstance(reduction, CountWithin):
        known = reduction.empty(1700, 1)
        known.radius[:, 0] = rng.choice([0.0, 200.0, 250.0, 253.0, np.inf, -np.inf], 1700)
    found, wanted = (
        reduce_ranges(
            rows, *tile, job_for(X, metric, reduction=reduction, **tuning), (known, known)
        )
        for tuning in ({"side": 1200}, {"grid_rows": 10**9})
    )
    assert same(found[0], wanted[0])
    if isinstance(reduction, LargestQuotient) and dtype == "uint8":  # others are left as they are
        assert found[2].proven < 0.6 * wanted[2].proven
