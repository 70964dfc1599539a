"""Counts of near rows: what brute force counts, whatever bounds settle unproven."""

import brute
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import metric_argument

import dskrobust as dr
from dskrobust.engine.events import listening
from dskrobust.errors import DskrobustError, InvalidOptionError

THREADS = {"scheduler": "threads", "num_workers": 2}
RULES = ("any", "same", "different")
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


def counted(distance, radius, y, rule):
    """Brute force."""
    alike = y[:, None] == y[None, :]
    allowed = {"any": np.ones(alike.shape, bool), "same": alike, "different": ~alike}[rule]
    np.fill_diagonal(allowed, False)
    return ((distance <= radius[:, None]) & allowed).sum(axis=1)


@settings(max_examples=80)
@given(
    draw=st.data(),
    data=own.data_sets(labels=("categorical",)),
    metric=st.sampled_from(own.METRICS),
    rule=st.sampled_from(RULES),
    kind=st.sampled_from(["number", "array", "dask"]),
)
def test_counts_equal_a_brute_force(draw, data, metric, rule, kind):
    if metric == "angular":
        data.X[~data.X.any(axis=1)] = 1
    n = len(data.X)
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    distance = brute.distances(data.X, metric_argument(metric), data.scale)
    radius = distance[np.arange(n), rng.integers(0, n, n)]  # exactly as far as some row
    radius[rng.random(n) < 0.1] = np.inf
    asked = {"number": float(radius[0]), "array": radius, "dask": da.from_array(radius, chunks=7)}
    if kind == "number":
        radius = np.full(n, radius[0])
    found = dr.count_within(
        data.X, asked[kind], y=data.y, labels=rule, metric=metric, scale=data.scale,
        options=draw.draw(own.options()),
    )  # fmt: skip
    assert found.shape == (n,)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found.compute(**THREADS), counted(distance, radius, data.y, rule))


def test_zero_counts_equal_rows(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (200, 4)).astype(np.uint8)
    _, kinds, sizes = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, np.arange(200) % 2)
    for data in (X, store, store.url):
        found = dr.count_within(data, 0, options=dr.RunOptions(block_rows=60))
        np.testing.assert_array_equal(found.compute(**THREADS), sizes[kinds.ravel()] - 1)


