"""Nearest samples of the same label, and the samples whose labels they make suspicious."""

import shutil

import brute
import numpy as np
import pytest
from dask import compute
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from strategies import METRICS, data_sets, options

import dskrobust as dr
from dskrobust.errors import InvalidOptionError, StaleResultsError
from dskrobust.store import Block, current_results, find_results

THREADS = {"scheduler": "threads", "num_workers": 2}


@settings(max_examples=40)
@given(made=data_sets(labels=("categorical",)), data=st.data())
def test_the_nearest_of_the_same_label_equals_a_brute_force(made, data):
    metric = data.draw(st.sampled_from(METRICS))
    if metric == "angular":
        made.X[~made.X.any(axis=1)] = 1
    lazy = dr.label_quality(
        made.X, made.y, made.split, metric=metric, scale=made.scale, options=data.draw(options())
    )
    asked = lazy.same_distance, lazy.same, lazy.scores.reach, lazy.scores.nearest
    same_distance, same, reach, witness = compute(*asked, **THREADS)
    name = ("minkowski", 3.0) if metric == "minkowski(3)" else metric
    distance = brute.distances(made.X, name, made.scale)
    split = np.zeros(len(made.y)) if made.split is None else made.split
    apart = np.where((made.y[:, None] != made.y) & (split[:, None] == split), distance, np.inf)
    np.testing.assert_array_equal(reach, apart.min(axis=1))
    np.testing.assert_array_equal(witness, apart.argmin(axis=1))
    counts = (made.y[:, None] == made.y) & (split[:, None] == split)
    np.fill_diagonal(counts, False)
    distance[~counts] = np.inf
    np.testing.assert_array_equal(same_distance, distance.min(axis=1))
    nearest = np.where(np.isinf(distance.min(axis=1)), -1, distance.argmin(axis=1))
    np.testing.assert_array_equal(same, nearest)


def test_long_runs_of_one_label_are_swept():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 30, (1_500, 20)).astype(np.uint8)
    y = np.sort(rng.integers(0, 2, 1_500))
    for columns in (X, X.astype(np.float64)):
        found = dr.label_quality(columns, y, options=dr.RunOptions(block_rows=700)).compute(
            **THREADS
        )
        distance = brute.distances(columns)
        distance[(y[:, None] != y) | np.eye(len(y), dtype=bool)] = np.inf
        np.testing.assert_array_equal(found.same, distance.argmin(axis=1))


def test_wrong_labels_are_found():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(y), 54, replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, 10, 54)) % 10
    found = dr.label_quality(X.astype(np.uint8), noisy).compute(**THREADS)
    is_wrong = np.isin(np.arange(len(y)), wrong)
    by_ratio = average_precision_score(is_wrong, found.ratio)
    by_robustness = average_precision_score(is_wrong, -np.asarray(found.scores.robustness))
    assert by_ratio > 0.9
    assert by_ratio > 3 * by_robustness
    assert average_precision_score(is_wrong, found.witness_of) > 0.8
    assert average_precision_score(is_wrong, -found.score) > by_ratio
    assert found.witness_of.sum() == len(y)


def test_ratios_and_scores_at_the_ends():
    X = np.array([[0.0], [0.0], [0.0], [5.0], [9.0]])
    found = dr.label_quality(X, np.array([0, 0, 1, 1, 2])).compute(**THREADS)
    assert found.ratio.tolist() == [1.0, 1.0, np.inf, 5 / 4, np.inf]
    assert found.same.tolist() == [1, 0, 3, 2, -1]
    assert found.witness_of.tolist() == [1, 0, 2, 1, 1]
    expected = [1 / (1 + 2**0.2), 1 / 2, 0, 1 / (1 + 5 / 4 * 2**0.2), np.nan]
    np.testing.assert_allclose(found.score, expected, rtol=1e-15)


