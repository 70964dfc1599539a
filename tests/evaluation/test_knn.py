"""k-nearest-neighbour models: votes and means are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import dskrobust as dr
from dskrobust.evaluation.models.knn import Votes
from dskrobust.neighbours import Neighbours, compute_neighbours
from dskrobust.subsets import select_subset

THREADS = {"scheduler": "threads", "num_workers": 2}


@st.composite
def labelled(draw):
    """Whole-numbered rows, whose squared distances are exact everywhere, and queries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(3, 60)), draw(st.integers(1, 5))
    top = draw(st.sampled_from((3, 1_000)))
    return rng.integers(0, top, (n, d)), rng.integers(0, top, (9, d)), rng


def nearest_of(X, queries, k):
    distance = np.sqrt(((queries[:, None, :] - X[None]) ** 2).sum(axis=2).astype(float))
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    ordered = np.take_along_axis(distance, np.argsort(distance, axis=1, kind="stable"), axis=1)
    # scikit-learn promises no order among equally distant rows: look where the k nearest are a set
    clear = ordered[:, k - 1] < ordered[:, k] if k < len(X) else np.ones(len(queries), bool)
    return Neighbours(np.take_along_axis(distance, order, axis=1), order, None, len(X)), clear


@given(made=labelled(), k=st.integers(1, 15), weights=st.sampled_from(("uniform", "distance")))
def test_votes_equal_scikit_learns(made, k, weights):
    X, queries, rng = made
    k = min(k, len(X))
    found, clear = nearest_of(X, queries, k)
    classes, y = np.array([2, 3, 7]), rng.integers(0, 3, len(X))
    theirs = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(X, classes[y])
    votes = Votes(classes[y][found.index], found.distance, weights)
    known = np.isin(classes, theirs.classes_)
    np.testing.assert_allclose(
        votes.shares(k, classes)[clear][:, known], theirs.predict_proba(queries)[clear], rtol=1e-9
    )
    real = rng.standard_normal(len(X))
    regressor = KNeighborsRegressor(k, weights=weights, algorithm="brute").fit(X, real)
    np.testing.assert_allclose(
        Votes(real[found.index], found.distance, weights).mean(k)[clear],
        regressor.predict(queries)[clear],
        rtol=1e-9,
        atol=1e-12,
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), block=st.integers(20, 90), twins=st.booleans())
def test_regression_equals_scikit_learns(seed, block, twins, tmp_path_factory):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((90, 4)), rng.standard_normal(90)
    if twins:  # at distance 0 from a query: only they count with weights
        X[60:70] = X[:10]
    split = np.where(np.arange(90) < 60, "train", "test")
    url = str(tmp_path_factory.mktemp("real") / "a.zarr")
    store = dr.create_store(url, X, y, split=split)
    made = dr.RunOptions(block_rows=block, panel_rows=17)
    subsets = {"x": np.arange(60), "L": np.arange(0, 40, 2)}
    search = dr.nearest_neighbours(
        store, 9, queries=np.arange(60, 90), references=subsets, options=made
    )
    found = compute_neighbours(search, **THREADS)
    for name, rows in subsets.items():
        for weights in ("uniform", "distance"):
            votes = Votes(y[found[name].index], found[name].distance, weights)
            for k in (1, 2, 9):
                theirs = KNeighborsRegressor(k, weights=weights, algorithm="brute")
                theirs.fit(X[rows], y[rows])
                # scikit-learn's distances of duplicates are not 0 but about 1e-8
                clear = found[name].distance[:, 0] > 0 if weights == "distance" else slice(None)
                expected = theirs.predict(X[60:])[clear]
                np.testing.assert_allclose(votes.mean(k)[clear], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_models_equal_scikit_learns(tmp_path, weights):
    rng = np.random.default_rng(0)  # no two distances are equal
    X, y = rng.standard_normal((900, 6)), rng.integers(0, 4, 900)
    split = np.where(np.arange(900) < 700, "train", "test")
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split=split)
    dr.sample_robustness(store).write()
    model = dr.Model("knn", {"neighbors": [1, 4, 15], "weights": [weights]})
    trains = {"x": "train", "L": "train:L300", "M": "train:M300"}
    found = dr.evaluate(store, train=trains, test={"t": "test", "t_L": "test:L50"}, models=[model])
    table = found.compute().table
    assert len(table) == 3 * 2 * 3
    assert set(table["trial"]) == {1}
    scores = dr.sample_robustness(store)  # as the store keeps them
    for name, text in trains.items():
        rows = np.sort(np.asarray(select_subset(scores, text)))
        for k in (1, 4, 15):
            theirs = KNeighborsClassifier(k, weights=weights, algorithm="brute")
            theirs.fit(X[rows].astype(float), y[rows])
            row = table[
                (table["train"] == name) & (table["test"] == "t") & (table["neighbors"] == k)
            ]
            assert row["acc"].item() == theirs.score(X[700:].astype(float), y[700:])
