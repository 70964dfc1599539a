"""k nearest rows: equal to a float64 brute force and to scikit-learn, whatever the tiles."""

import brute
import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import metric_argument
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph, radius_neighbors_graph
from strategies import METRICS, UNLIMITED, data_sets, options

import dskrobust as dr
from dskrobust.engine.events import listening
from dskrobust.engine.plan import MIB
from dskrobust.errors import InvalidOptionError, MemoryPlanError
from dskrobust.neighbours import compute_neighbours
from dskrobust.store import Block, find_results
from dskrobust.subsets import select_subset

THREADS = {"scheduler": "threads", "num_workers": 2}
RULES = ("any", "same", "different")


@st.composite
def row_sets(draw, n):
    """Some row numbers, in any order."""
    rows = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    return np.array(draw(st.permutations(rows)))


def expected(distance, allowed, queries, rows, k):
    """The k nearest allowed ones of `rows`, by distance and then by row number."""
    rows = np.sort(rows)
    part = np.where(allowed, distance, np.nan)[np.ix_(queries, rows)]
    order = np.argsort(part, axis=1, kind="stable")[:, :k]  # what is not allowed comes last
    values = np.take_along_axis(part, order, axis=1)
    there = ~np.isnan(values)
    return np.where(there, values, np.inf), np.where(there, rows[order], -1)


def counting(y, rule):
    """Which pairs count by their labels."""
    alike = y[:, None] == y[None, :]
    return {"any": np.ones(alike.shape, bool), "same": alike, "different": ~alike}[rule]


def assert_lists(found, wanted):
    np.testing.assert_array_equal(found.distance, wanted[0])
    np.testing.assert_array_equal(found.index, wanted[1])


@settings(max_examples=60)
@given(data=st.data(), made=data_sets(labels=("categorical",)))
def test_lists_equal_a_brute_force(data, made, tmp_path_factory):
    n, rule = len(made.X), data.draw(st.sampled_from(RULES))
    metric = data.draw(st.sampled_from(METRICS))
    if metric == "angular":
        made.X[~made.X.any(axis=1)] = 1
    queries = data.draw(row_sets(n))
    subsets = {
        name: data.draw(row_sets(n)) for name in ("x", "L", "M")[: data.draw(st.integers(1, 3))]
    }
    k = data.draw(st.integers(1, min(15, *(len(rows) for rows in subsets.values()))))
    if data.draw(st.booleans()):
        url = str(tmp_path_factory.mktemp("nearest") / "set.zarr")
        spec = dr.StoreSpec("set", "categorical", scale=made.scale)
        given_data = {"data": dr.create_store(url, made.X, made.y, split=made.split, spec=spec)}
    else:
        given_data = {"data": made.X, "y": made.y, "scale": made.scale}
    alone = len(subsets) == 1 and set(queries) == set(subsets["x"])
    if alone and k == len(queries):
        return
    search = dr.nearest_neighbours(
        **given_data, k=k, queries=queries, references=subsets, labels=rule, metric=metric,
        options=data.draw(options()),
    )  # fmt: skip
    found = compute_neighbours(search, **THREADS)
    distance = brute.distances(made.X, metric_argument(metric), made.scale)
    allowed = counting(made.y, rule)
    if alone:
        np.fill_diagonal(allowed, False)
    for subset, rows in subsets.items():
        assert_lists(found[subset], expected(distance, allowed, queries, rows, k))


@settings(max_examples=60)
@given(data=st.data(), made=data_sets(labels=("categorical",)), rule=st.sampled_from(RULES))
def test_all_rows_among_themselves(data, made, rule):
    """Every pair is taken once, for both; no row is its own neighbour."""
    n, metric = len(made.X), data.draw(st.sampled_from(METRICS))
    if metric == "angular":
        made.X[~made.X.any(axis=1)] = 1
    rows = data.draw(st.none() | row_sets(n))
    if rows is not None and len(rows) < 2:
        rows = None
    most = (n if rows is None else len(rows)) - 1
    k = data.draw(st.integers(1, min(9, most)))
    found = dr.nearest_neighbours(
        made.X, k, y=made.y, queries=rows, references=None if rows is None else rows[::-1],
        labels=rule, metric=metric, scale=made.scale, options=data.draw(options()),
    ).compute(**THREADS)  # fmt: skip
    distance = brute.distances(made.X, metric_argument(metric), made.scale)
    allowed = counting(made.y, rule)
    np.fill_diagonal(allowed, False)
    every = np.arange(n) if rows is None else rows
    assert_lists(found, expected(distance, allowed, every, every, k))


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