def test_a_store_keeps_them_beside_the_scores(tmp_path):
    X, y = load_digits(return_X_y=True)
    store = dr.create_store(str(tmp_path / "a.zarr"), X[:400].astype(np.uint8), y[:400])
    lazy = dr.label_quality(store)
    assert lazy.together  # one pass
    with pytest.raises(StaleResultsError):
        current_results(store)
    kept = lazy.write()
    assert kept.same_scores.result is not None
    assert len(find_results(store)) == 1  # the scores; nobody takes the others for scores
    assert len(find_results(store, everything=True)) == 2
    again = dr.label_quality(str(tmp_path / "a.zarr"))
    assert again.same_scores.result is not None
    np.testing.assert_array_equal(again.compute().ratio, lazy.compute(**THREADS).ratio)
    report = dr.verify_store(store, sample=50)
    assert len(report.results) == 2
    dr.append_rows(store, [Block(X[400:500].astype(np.uint8), y[400:500], np.zeros(100, np.int16))])
    grown = dr.label_quality(dr.open_store(str(tmp_path / "a.zarr")))
    whole = dr.label_quality(X[:500].astype(np.uint8), y[:500]).compute(**THREADS)
    np.testing.assert_array_equal(np.asarray(grown.same), whole.same)


@pytest.mark.parametrize("first", [None, 300])
def test_plans_may_differ(tmp_path, first):
    rng = np.random.default_rng(0)
    store = dr.create_store(str(tmp_path / "a.zarr"), rng.random((900, 20)), np.arange(900) % 3)
    dr.sample_robustness(store, options=dr.RunOptions(block_rows=first)).write()
    found = dr.label_quality(store, options=dr.RunOptions(block_rows=250)).compute(**THREADS)
    whole = dr.label_quality(store.features[:], np.arange(900) % 3).compute(**THREADS)
    np.testing.assert_array_equal(found.ratio, whole.ratio)


@pytest.mark.parametrize("computed", [False, True])
def test_scores_are_not_searched_again(tmp_path, computed):
    X, y = load_digits(return_X_y=True)
    split = np.arange(400) % 2
    expected = dr.label_quality(X[:400], y[:400], split).compute(**THREADS)
    store = dr.create_store(str(tmp_path / "a.zarr"), X[:400], y[:400], split)
    for scores in (dr.sample_robustness(X[:400], y[:400], split), dr.sample_robustness(store)):
        given = scores.compute(**THREADS) if computed else scores
        found = dr.label_quality(given)
        assert found.scores is given
        np.testing.assert_array_equal(found.compute(**THREADS).score, expected.score)
    with pytest.raises(InvalidOptionError, match="scores have their own labels"):
        dr.label_quality(given, y)
    with pytest.raises(InvalidOptionError, match="the result of data has real labels"):
        dr.label_quality(dr.sample_robustness(X[:400], y[:400] / 2))


def test_only_categories_have_wrong_labels(tmp_path):
    rng = np.random.default_rng(0)
    store = dr.create_store(str(tmp_path / "a.zarr"), rng.random((20, 3)), rng.random(20))
    with pytest.raises(InvalidOptionError, match="has real labels"):
        dr.label_quality(store)


def test_robustness_is_not_of_equal_labels():
    with pytest.raises(InvalidOptionError, match="label map 'same' is unknown"):
        dr.sample_robustness(np.eye(4), np.arange(4) % 2, labels="same")


def test_copies_of_a_store_share_no_task(tmp_path):
    rng = np.random.default_rng(3)
    first, second = (str(tmp_path / f"{name}.zarr") for name in ("first", "second"))
    dr.label_quality(dr.create_store(first, rng.normal(size=(60, 4)), np.arange(60) % 3)).write()
    shutil.copytree(first, second)
    one, other = (dr.label_quality(path) for path in (first, second))
    assert not set(one.ratio.__dask_graph__()) & set(other.ratio.__dask_graph__())
    assert not set(one.scores.__dask_graph__()) & set(other.scores.__dask_graph__())