def test_most_pairs_are_counted_unproven(tmp_path):
    """By prefixes, too; and nothing is left in the store, which nobody would tidy up."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((2_400, 6)) @ rng.standard_normal((6, 128)) * 12).astype(np.float32)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, np.arange(2_400) % 3)
    before = sorted((tmp_path / "a.zarr").rglob("*"))
    d = brute.distances(X[::40], others=X)
    radius, events, made = float(np.median(d)), [], dr.RunOptions(block_rows=700)
    with listening(events.append):
        found = dr.count_within(store, radius, options=made).compute(**THREADS)
    assert [event["resumed"] for event in events] == [False] * 10
    assert 0 < sum(event["proven"] for event in events) < 0.01 * found.sum() / 2
    np.testing.assert_array_equal(found[::40], (d <= radius).sum(axis=1) - 1)
    assert sorted((tmp_path / "a.zarr").rglob("*")) == before


def test_radii_do_not_share_tiles(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((150, 20)), np.arange(150) % 3
    store, distance = dr.create_store(str(tmp_path / "a.zarr"), X, y), brute.distances(X)
    for radius in (5.0, 6.0, rng.random(150) * 9, 5.0):
        for rule in RULES:
            found = dr.count_within(store, radius, labels=rule).compute(**THREADS)
            wanted = counted(distance, np.broadcast_to(radius, 150), y, rule)
            np.testing.assert_array_equal(found, wanted)


@settings(max_examples=40)
@given(
    draw=st.data(),
    data=own.data_sets(labels=("categorical",)),
    metric=st.sampled_from(own.METRICS),
)
def test_local_sets_equal_a_brute_force(draw, data, metric):
    if metric == "angular":
        data.X[~data.X.any(axis=1)] = 1
    scores = dr.sample_robustness(
        data.X,
        data.y,
        data.split,
        metric=metric,
        scale=data.scale,
        options=draw.draw(own.options()),
    )
    found = dr.local_set_size(scores, draw.draw(own.options())).compute(**THREADS)
    distance = brute.distances(data.X, metric_argument(metric), data.scale)
    expected = brute.score(data.X, data.y, data.split, metric_argument(metric), scale=data.scale)
    inside = (distance < expected.reach[:, None]) & (data.y[:, None] == data.y)
    if data.split is not None:
        inside &= data.split[:, None] == data.split
    np.fill_diagonal(inside, False)
    np.testing.assert_array_equal(found, inside.sum(axis=1))


@pytest.mark.parametrize("state", ["lazy", "computed", "stored"])
def test_local_sets_of_a_store(tmp_path, state):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 5)), rng.integers(0, 2, 200)
    split = np.array(["a", "b"])[np.arange(200) % 2]
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split)
    scores = dr.sample_robustness(store, options=dr.RunOptions(block_rows=70))
    if state != "lazy":
        scores = scores.compute(**THREADS) if state == "computed" else scores.write()
    found = dr.local_set_size(scores).compute(**THREADS)
    distance, expected = brute.distances(X), brute.score(X, y, split)
    inside = (distance < expected.reach[:, None]) & (split[:, None] == split)
    np.testing.assert_array_equal(found, inside.sum(axis=1) - 1)


def test_two_workers_count_the_same(tmp_path, client):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5))
    store = dr.create_store(str(tmp_path / "a.zarr"), X, np.arange(200) % 2)
    found = dr.count_within(store, 1.5, options=dr.RunOptions(block_rows=50)).compute()
    np.testing.assert_array_equal(found, (brute.distances(X) <= 1.5).sum(axis=1) - 1)


def test_nothing_is_computed_while_building(tmp_path, raise_if_dask_computes):
    X = np.random.default_rng(0).standard_normal((60, 5))
    store = dr.create_store(str(tmp_path / "a.zarr"), X, np.arange(60) % 2)
    with raise_if_dask_computes():
        dr.count_within(store, da.full(60, 1.0, chunks=9))
        dr.local_set_size(dr.sample_robustness(store))


@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (-1, "radius must be 0 or more"),
        (np.nan, "radius must be 0 or more"),
        ("wide", "radius must be 0 or more"),
        (np.ones(3), r"radius has the shape \(3,\)"),
        (np.array([1.0, -1, 1, 1]), "radius must be 0 or more"),
        (da.ones((4, 2)), r"radius has the shape \(4, 2\)"),
    ],
)
def test_bad_radii_are_named(radius, message):
    with pytest.raises(InvalidOptionError, match=message):
        dr.count_within(np.eye(4), radius)


def test_bad_requests_are_named():
    with pytest.raises(InvalidOptionError, match="labels must be one of any, same, different"):
        dr.count_within(np.eye(4), 1, labels="other")
    with pytest.raises(InvalidOptionError, match="need labels"):
        dr.count_within(np.eye(4), 1, labels="same")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("radius", "said"),
    [
        (np.ma.array(np.ones(9), mask=np.arange(9) == 4), "radius row 4 is masked"),
        (np.where(np.arange(9) == 4, np.nan, 1.0), "radius must be 0 or more"),
        (np.where(np.arange(9) == 4, -1.0, 1.0), "radius must be 0 or more"),
    ],
)
def test_radii_that_are_none(lazy, radius, said):
    radii = da.from_array(radius, chunks=3) if lazy else radius
    with pytest.raises(DskrobustError, match=said):
        dr.count_within(np.arange(9.0)[:, None], radii).compute()


def test_rows_in_any_container():
    X = np.random.default_rng(0).normal(size=(12, 2))
    frame = pd.DataFrame(X, columns=["a", "b"])
    wanted = dr.count_within(X, 1.0).compute()
    for held in (X.tolist(), frame, dd.from_pandas(frame, npartitions=2)):
        np.testing.assert_array_equal(dr.count_within(held, 1.0).compute(), wanted)
    lazy = da.from_array(X, chunks=(5, 2))
    with pytest.raises(DskrobustError, match="unknown chunk sizes"):
        dr.count_within(lazy[lazy[:, 0] > -9], 1.0)