def test_prefixes_change_nothing(screened):
    store, queries, subsets, distance = screened
    made, events = dr.RunOptions(dr.Resources(1, 2, 2**33), block_rows=1_100), []
    search = dr.nearest_neighbours(store, 15, queries=queries, references=subsets, options=made)
    with listening(events.append):
        found = compute_neighbours(search, **THREADS)
    pairs, proven, again = (
        sum(e[name] for e in events) for name in ("pairs", "proven", "screened")
    )
    assert pairs == len(queries) * 4_200
    assert again > 0  # long prefixes were looked at
    assert proven < pairs / 4
    for name, rows in subsets.items():
        order = np.argsort(distance[:, rows], axis=1, kind="stable")[:, :15]
        np.testing.assert_array_equal(found[name].index, rows[order])
        np.testing.assert_array_equal(
            found[name].distance, np.take_along_axis(distance[:, rows], order, axis=1)
        )


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_rows_that_ask_and_answer_are_not_mixed_up(screened, metric):
    """A worker keeps blocks, which may be queries in one tile and references in another."""
    store, _, subsets, _ = screened
    made = dr.RunOptions(dr.Resources(1, 1, 2**33), block_rows=900)
    sets = {"all": np.arange(store.rows), "M": subsets["M"]}
    search = dr.nearest_neighbours(store, 3, references=sets, metric=metric, options=made)
    plan = search["all"].search.plan
    assert plan.kept_bytes > 0
    assert len(set(plan.blocks)) < len(plan.blocks)
    found = compute_neighbours(search, **THREADS)
    some = np.arange(0, store.rows, 23)
    X = store.features[:].astype(np.float64)
    distance = np.full((store.rows, store.rows), np.inf)
    distance[some] = brute.distances(X[some], metric, others=X)
    for name, rows in sets.items():
        values, index = expected(distance, distance >= 0, some, rows, 3)
        np.testing.assert_array_equal(found[name].distance[some], values)
        np.testing.assert_array_equal(found[name].index[some], index)


def test_tiles_are_found_again(screened):
    store, queries, subsets, _ = screened
    asked = {
        "k": 3, "queries": queries[::2], "references": subsets,
        "options": dr.RunOptions(dr.Resources(1, 2, 2**33), block_rows=900),
    }  # fmt: skip
    lists = dr.nearest_neighbours(store, **asked)
    first = dask.compute(*(one.index for one in lists.values()), **THREADS)  # and then it is killed
    search = lists["x"].search
    assert search.memo.count() == len(search.plan.tiles)
    events = []
    with listening(events.append):
        found = compute_neighbours(dr.nearest_neighbours(store, **asked), **THREADS)
    assert len(events) == len(search.plan.tiles)
    assert all(event["resumed"] for event in events)
    for one, index in zip(found.values(), first, strict=True):
        np.testing.assert_array_equal(one.index, index)
    assert search.memo.count() == 0  # nothing stays in the store of what is done


def test_searches_do_not_share_keys(screened):
    store, queries, _, _ = screened
    even, odd = np.arange(0, 4_200, 2), np.arange(1, 4_200, 2)
    made = [
        dr.nearest_neighbours(store, k, queries=asked, references=rows, labels=labels)
        for asked in (queries, queries[:300])
        for rows in (even, odd)
        for k in (1, 3)
        for labels in ("any", "same")
    ]
    together = dask.compute(*(one.index for one in made), **THREADS)
    for one, index in zip(made, together, strict=True):
        np.testing.assert_array_equal(index, one.compute(**THREADS).index)


