"""k nearest rows: equal to a float64 brute force and to scikit-learn, whatever the tiles."""

import brute
import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from strategies import METRICS, data_sets, options

import dskrobust as dr
from dskrobust.engine import tasks as tiles
from dskrobust.engine.plan import MIB
from dskrobust.errors import InvalidOptionError, MemoryPlanError
from dskrobust.evaluation.models.knn import Votes
from dskrobust.kernels import Neighbours
from dskrobust.neighbours import NearestRows, cut_parts, nearest_neighbours
from dskrobust.subsets import select_subset

THREADS = {"scheduler": "threads", "num_workers": 2}


@st.composite
def row_sets(draw, n):
    """Some row numbers, in any order."""
    rows = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    return np.array(draw(st.permutations(rows)))


def expected(distance, queries, rows, k):
    """The k nearest of `rows`, by distance and then by row number."""
    rows = np.sort(rows)
    part = distance[np.ix_(queries, rows)]
    order = np.argsort(part, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(part, order, axis=1), rows[order]


@settings(max_examples=40)
@given(data=st.data(), given_set=data_sets(labels=("categorical",)))
def test_lists_equal_a_brute_force(data, given_set, tmp_path_factory):
    n = len(given_set.X)
    metric = data.draw(st.sampled_from(METRICS))
    if metric == "angular":
        given_set.X[~given_set.X.any(axis=1)] = 1
    queries = data.draw(row_sets(n))
    subsets = {
        name: data.draw(row_sets(n)) for name in ("x", "L", "M")[: data.draw(st.integers(1, 3))]
    }
    k = data.draw(st.integers(1, min(15, *(len(rows) for rows in subsets.values()))))
    url = str(tmp_path_factory.mktemp("nearest") / "set.zarr")
    spec = dr.StoreSpec("set", "categorical", scale=given_set.scale)
    store = dr.create_store(url, given_set.X, given_set.y, split=given_set.split, spec=spec)
    search = nearest_neighbours(
        store, queries, subsets, k, metric=metric, options=data.draw(options())
    )
    found = search.compute(**THREADS)
    name = ("minkowski", 3.0) if metric == "minkowski(3)" else metric
    distance = brute.distances(given_set.X, name, given_set.scale)
    for subset, rows in subsets.items():
        values, index = expected(distance, queries, rows, k)
        np.testing.assert_array_equal(found[subset].distance, values)
        np.testing.assert_array_equal(found[subset].index, index)


def digits_like(rows=4_600, columns=128, dtype=np.uint8, seed=0):
    """Rows near a subspace of few dimensions, so that prefixes pay; some are duplicates."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 6)) @ rng.standard_normal((6, columns)) * 12 + 128
    X = np.clip(np.round(X + rng.standard_normal(X.shape)), 0, 255)
    X[rng.integers(0, rows, 50)] = X[rng.integers(0, rows, 50)]
    return X.astype(dtype), rng.integers(0, 4, rows)


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """A store whose rows are screened by prefixes, queries, subsets and their exact distances."""
    X, y = digits_like()
    split = np.where(np.arange(len(X)) < 4_200, "train", "test")
    store = dr.create_store(str(tmp_path_factory.mktemp("knn") / "a.zarr"), X, y, split=split)
    subsets = {"x": np.arange(4_200), "L": np.arange(0, 3_000), "M": np.arange(1_500, 4_200, 2)}
    queries = np.arange(4_200, 4_600)
    wide = X.astype(np.float64)
    squares = ((wide[queries, None, :] - wide[None, :4_200]) ** 2).sum(axis=2)
    return store, queries, subsets, np.sqrt(squares)


def test_prefixes_change_nothing(screened, monkeypatch):
    store, queries, subsets, distance = screened
    seen = []
    reduce = tiles.reduce_neighbours

    def watch(*args, **kwargs):
        found, counters = reduce(*args, **kwargs)
        seen.append((args[0].depths, counters))
        return found, counters

    monkeypatch.setattr(tiles, "reduce_neighbours", watch)
    made = dr.RunOptions(dr.Resources(1, 2, 2**33), block_rows=1_100)
    found = nearest_neighbours(store, queries, subsets, 15, options=made).compute(**THREADS)
    assert all(depths is not None for depths, _ in seen)
    pairs, proven = (sum(getattr(c, name) for _, c in seen) for name in ("pairs", "proven"))
    assert pairs == len(queries) * 4_200
    assert proven < pairs / 4
    for name, rows in subsets.items():
        order = np.argsort(distance[:, rows], axis=1, kind="stable")[:, :15]
        np.testing.assert_array_equal(found[name].index, rows[order])
        np.testing.assert_array_equal(
            found[name].distance, np.take_along_axis(distance[:, rows], order, axis=1)
        )


def test_tiles_are_found_again(screened, monkeypatch):
    store, queries, subsets, _ = screened
    made = dr.RunOptions(dr.Resources(1, 2, 2**33), block_rows=900)
    search = nearest_neighbours(store, queries[::2], subsets, 3, options=made)
    first = dask.compute(*search.blocks, **THREADS)  # and then it is killed
    assert search.memo.count() == len(search.plan.tiles)
    monkeypatch.setattr(tiles, "reduce_neighbours", None)  # whoever calls it fails
    again = nearest_neighbours(store, queries[::2], subsets, 3, options=made)
    found = again.compute(**THREADS)
    for name, parts in again.parts.items():
        index = np.concatenate([block.union(parts)[1] for block in first])
        np.testing.assert_array_equal(found[name].index, index)
    assert search.memo.count() == 0  # nothing stays in the store of what is done


def test_searches_do_not_share_keys(screened):
    store, queries, _, _ = screened
    even, odd = np.arange(0, 4_200, 2), np.arange(1, 4_200, 2)
    made = [
        nearest_neighbours(store, asked, {"x": rows}, k)
        for asked in (queries, queries[:300])
        for rows in (even, odd)
        for k in (1, 3)
    ]
    together = dask.compute(*(block for search in made for block in search.blocks), **THREADS)
    starts = np.cumsum([0, *(len(search.blocks) for search in made)])
    for search, lo, hi in zip(made, starts[:-1], starts[1:], strict=True):
        alone = search.compute(**THREADS)["x"]
        index = np.concatenate([block.union([0])[1] for block in together[lo:hi]])
        np.testing.assert_array_equal(index, alone.index)


def test_scattered_rows_cost_no_more_tiles(tmp_path):
    X, y = digits_like(9_000, 20)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y)
    rows = np.random.default_rng(0).permutation(9_000)
    made = dr.RunOptions(dr.Resources(4, 2, 2**33), block_rows=2_000)
    plans = []
    for order in (np.arange(9_000), rows):
        search = nearest_neighbours(store, order[:900], {"x": order[900:]}, 3, options=made)
        found = search.compute(**THREADS)["x"]
        squares = (X[order[:900], None].astype(float) - X[None, order[900:]]) ** 2
        plans.append(search.plan)
        exact = np.sqrt(squares.sum(axis=2).min(axis=1))
        np.testing.assert_array_equal(found.distance[:, 0], exact)
    assert len(plans[0].tiles) == len(plans[1].tiles)
    assert plans[0].bytes_read == plans[1].bytes_read


def test_two_processes_give_the_same_bits(screened):
    store, queries, subsets, _ = screened
    made = dr.RunOptions(dr.Resources(1, 1, 2**33), block_rows=1_900, panel_rows=450)
    one = nearest_neighbours(store, queries, subsets, 7, metric="cityblock", options=made)
    alone = one.compute(scheduler="sync")
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster, Client(cluster):  # fmt: skip
        two = nearest_neighbours(store, queries, subsets, 7, metric="cityblock")
        assert two.plan.tiles != one.plan.tiles
        found = two.compute()
    for name, lists in found.items():
        np.testing.assert_array_equal(lists.index, alone[name].index)
        np.testing.assert_array_equal(lists.distance, alone[name].distance)


def test_nothing_is_computed_while_the_graph_is_built(screened):
    def fail(*args, **kwargs):
        raise AssertionError("something was computed")

    store, queries, subsets, _ = screened
    with dask.config.set(scheduler=fail):
        nearest_neighbours(store, queries, subsets, 3)


def test_memory_is_refused_early(screened):
    store, queries, subsets, _ = screened
    tight = dr.RunOptions(dr.Resources(2, 1, 350 * MIB))
    nearest_neighbours(
        store, queries, subsets, 15, options=dr.RunOptions(dr.Resources(2, 1, 2**29))
    )
    with pytest.raises(MemoryPlanError, match="memory limit"):
        nearest_neighbours(store, queries, subsets, 15, options=tight)


@pytest.mark.parametrize(
    ("queries", "subsets", "k", "message"),
    [
        ([0, 9_999], {"x": [0]}, 1, "queries has row 9999, but"),
        ([0], {"x": [-1]}, 1, "x has row -1, but"),
        ([0], {"x": [1, 2], "L": [1]}, 2, "cannot find 2 neighbours in L, which has 1 rows"),
        ([0], {}, 1, "no reference subset"),
        ([], {"x": [1]}, 1, "queries must be row numbers"),
        ([0.5], {"x": [1]}, 1, "queries must be row numbers"),
    ],
)
def test_bad_requests_are_named(screened, queries, subsets, k, message):
    with pytest.raises(InvalidOptionError, match=message):
        nearest_neighbours(screened[0], queries, subsets, k)


@given(
    subsets=st.dictionaries(
        st.sampled_from("abcdef"), st.sets(st.integers(0, 29), min_size=1), min_size=1
    )
)
def test_subsets_are_unions_of_their_parts(subsets):
    rows = {name: np.array(sorted(found)) for name, found in subsets.items()}
    codes, parts = cut_parts(30, rows)
    for name, numbers in rows.items():
        np.testing.assert_array_equal(np.flatnonzero(np.isin(codes, parts[name])), numbers)
    assert len(np.unique(codes[codes >= 0])) <= min(30, 2 ** len(rows) - 1)
    np.testing.assert_array_equal(
        codes >= 0, np.isin(np.arange(30), list(set().union(*subsets.values())))
    )


@given(seed=st.integers(0, 1_000), k=st.integers(1, 5), parts=st.integers(1, 3))
def test_merging_is_associative_commutative_and_idempotent(seed, k, parts):
    rng = np.random.default_rng(seed)
    rows = np.arange(4)

    def lists():
        made = Neighbours.empty(rows, parts, k)
        for i in range(4):
            for part in range(parts):
                index = rng.choice(12, rng.integers(0, k + 1), replace=False)
                distance = (index * 7 % 4).astype(float)  # of a row, always the same
                order = np.lexsort((index, distance))
                made.index[i, part, : len(index)] = index[order]
                made.distance[i, part, : len(index)] = distance[order]
        return made

    def same(one, two):
        np.testing.assert_array_equal(one.index, two.index)
        np.testing.assert_array_equal(one.distance, two.distance)

    a, b, c = lists(), lists(), lists()
    same(a.merge(b), b.merge(a))
    same(a.merge(b).merge(c), a.merge(b.merge(c)))
    same(a.merge(a), a)
    same(a.merge(b).merge(b), a.merge(b))


# -- what the votes say ------------------------------------------------------------------------


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
    return NearestRows(np.take_along_axis(distance, order, axis=1), order), clear


@given(made=labelled(), k=st.integers(1, 15), weights=st.sampled_from(("uniform", "distance")))
def test_votes_equal_scikit_learns(made, k, weights):
    X, queries, rng = made
    k = min(k, len(X))
    found, clear = nearest_of(X, queries, k)
    classes, y = np.array([2, 3, 7]), rng.integers(0, 3, len(X))
    theirs = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(X, classes[y])
    votes = Votes(classes[y][found.index], found, weights)
    known = np.isin(classes, theirs.classes_)
    np.testing.assert_allclose(
        votes.shares(k, classes)[clear][:, known], theirs.predict_proba(queries)[clear], rtol=1e-9
    )
    real = rng.standard_normal(len(X))
    regressor = KNeighborsRegressor(k, weights=weights, algorithm="brute").fit(X, real)
    np.testing.assert_allclose(
        Votes(real[found.index], found, weights).mean(k)[clear],
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
    found = nearest_neighbours(store, np.arange(60, 90), subsets, 9, options=made).compute(
        **THREADS
    )
    for name, rows in subsets.items():
        for weights in ("uniform", "distance"):
            votes = Votes(y[found[name].index], found[name], weights)
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