def test_scattered_rows_cost_no_more_tiles(tmp_path):
    X, y = digits_like(9_000, 20)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y)
    rows = np.random.default_rng(0).permutation(9_000)
    made = dr.RunOptions(dr.Resources(4, 2, 2**33), block_rows=2_000)
    plans = []
    for order in (np.arange(9_000), rows):
        search = dr.nearest_neighbours(
            store, 3, queries=order[:900], references=order[900:], options=made
        )
        found = search.compute(**THREADS)
        squares = (X[order[:900], None].astype(float) - X[None, order[900:]]) ** 2
        plans.append(search.search.plan)
        exact = np.sqrt(squares.sum(axis=2).min(axis=1))
        np.testing.assert_array_equal(found.distance[:, 0], exact)
    assert len(plans[0].tiles) == len(plans[1].tiles)
    assert plans[0].bytes_read == plans[1].bytes_read


@pytest.mark.cluster
def test_two_processes_give_the_same_bits(screened, client):
    store, queries, subsets, _ = screened
    made = dr.RunOptions(dr.Resources(1, 1, 2**33), block_rows=1_900, panel_rows=450)
    asked = {"k": 7, "queries": queries, "references": subsets, "metric": "cityblock"}
    one = dr.nearest_neighbours(store, **asked, options=made)
    alone = compute_neighbours(one, scheduler="sync")
    two = dr.nearest_neighbours(store, **asked)
    assert two["x"].search.plan.tiles != one["x"].search.plan.tiles
    found = compute_neighbours(two)
    for name, lists in found.items():
        np.testing.assert_array_equal(lists.index, alone[name].index)
        np.testing.assert_array_equal(lists.distance, alone[name].distance)


def test_groups_and_subsets_are_references(tmp_path):
    X, y = digits_like(300, 12)
    split = np.where(np.arange(300) < 200, "train", "test")
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split=split)
    scores = dr.sample_robustness(store).write()
    low = select_subset(scores, "train:L40")
    found = compute_neighbours(
        dr.nearest_neighbours(store, 4, queries="test", references={"all": "train", "low": low}),
        **THREADS,
    )
    distance, allowed = brute.distances(X), np.ones((300, 300), bool)
    test = np.arange(200, 300)
    assert_lists(found["all"], expected(distance, allowed, test, np.arange(200), 4))
    assert_lists(found["low"], expected(distance, allowed, test, np.asarray(low), 4))


# -- in a store --------------------------------------------------------------------------------


def test_lists_are_written_and_read(tmp_path):
    X, y = digits_like(500, 20)
    store, made = dr.create_store(str(tmp_path / "a.zarr"), X, y), dr.RunOptions(block_rows=130)
    lazy = dr.nearest_neighbours(store, 6, options=made)
    kept = lazy.write()
    assert kept.search is None
    wanted = lazy.compute(**THREADS)
    distance, allowed = brute.distances(X), ~np.eye(500, dtype=bool)
    assert_lists(wanted, expected(distance, allowed, np.arange(500), np.arange(500), 6))
    events = []
    with listening(events.append):
        for again in (kept, dr.nearest_neighbours(dr.open_store(store.url), 6), kept.write()):
            assert_lists(again.compute(**THREADS), (wanted.distance, wanted.index))
    assert events == []
    assert find_results(store) == []  # nobody takes them for scores
    report = dr.verify_store(store, sample=5)
    assert report.unproven == report.results
    assert len(report.results) == 1
    other = dr.nearest_neighbours(store, 5, options=made)
    assert other.search is not None
    np.testing.assert_array_equal(other.compute(**THREADS).index, wanted.index[:, :5])
    same = dr.nearest_neighbours(store, 6, labels="same", options=made)
    assert same.search is not None


def test_lists_of_grown_stores_are_searched_again(tmp_path):
    X, y = digits_like(300, 20)
    store = dr.create_store(str(tmp_path / "a.zarr"), X[:200], y[:200])
    dr.nearest_neighbours(store, 3).write()
    store = dr.append_rows(store, [Block(X[200:], y[200:], np.zeros(100, np.int16))])
    found = dr.nearest_neighbours(store, 3).write().compute(**THREADS)
    distance, allowed = brute.distances(X), ~np.eye(300, dtype=bool)
    assert_lists(found, expected(distance, allowed, np.arange(300), np.arange(300), 3))


def test_an_interrupted_search_goes_on(tmp_path):
    X, y = digits_like(400, 20)
    store, made = dr.create_store(str(tmp_path / "a.zarr"), X, y), dr.RunOptions(block_rows=100)
    lazy = dr.nearest_neighbours(store, 4, options=made)
    begun, events = [], []
    with listening(begun.append):
        dask.get(dict(lazy.index.__dask_graph__()), lazy.search.graph.tiles[:5])
    assert 5 <= len(begun) < 10  # tiles start from what their diagonal ones know
    with listening(events.append):
        kept = dr.nearest_neighbours(store, 4, options=made).write()
    assert sum(event["resumed"] for event in events) == len(begun)
    assert len(events) == len(lazy.search.plan.tiles) == 10
    distance, allowed = brute.distances(X), ~np.eye(400, dtype=bool)
    wanted = expected(distance, allowed, np.arange(400), np.arange(400), 4)
    assert_lists(kept.compute(**THREADS), wanted)


def test_only_all_rows_of_a_store_are_written(tmp_path):
    X, y = digits_like(60, 20)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y)
    for lists in (dr.nearest_neighbours(X, 2), dr.nearest_neighbours(store, 2, queries=[1, 2])):
        with pytest.raises(InvalidOptionError, match="only the neighbours of all rows of a store"):
            lists.write()


# -- graphs ------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), n=st.integers(5, 60), d=st.integers(1, 4), k=st.integers(1, 4))
def test_graphs_are_scikit_learns(seed, n, d, k):
    """Of whole numbers all distances are exact; the k nearest must be a set for both to agree."""
    X = np.random.default_rng(seed).integers(0, 1_000, (n, d)).astype(float)
    lists = dr.nearest_neighbours(X, k + 1 if k + 1 < n else k, options=dr.RunOptions(UNLIMITED))
    lists = lists.compute(**THREADS)
    clear = np.ones(n, bool)
    if lists.distance.shape[1] > k:
        clear = lists.distance[:, k - 1] < lists.distance[:, k]
    found = dr.nearest_neighbours(X, k).graph()
    theirs = kneighbors_graph(X, k, mode="distance", include_self=False)
    assert found.shape == theirs.shape == (n, n)
    np.testing.assert_allclose(found.toarray()[clear], theirs.toarray()[clear], rtol=1e-12)
    ones = dr.nearest_neighbours(X, k).graph("connectivity")
    assert (ones.data == 1).all()
    np.testing.assert_array_equal(ones.indices, found.indices)
    np.testing.assert_array_equal(np.diff(found.indptr), k)


def test_graphs_have_no_entries_for_nobody():
    X, y = np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 1, 2])
    lists = dr.nearest_neighbours(X, 2, y=y, labels="same").compute(**THREADS)
    assert lists.index.tolist() == [[1, -1], [0, -1], [3, 4], [2, 4], [3, 2], [-1, -1]]
    graph = lists.graph()
    np.testing.assert_array_equal(np.diff(graph.indptr), [1, 1, 2, 2, 2, 0])
    assert graph.indices.tolist() == [1, 0, 3, 4, 2, 4, 3, 2]
    with pytest.raises(InvalidOptionError, match="mode must be"):
        lists.graph("weights")


def test_scikit_learn_takes_the_graphs():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5)), rng.integers(0, 3, 300)
    train, test = np.arange(200), np.arange(200, 300)
    within = dr.nearest_neighbours(X, 7, queries=train, references=train).graph()[:, :200]
    across = dr.nearest_neighbours(X, 7, queries=test, references=train).graph()[:, :200]
    ours = KNeighborsClassifier(5, metric="precomputed").fit(within, y[:200])
    theirs = KNeighborsClassifier(5).fit(X[:200], y[:200])
    np.testing.assert_array_equal(ours.predict(across), theirs.predict(X[200:]))
    X[:, 0] += 9 * y  # three clusters
    graph = dr.nearest_neighbours(X, 299).graph()
    clusters = DBSCAN(eps=1.3, min_samples=4, metric="precomputed").fit(graph)
    wanted = DBSCAN(eps=1.3, min_samples=4).fit(X)
    np.testing.assert_array_equal(clusters.labels_, wanted.labels_)
    assert len(set(wanted.labels_)) > 2
    near = radius_neighbors_graph(X, 1.3, mode="distance")
    assert (graph.data <= 1.3).sum() == near.nnz


# -- what is refused ---------------------------------------------------------------------------


def test_nothing_is_computed_while_the_graph_is_built(screened, raise_if_dask_computes):
    store, queries, subsets, _ = screened
    with raise_if_dask_computes():
        dr.nearest_neighbours(store, 3, queries=queries, references=subsets)
        dr.nearest_neighbours(store, 3)


def test_memory_is_refused_early(screened):
    store, queries, subsets, _ = screened
    tight = dr.RunOptions(dr.Resources(2, 1, 350 * MIB))
    roomy, asked = dr.RunOptions(dr.Resources(2, 1, 2**29)), {"queries": queries}
    dr.nearest_neighbours(store, 15, **asked, references=subsets, options=roomy)
    with pytest.raises(MemoryPlanError, match="memory limit"):
        dr.nearest_neighbours(store, 15, **asked, references=subsets, options=tight)


@pytest.mark.parametrize(
    ("queries", "subsets", "k", "message"),
    [
        ([0, 9_999], {"x": [0]}, 1, "queries has row 9999, but"),
        ([0], {"x": [-1]}, 1, "x has row -1, but"),
        ([0], {"x": [1, 2], "L": [1]}, 2, "cannot find 2 neighbours in L, which has 1 row;"),
        ([0], {}, 1, "no reference set"),
        ([], {"x": [1]}, 1, "queries must be row numbers"),
        ([0.5], {"x": [1]}, 1, "queries must be row numbers"),
    ],
)
def test_bad_requests_are_named(screened, queries, subsets, k, message):
    with pytest.raises(InvalidOptionError, match=message):
        dr.nearest_neighbours(screened[0], k, queries=queries, references=subsets)


def test_bad_rules_and_missing_labels_are_named():
    X = np.eye(4)
    with pytest.raises(InvalidOptionError, match="labels must be one of any, same, different"):
        dr.nearest_neighbours(X, 1, labels="other")
    with pytest.raises(InvalidOptionError, match="need labels"):
        dr.nearest_neighbours(X, 1, labels="same")
    with pytest.raises(InvalidOptionError, match=r"cannot find 4 neighbours .* k may be 1 to 3"):
        dr.nearest_neighbours(X, 4)
    with pytest.raises(InvalidOptionError, match="no group 'train'"):
        dr.nearest_neighbours(X, 1, queries="train")


def test_datalab_takes_the_graph():
    cleanlab = pytest.importorskip("cleanlab", reason="cleanlab[datalab] is not installed")
    X, y = load_digits(return_X_y=True)
    ours = dr.nearest_neighbours(X, 10).graph(mode="distance")
    own = kneighbors_graph(X, 10, mode="distance")
    found = []
    for graph in (ours, own):
        lab = cleanlab.Datalab({"y": y}, label_name="y", verbosity=0)
        lab.find_issues(knn_graph=graph, issue_types={"outlier": {}, "near_duplicate": {}})
        found.append(lab.get_issues()[["outlier_score", "near_duplicate_score"]])
    np.testing.assert_array_equal(*found)


def test_umap_takes_the_lists():
    umap = pytest.importorskip("umap", reason="umap-learn is not installed")
    X, _ = load_digits(return_X_y=True)
    near = dr.nearest_neighbours(X, 10).compute()
    lists = near.index, near.distance
    assert umap.UMAP(n_neighbors=10, precomputed_knn=lists).fit_transform(X).shape == (len(X), 2)


def test_small_integers_are_numbers_too():
    X = np.random.default_rng(0).normal(size=(30, 2))
    found = dr.nearest_neighbours(X, np.int8(3), scale=2**70).compute()
    np.testing.assert_array_equal(found.index, dr.nearest_neighbours(X, 3).compute().index)
