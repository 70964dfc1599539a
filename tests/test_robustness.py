"""Robustness against a float64 brute force, to the last bit, whatever the cuts and schedulers."""

import gc
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import brute
import dask
import dask.array as da
import numpy as np
import pytest
import strategies as own
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import dskrobust as dr
from dskrobust.errors import (
    ContradictionWarning,
    InvalidDataError,
    InvalidOptionError,
    MemoryPlanError,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::dskrobust.errors.ContradictionWarning"  # tested by name below
)
BRUTE_METRIC = {"minkowski(3)": ("minkowski", 3.0)}


def run(data, metric="euclidean", options=None, scheduler="sync"):
    """Score a data set in this process."""
    with dask.config.set(scheduler=scheduler):
        return dr.sample_robustness(
            data.X,
            data.y,
            data.split,
            metric=metric,
            labels=data.labels,
            scale=data.scale,
            options=options,
        ).compute()


def expected(data, metric="euclidean"):
    if isinstance(metric, str):
        metric = BRUTE_METRIC.get(metric, metric)
    return brute.score(data.X, data.y, data.split, metric, data.labels, data.scale)


def spec_of(data):
    """What a store must know of a data set."""
    kind, _, norm = data.labels.partition("-")
    return dr.StoreSpec("own", kind, scale=data.scale, label_norm=norm or "l2")


def stored(data, folder, X=None, y=None):
    """Return the data set as a store."""
    X, y = data.X if X is None else X, data.y if y is None else y
    path = str(Path(folder) / "own.zarr")
    return dr.create_store(path, X, y, data.split, spec=spec_of(data), overwrite=True)


def sample(
    n=120, d=40, *, dtype="float32", labels="categorical", groups=2, kind="clusters", seed=0
):
    """A data set without Hypothesis, long enough for runs of one label."""
    rng = np.random.default_rng(seed)
    X, y = own.features(rng, n, d, dtype, kind, 0), own.label_values(rng, n, labels, False)
    split = np.array(["a", "b", "c"])[np.arange(n) % groups]
    y[: 2 * groups] = np.repeat([0, 1], groups).reshape((-1, *[1] * (y.ndim - 1)))
    return own.Data(X, y, split, labels)


# -- the brute force ---------------------------------------------------------------------------


@pytest.mark.parametrize("metric", own.METRICS)
@given(data=own.data_sets(), options=own.options())
def test_equals_brute_force(metric, data, options):
    if metric == "angular":
        assume((data.X != 0).any(axis=1).all())
    brute.assert_same(run(data, metric, options), expected(data, metric))


@pytest.mark.parametrize("dtype", own.DTYPES)
@pytest.mark.parametrize("labels", own.LABELS)
@pytest.mark.parametrize("kind", own.KINDS)
def test_long_runs_equal_brute_force(dtype, labels, kind):
    # More rows than a side of a product (512), and runs of one label and group long enough to be
    # swept without looking at labels.
    data = sample(700, 33, dtype=dtype, labels=labels, kind=kind, seed=1)
    options = dr.RunOptions(own.UNLIMITED, block_rows=620, panel_rows=530)
    brute.assert_same(run(data, options=options), expected(data))


@pytest.mark.parametrize("labels", own.LABELS)
@pytest.mark.parametrize("metric", own.METRICS)
def test_wide_rows_equal_brute_force(labels, metric):
    # Wide enough (over 256 columns) for kernels to give a pair up half way.
    data = sample(90, 700, dtype="float64", labels=labels, groups=3, kind="gaussian")
    brute.assert_same(run(data, metric), expected(data, metric))


@given(data=own.data_sets(dtypes=("float64", "int32"), kinds=("gaussian",)))
def test_mahalanobis(data):
    d = data.X.shape[1]
    root = np.random.default_rng(d).standard_normal((d, d))
    VI = root @ root.T / d + np.eye(d)
    found = run(data, dr.Mahalanobis(VI))
    brute.assert_same(found, expected(data, ("mahalanobis", VI)))


def test_mahalanobis_of_the_data():
    data = sample(dtype="float64", d=5, groups=1, kind="gaussian")
    X = data.X
    VI = np.linalg.inv(np.cov(X.T))
    found = run(data, dr.Mahalanobis.fit(X))
    near = np.where(data.y[:, None] == data.y, np.inf, cdist(X, X, "mahalanobis", VI=VI))
    np.testing.assert_allclose(found.reach, near.min(axis=1), rtol=1e-9)


def canberra(a, b):
    return float((np.abs(a - b) / (1 + np.abs(a) + np.abs(b))).sum())


@given(data=own.data_sets(rows=(2, 25)), options=own.options())
def test_callable_metric(data, options):
    brute.assert_same(run(data, canberra, options), expected(data, canberra))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_callable_that_is_no_metric(value):
    with pytest.raises(InvalidDataError, match=r"rows \d+ and \d+"):
        run(sample(8, 2), lambda a, b: value)


@pytest.mark.parametrize(
    ("metric", "scipy_metric"),
    [
        ("euclidean", {"metric": "euclidean"}),
        ("cityblock", {"metric": "cityblock"}),
        ("chebyshev", {"metric": "chebyshev"}),
        ("minkowski(3)", {"metric": "minkowski", "p": 3}),
        ("minkowski(1.5)", {"metric": "minkowski", "p": 1.5}),
        ("minkowski(1)", {"metric": "cityblock"}),
        ("minkowski(2)", {"metric": "euclidean"}),
        ("minkowski(inf)", {"metric": "chebyshev"}),
        ("hamming", {"metric": "hamming"}),
        ("angular", {"metric": "cosine"}),
    ],
)
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_agrees_with_scipy(metric, scipy_metric, labels):
    kind = "ties" if metric == "hamming" else "gaussian"
    data = sample(80, 20, dtype="float64", labels=labels, groups=1, kind=kind)
    X = data.X + 1
    data = own.Data(X, data.y, None, labels)
    d = cdist(X, X, **scipy_metric)
    if metric == "angular":
        d = np.arccos(np.clip(1 - d, -1, 1))
    dy = brute.label_distances(data.y, labels)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(dy > 0, dy / d, 0).max(axis=1)
    found = run(data, metric)
    np.testing.assert_allclose(found.reach, np.where(dy > 0, d, np.inf).min(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.lipschitz, q, rtol=1e-9)
    bound = brute.label_bound(data.y, labels)
    np.testing.assert_allclose(found.robustness, bound / (q + bound), rtol=1e-9)


@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_bool_features_and_labels(labels):
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 12)) < 0.5, rng.random(40) < 0.5
    data = own.Data(X, y, None, labels)
    numbers = own.Data(X.astype(np.uint8), y.astype(np.int64), None, labels)
    brute.assert_same(run(data), expected(numbers))


def test_text_labels_are_categories():
    data = sample()
    names = np.array(["zebra", "ant", "cow", "dog"])[data.y]
    brute.assert_same(dr.sample_robustness(data.X, names, data.split).compute(), expected(data))


def test_arrays_of_other_byte_orders_and_strides():
    data = sample(dtype="float64")
    X = np.asfortranarray(data.X.astype(">f8"))
    odd = own.Data(X, data.y[::-1][::-1], data.split, data.labels)
    brute.assert_same(run(odd), expected(data))
    wide = np.repeat(data.X, 2, axis=1)[:, ::2]
    brute.assert_same(run(own.Data(wide, data.y, data.split, data.labels)), expected(data))


# -- no way of running changes a bit -----------------------------------------------------------


@given(data=own.data_sets(), options=own.options(), draw=st.data())
def test_chunks_change_nothing(data, options, draw):
    n = len(data.X)
    X = da.from_array(data.X, chunks=(draw.draw(own.chunk_sizes(n)), -1))
    d = data.X.shape[1]
    if d > 1 and draw.draw(st.booleans()):
        X = X.rechunk((X.chunks[0], (1, d - 1)))
    y_chunks = (draw.draw(own.chunk_sizes(n)), *(-1 for _ in data.y.shape[1:]))
    y = da.from_array(data.y, chunks=y_chunks) if draw.draw(st.booleans()) else data.y
    brute.assert_same(run(own.Data(X, y, *tail(data)), options=options), expected(data))


def tail(data):
    return data.split, data.labels, data.scale


@settings(max_examples=15)
@given(data=own.data_sets(), options=own.options(), how=st.sampled_from(["numpy", "dask", "zarr"]))
def test_stores_change_nothing(data, options, how):
    with tempfile.TemporaryDirectory() as folder:
        X, y = data.X, data.y
        if how == "dask":
            X, y = da.from_array(X, chunks=(7, -1)), da.from_array(y, chunks=5)
        elif how == "zarr":
            X = zarr.array(X, store=f"{folder}/x.zarr", chunks=(7, *X.shape[1:]))
            y = zarr.array(y, store=f"{folder}/y.zarr", chunks=(9, *y.shape[1:]))
        store = stored(data, folder, X, y)
        found = dr.sample_robustness(store, options=options).compute()
        brute.assert_same(found, expected(data))
        wrote = dr.sample_robustness(store, options=options).write().compute()
        brute.assert_same(wrote, expected(data))


@given(data=own.data_sets())
def test_zarr_arrays_change_nothing(data):
    X = zarr.array(data.X, chunks=(7, data.X.shape[1]))
    y = zarr.array(data.y, chunks=(9, *data.y.shape[1:]))
    brute.assert_same(run(own.Data(X, y, *tail(data))), expected(data))


@pytest.mark.parametrize("labels", ["categorical", "real", "vector-l1"])
@pytest.mark.parametrize("rows", [1, 7, 16, 61, 119, 120, 500])
def test_block_rows_change_nothing(labels, rows):
    data = sample(60 if rows < 16 else 120, labels=labels, kind="ties")  # a tile costs 6 ms
    options = dr.RunOptions(own.UNLIMITED, block_rows=max(rows, 4), panel_rows=rows)
    brute.assert_same(run(data, options=options), expected(data))


@pytest.mark.parametrize("rows", [1, 5, 15])
def test_small_blocks_fit_any_memory(rows):
    data = sample(30, 5)
    options = dr.RunOptions(own.ROOMY, block_rows=rows)
    brute.assert_same(run(data, options=options), expected(data))


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_schedulers_change_nothing(scheduler, labels, tmp_path):
    data = sample(labels=labels)
    options = dr.RunOptions(own.UNLIMITED, block_rows=40, scratch=str(tmp_path))
    brute.assert_same(run(data, options=options, scheduler=scheduler), expected(data))


@pytest.mark.parametrize("labels", ["categorical", "real", "vector-linf"])
@pytest.mark.parametrize("how", ["numpy", "dask", "zarr", "store"])
def test_workers_change_nothing(client, labels, how, tmp_path):
    data = sample(labels=labels, groups=3, kind="ties")
    options = dr.RunOptions(block_rows=33, scratch=str(tmp_path))
    if how == "store":
        found = dr.sample_robustness(stored(data, tmp_path), options=options).compute()
    else:
        X, y = data.X, data.y
        if how == "dask":
            X, y = da.from_array(X, chunks=(17, 9)), da.from_array(y, chunks=50)
        elif how == "zarr":
            X = zarr.array(X, store=str(tmp_path / "x.zarr"), chunks=(7, 40))
        scores = dr.sample_robustness(X, y, data.split, labels=labels, options=options)
        assert scores.plan.resources.workers == 2
        found = scores.compute()
    brute.assert_same(found, expected(data))


def test_a_graph_built_before_the_client_runs_on_it(local_cluster):
    from distributed import Client

    data = sample()
    scores = dr.sample_robustness(data.X, data.y, data.split)
    with Client(local_cluster):
        brute.assert_same(scores.compute(), expected(data))


def test_duplicate_and_repeated_tiles_change_nothing(tmp_path):
    data = sample(labels="real")
    scores = dr.sample_robustness(
        stored(data, tmp_path), options=dr.RunOptions(own.UNLIMITED, block_rows=30)
    )
    for _ in range(2):  # the second time all tiles are found in the memo
        brute.assert_same(scores.compute(), expected(data))


# -- laziness, tasks, scratch ------------------------------------------------------------------


def given_as(how, data, folder):
    """Arguments of sample_robustness for one way of giving the data."""
    if how == "store":
        return (stored(data, folder),)
    X, y = data.X, data.y
    if how == "dask":
        X, y = da.from_array(X, chunks=(17, -1)), da.from_array(y, chunks=50)
    elif how == "zarr":
        X = zarr.array(X, store=str(folder / "x.zarr"), chunks=(7, X.shape[1]))
    return X, y, data.split


@pytest.mark.parametrize("how", ["numpy", "dask", "zarr", "store"])
@pytest.mark.parametrize("with_client", [False, True])
def test_nothing_is_computed_while_building(
    how, with_client, tmp_path, raise_if_dask_computes, request
):
    if with_client:
        request.getfixturevalue("client")
    data = sample()
    arguments = given_as(how, data, tmp_path)
    with raise_if_dask_computes():
        scores = dr.sample_robustness(*arguments)
        assert scores.robustness.shape == (120,)
        assert scores.lipschitz_by_group.shape == (120, 2)
        assert scores.witness.dtype == np.int64
        assert scores.rows == 120
        within = scores.robustness_within("a", "b")
        lazy = dr.least_robust(scores, 5, within="a").indices
        assert repr(scores)
    assert isinstance(within, da.Array)
    assert isinstance(lazy, da.Array)
    for name in brute.TABLES:
        assert isinstance(getattr(scores, name), da.Array), name


@pytest.mark.parametrize("how", ["numpy", "dask", "store"])
def test_declared_shapes_and_dtypes_are_those_computed(how, tmp_path):
    data = sample(labels="real")
    scores = (
        dr.sample_robustness(*given_as(how, data, tmp_path), labels="real")
        if (how != "store")
        else dr.sample_robustness(*given_as(how, data, tmp_path))
    )
    done = scores.compute()
    for name in brute.TABLES:
        lazy, value = getattr(scores, name), getattr(done, name)
        assert (lazy.shape, lazy.dtype) == (value.shape, value.dtype), name
    assert float(np.asarray(done.label_norm)) == np.abs(data.y).max()


def layer_of(scores):
    """The tasks behind all arrays of the scores."""
    tasks = {}
    for name in brute.TABLES:
        tasks.update(dict(getattr(scores, name).__dask_graph__()))
    return tasks


@pytest.mark.parametrize("how", ["numpy", "dask", "store"])
@pytest.mark.parametrize(("n", "rows"), [(120, 7), (120, 40), (400, 4), (1000, 50)])
def test_task_counts_follow_the_plan(how, n, rows, tmp_path):
    data = sample(n, 3)
    arguments = given_as(how, data, tmp_path)
    scores = dr.sample_robustness(*arguments, options=dr.RunOptions(own.UNLIMITED, block_rows=rows))
    tasks = layer_of(scores)
    tiles = [k for k in tasks if isinstance(k, tuple) and str(k[0]).startswith("tile-")]
    blocks = len(scores.plan.blocks)
    assert len(tiles) == len(scores.plan.tiles) == blocks * (blocks + 1) // 2
    # The plan counts tiles, merges and six outputs a block; summaries and scratch come on top.
    extra = 6 * blocks + 60
    assert abs(len(tasks) - scores.plan.tasks) <= 0.25 * scores.plan.tasks + extra


def test_features_are_no_dask_dependency(tmp_path):
    data = sample()
    scores = dr.sample_robustness(stored(data, tmp_path))
    sizes = [len(dask.base.tokenize(t)) for t in layer_of(scores).values()]
    assert sizes
    assert not any(
        isinstance(part, np.ndarray)
        for task in layer_of(scores).values()
        if isinstance(task, tuple)
        for part in task
    )


@pytest.fixture
def scratch_home(tmp_path, monkeypatch):
    home = tmp_path / "temporary"
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    return home


def test_scratch_is_removed(scratch_home):
    data = sample()
    X = da.from_array(data.X, chunks=(50, -1))
    scores = dr.sample_robustness(X, data.y, data.split)
    assert list(scratch_home.iterdir()) == []
    done = scores.compute()
    assert list(scratch_home.iterdir()) == []
    brute.assert_same(done, expected(data))
    brute.assert_same(scores.compute(), expected(data))  # made again, and removed again
    assert list(scratch_home.iterdir()) == []


def test_scratch_is_removed_after_a_failure(scratch_home):
    data = sample()
    X = da.from_array(data.X, chunks=(50, -1)) * np.nan
    with pytest.raises(InvalidDataError):
        dr.sample_robustness(X, data.y, data.split).compute()
    assert list(scratch_home.iterdir()) == []


ONE_ARRAY = """
import dask.array as da, dskrobust as dr, numpy as np, os, tempfile
X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
lipschitz = dr.sample_robustness(da.from_array(X, chunks=20), y).lipschitz
np.testing.assert_array_equal(lipschitz, dr.sample_robustness(X, y).lipschitz)
assert len([f for f in os.listdir(tempfile.gettempdir()) if "scratch" in f]) == 1
"""


def test_scratch_of_single_arrays_is_removed_at_exit(tmp_path):
    # They may be computed again, or be persisted, so nobody knows sooner.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", ONE_ARRAY], check=True, env=environment)
    assert [f for f in os.listdir(tmp_path) if "scratch" in f] == []


def test_two_scores_of_the_same_arrays_do_not_share_scratch(scratch_home):
    data = sample()
    X = da.from_array(data.X, chunks=(50, -1))
    first = dr.sample_robustness(X, data.y, data.split)
    second = dr.sample_robustness(X, data.y, data.split)
    persisted = second.robustness.persist()
    del first
    gc.collect()
    # What the second needs is still there, or is made again.
    brute.assert_same(second.compute(), expected(data))
    np.testing.assert_array_equal(persisted.compute(), expected(data).robustness)


def test_scratch_tasks_may_run_again():
    # A lost worker's finished tasks run again, in any order: what others wrote must survive it.
    from dskrobust.datasets.labelled import check_arrays
    from dskrobust.engine import scratch as sources

    data = sample(groups=1)
    with tempfile.TemporaryDirectory() as folder:
        given_arrays = check_arrays(da.from_array(data.X), data.y, None)
        spec = sources.scratch_spec(("all",), 1.0, "categorical")
        graph, done, needed, _ = sources.scratch_graph(given_arrays, spec, folder)
        tasks = dict(graph.items())
        (create,) = [t for t in tasks.values() if t[0] is sources._create_scratch]
        (write,) = [t for t in tasks.values() if t[0] is sources._write_scratch]
        url = create[0](*create[1:])
        arrays = [np.asarray(collection) for collection in needed]
        written = write[0](url, write[2], *arrays, write[5])
        assert create[0](*create[1:]) == url
        address = tasks[done][0](url, tasks[done][2], [written])
        np.testing.assert_array_equal(address.open().features[:], data.X)


def test_dask_arrays_are_computed_once(scratch_home):
    data, calls = sample(), []

    def count(block):
        calls.append(1)
        return block

    X = da.from_array(data.X, chunks=(30, -1)).map_blocks(count, dtype=data.X.dtype)
    calls.clear()
    with dask.config.set(scheduler="sync"):
        dr.sample_robustness(X, data.y, data.split).compute()
    assert len(calls) == 4


# -- what the paper proves ---------------------------------------------------------------------


@given(data=own.data_sets(groups=(2, 3)))
def test_union_is_the_maximum(data):  # 3.5
    scores = run(data)
    whole = run(own.Data(data.X, data.y, None, data.labels, data.scale))
    np.testing.assert_array_equal(scores.lipschitz_within(), whole.lipschitz)
    np.testing.assert_array_equal(scores.robustness_within(), whole.robustness)
    a, b = scores.groups[:2]
    rows = np.isin(data.split, [a, b])
    both = run(own.Data(data.X[rows], data.y[rows], None, data.labels, data.scale))
    np.testing.assert_array_equal(scores.lipschitz_within(a, b)[rows], both.lipschitz)
    np.testing.assert_array_equal(
        scores.robustness_within(a, b),
        np.minimum(scores.robustness_within(a), scores.robustness_within(b)),
    )


@given(data=own.data_sets(groups=(1, 1), dtypes=("float64",), kinds=("gaussian", "clusters")))
def test_largest_quotient_is_the_lipschitz_constant(data):  # A.1
    found = run(data)
    d = brute.distances(data.X, scale=data.scale)
    dy = brute.label_distances(data.y, data.labels)
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = np.where(dy > 0, dy / d, 0).max()
    if data.labels == "categorical":  # one over the distance, with the same rounding
        assert found.lipschitz.max() == 1 / np.where(dy > 0, d, np.inf).min()
    assert found.lipschitz.max() == pytest.approx(constant, rel=1e-15)
    assert (found.lipschitz >= 0).all()


@given(
    data=own.data_sets(labels=("real", "vector-l1", "vector-l2", "vector-linf")),
    factor=st.sampled_from([-1.0, 0.1, 3.0, -7e5, 2.0**40, 1e-9]),
)
def test_rescaling_labels_leaves_robustness(data, factor):  # A.2
    scaled = own.Data(data.X, factor * data.y, *tail(data))
    np.testing.assert_allclose(run(scaled).robustness, run(data).robustness, rtol=1e-12)


@given(data=own.data_sets(labels=("categorical", "real")))
def test_binary_labels(data):  # A.3
    binary = own.Data(data.X, (data.y == data.y[0]).astype(float), *tail(data))
    assume(all(len(set(binary.y[codes])) == 2 for codes in group_rows(binary)))
    found = run(binary)
    r = found.reach
    np.testing.assert_allclose(found.robustness, r / (r + 1), rtol=1e-15)


def group_rows(data):
    split = np.zeros(len(data.X)) if data.split is None else data.split
    return [np.flatnonzero(split == name) for name in np.unique(split)]


@given(data=own.data_sets(dtypes=("int32",)), shift=st.integers(-10_000, 10_000))
def test_integer_translation_changes_nothing(data, shift):
    moved = own.Data((data.X + shift).astype(np.int32), data.y, *tail(data))
    brute.assert_same(run(moved), run(data))


@given(data=own.data_sets(dtypes=("float64",), kinds=("gaussian",)), seed=st.integers(0, 99))
def test_rows_permute_with_their_results(data, seed):
    # Continuous features: no ties. Equal labels are ties of the quotient only with equal distances.
    order = np.random.default_rng(seed).permutation(len(data.X))
    back = np.argsort(order)
    split = None if data.split is None else data.split[order]
    moved = own.Data(data.X[order], data.y[order], split, data.labels, data.scale)
    found, there = run(data), run(moved)
    for name in ("robustness", "lipschitz", "reach", "lipschitz_by_group", "reach_by_group"):
        np.testing.assert_array_equal(getattr(there, name), getattr(found, name)[order])
    for name in ("witness", "nearest", "witness_by_group", "nearest_by_group"):
        wanted = getattr(found, name)
        wanted = np.where(wanted < 0, -1, back[wanted])
        np.testing.assert_array_equal(getattr(there, name), wanted[order])


@given(
    data=own.data_sets(dtypes=("float64", "float32")),
    power=st.sampled_from([-300, -60, -20, -1, 1, 13, 40]),
)
def test_powers_of_two_scale_distances(data, power):
    factor = 2.0**power
    scaled = own.Data(data.X.astype(np.float64) * factor, data.y, *tail(data))
    found, there = run(data), run(scaled)
    np.testing.assert_array_equal(there.reach, found.reach * factor)
    np.testing.assert_array_equal(there.witness, found.witness)
    np.testing.assert_array_equal(there.nearest, found.nearest)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(there.lipschitz, found.lipschitz / factor, rtol=1e-15)


@pytest.mark.parametrize("labels", own.LABELS)
def test_offset_float32_features_change_no_witness(labels):
    # Multiples of 1/64 below 16: exact in float32 with and without the offset.
    rng = np.random.default_rng(3)
    X = (rng.integers(0, 1024, (300, 50)) / 64).astype(np.float32)
    y = own.label_values(rng, 300, labels, False)
    here = run(own.Data(X, y, None, labels))
    far = run(own.Data(X + np.float32(1e4), y, None, labels))
    brute.assert_same(far, here)


# -- hard numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_near_duplicates(labels, offset):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 30)) + offset
    X = np.concatenate([X, X + 1e-7 * rng.standard_normal(X.shape), X + 1e-7])
    y = own.label_values(rng, len(X), labels, False)
    data = own.Data(X, y, None, labels)
    brute.assert_same(run(data), expected(data))


@pytest.mark.parametrize("labels", ["categorical", "real", "vector-l2"])
@pytest.mark.parametrize("size", [1e-160, 1e-200, 1e-300, 1e-120, 1e-99, 1e-30, 1e30, 1e140])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", "minkowski(3)"])
def test_tiny_and_huge_features(labels, size, metric):
    power = 2.0 ** round(math.log2(size))
    data = sample(60, 20, dtype="float64", labels=labels, kind="gaussian")
    there = run(own.Data(data.X * power, data.y, *tail(data)), metric)
    here = expected(data, metric)
    np.testing.assert_allclose(there.reach, here.reach * power, rtol=1e-14)
    np.testing.assert_array_equal(there.nearest, here.nearest)
    np.testing.assert_array_equal(there.witness, here.witness)
    if metric == "euclidean":
        np.testing.assert_array_equal(there.reach, here.reach * power)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "angular"])
def test_denormal_features(metric):
    plain = np.array([[1.0, 2], [2, 1], [4, 9], [7, 7]])
    X = np.ldexp(plain, -1040)
    assert (np.ldexp(X, 1040) == plain).all()
    here = expected(own.Data(plain, np.array([0, 1, 0, 1]), None, "categorical"), metric)
    there = run(own.Data(X, np.array([0, 1, 0, 1]), None, "categorical"), metric)
    np.testing.assert_array_equal(there.witness, here.witness)
    assert (there.reach > 0).all()


@pytest.mark.xfail(reason="a float64 sum of squares below 1e-162 squared is 0", strict=True)
def test_a_tiny_difference_beside_large_values_is_no_contradiction():
    # Rows that differ are not at distance 0, even where the square of the difference underflows.
    X = np.array([[1e-170], [2e-170], [1.0], [2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(own.Data(X, np.array([0, 1, 0, 1]), None, "categorical"))
    np.testing.assert_array_equal(found.witness, [1, 0, 1, 0])


def test_rows_of_very_different_sizes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 20)) * 10.0 ** rng.integers(-40, 40, (90, 1))
    for labels in ("categorical", "real"):
        data = own.Data(X, own.label_values(rng, 90, labels, False), None, labels)
        brute.assert_same(run(data), expected(data))


def odd_labels(size, seed):
    """Integer labels times a size at which squares underflow or nearly overflow."""
    rng = np.random.default_rng(seed)
    X, y = rng.random((300, 2)), rng.integers(-30, 30, 300).astype(float)
    return own.Data(X, y * size, None, "real")


LABEL_SIZES = (1e-320, 1e-163, 3e-162, 1e-161, 1e-160, 1e-150, 1e-100, 1e100, 3e148)


@pytest.mark.parametrize("size", LABEL_SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_quotients_of_tiny_and_huge_labels(size, seed):
    data = odd_labels(size, seed)
    found, wanted = run(data), expected(data)
    for name in brute.TABLES[1:]:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


@pytest.mark.parametrize("size", LABEL_SIZES)
def test_robustness_of_tiny_and_huge_labels(size):
    data = odd_labels(size, 0)
    np.testing.assert_array_equal(run(data).robustness, expected(data).robustness)


def test_angular_at_both_ends():
    # Angles near 0 and near π, where the cosine forgets most digits.
    turn = np.concatenate([1e-9 * np.arange(20), np.pi - 1e-9 * np.arange(20)])
    X = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    data = own.Data(X, np.arange(40) % 2, None, "categorical")
    found = run(data, "angular")
    brute.assert_same(found, expected(data, "angular"))
    np.testing.assert_allclose(found.reach, 1e-9, rtol=1e-6)


# -- contradictions ----------------------------------------------------------------------------


def twins():
    X = np.random.default_rng(0).standard_normal((20, 5))
    X[7], X[11], X[13] = X[3], X[3], X[2]
    y = np.arange(20) % 2
    y[[3, 7, 11]], y[[2, 13]] = [0, 1, 1], [1, 1]
    return X, y


@pytest.mark.filterwarnings("always::dskrobust.errors.ContradictionWarning")
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_contradictions(labels, tmp_path):
    X, y = twins()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, spec=dr.StoreSpec("own", labels))
    for scores in (
        dr.sample_robustness(X, y, labels=labels),
        dr.sample_robustness(store),
        dr.sample_robustness(store).write(),
    ):
        with pytest.warns(ContradictionWarning, match=r"3 samples .*rows 3 and 7") as caught:
            done = scores.compute()
        assert len(caught) == 1
        assert caught[0].filename == __file__
        for rows in (3, 7, 11):
            assert (done.reach[rows], done.robustness[rows]) == (0, 0)
            assert done.lipschitz[rows] == np.inf
        assert (done.reach > 0).sum() == 17  # equal labels at distance 0 are nothing
        np.testing.assert_array_equal(done.contradictions(), [[3, 7], [7, 3], [11, 3]])
        np.testing.assert_array_equal(scores.contradictions(), done.contradictions())


def test_no_contradictions():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = run(sample(kind="gaussian"))
    assert done.contradictions().shape == (0, 2)


def test_a_group_of_contradictions_only():
    X = np.zeros((6, 3))
    done = run(own.Data(X, np.arange(6) % 3, None, "real"))
    np.testing.assert_array_equal(done.robustness, 0)
    np.testing.assert_array_equal(done.witness, [1, 0, 0, 1, 0, 0])


# -- bad input ---------------------------------------------------------------------------------


def good():
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 3)), np.arange(12) % 2


@pytest.mark.parametrize("how", ["numpy", "dask", "store"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("what", ["features", "labels"])
def test_values_that_are_no_numbers_are_named(how, value, what, tmp_path):
    X, y = good()
    y = y.astype(float)
    row, column = 7, 1
    if what == "features":
        X[row, column] = value
    else:
        y[row], column = value, 0
    message = rf"{what} row 7, column {column} is"
    if how == "store":
        with pytest.raises(InvalidDataError, match=message):
            dr.create_store(str(tmp_path / "own.zarr"), X, y)
        assert not (tmp_path / "own.zarr").exists()
        return
    if how == "dask":
        X, y = da.from_array(X, chunks=(5, 2)), da.from_array(y, chunks=4)
    scores = dr.sample_robustness(X, y, options=dr.RunOptions(scratch=str(tmp_path)))
    with pytest.raises(InvalidDataError, match=message):
        scores.compute()


def test_a_nan_is_named_by_workers(client, tmp_path):
    X, y = good()
    X[9, 2] = np.nan
    with pytest.raises(InvalidDataError, match="features row 9, column 2"):
        dr.sample_robustness(X, y, options=dr.RunOptions(scratch=str(tmp_path))).compute()


def test_one_label_in_a_group(tmp_path):
    X, y = good()
    split = np.where(y == 1, "same", "other")
    split[:2] = "other"
    with pytest.raises(InvalidDataError, match="group 'same'"):
        dr.sample_robustness(X, y, split).compute()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    with pytest.raises(InvalidDataError, match="group 'same'"):
        dr.sample_robustness(store)


@pytest.mark.parametrize("labels", ["categorical", "real", "vector"])
def test_one_label_in_all(labels):
    X, _ = good()
    with pytest.raises(InvalidDataError, match="label"):
        dr.sample_robustness(X, np.ones((12, 2) if labels == "vector" else 12)).compute()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("how", ["numpy", "dask", "store"])
def test_too_few_rows(n, how, tmp_path):
    X, y = good()
    X, y = X[:n], y[:n]
    with pytest.raises(InvalidDataError):
        if how == "store":
            dr.sample_robustness(dr.create_store(str(tmp_path / "own.zarr"), X, y))
        else:
            if how == "dask":
                X, y = da.from_array(X), da.from_array(y)
            dr.sample_robustness(X, y, options=dr.RunOptions(scratch=str(tmp_path))).compute()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:-1], None), "equally long|rows must agree"),
        (lambda X, y: (X[:-1], y, None), "equally long|rows must agree"),
        (lambda X, y: (X, y, np.array(["a"] * 11)), "split has shape"),
        (lambda X, y: (X[:, 0], y, None), "shape"),
        (lambda X, y: (X[:, :0], y, None), "shape"),
        (lambda X, y: (X[None], y, None), "shape"),
        (lambda X, y: (X, y[:, None, None], None), "shape|equally long"),
        (lambda X, y: (X, np.float64(1), None), "shape|equally long|rows must agree"),
        (lambda X, y: (X.astype(object), y, None), "dtype object"),
        (lambda X, y: (X, np.array([*"abcdefghijk", 3], object), None), "dtype object"),
        (lambda X, y: (X.astype(complex), y, None), "real numbers"),
        (lambda X, y: (X.astype(np.longdouble), y, None), "real numbers"),
        (lambda X, y: (X.astype(str), y, None), "real numbers"),
        (lambda X, y: (X, y.astype(complex), None), "labels of dtype"),
        (lambda X, y: (X, y.astype("M8[s]"), None), "labels of dtype"),
    ],
)
@pytest.mark.parametrize("how", ["arrays", "store"])
def test_arrays_that_do_not_fit(how, change, message, tmp_path, raise_if_dask_computes):
    X, y, split = change(*good())
    with raise_if_dask_computes(), pytest.raises(InvalidDataError, match=message):
        if how == "store":
            dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
        else:
            dr.sample_robustness(X, y, split)
    assert list(tmp_path.iterdir()) == []


def test_integers_beyond_float64_are_refused():
    X, y = good()
    X = X.astype(np.int64)
    X[4, 2] = 2**53 + 1
    with pytest.raises(InvalidDataError, match="features row 4, column 2"):
        dr.sample_robustness(X, y).compute()
    with pytest.raises(InvalidDataError, match="labels row 0"):
        dr.sample_robustness(good()[0], y + 2**60).compute()


@pytest.mark.parametrize(
    "metric", ["euclid", "minkowski(0.5)", "minkowski(x)", "mahalanobis", "cosine", "", None, 3]
)
def test_unknown_metric(metric, raise_if_dask_computes):
    with raise_if_dask_computes(), pytest.raises(InvalidOptionError):
        dr.sample_robustness(*good(), metric=metric)


@pytest.mark.parametrize("labels", ["classes", "vector-l3", "", 3])
def test_unknown_labels(labels):
    with pytest.raises(InvalidOptionError):
        dr.sample_robustness(*good(), labels=labels)


def test_real_labels_of_several_columns_are_refused():
    X, y = good()
    with pytest.raises(InvalidDataError, match="vector"):
        dr.sample_robustness(X, np.stack([y, y], axis=1), labels="real").compute()


def test_text_labels_are_no_real_numbers():
    X, y = good()
    with pytest.raises((InvalidDataError, InvalidOptionError)):
        dr.sample_robustness(X, np.array(["a", "b"])[y], labels="real").compute()


def test_label_bound():
    X, y = good()
    y = y.astype(float)
    bound = dr.LabelMap("real", bound=4.0)
    found = dr.sample_robustness(X, y, labels=bound).compute()
    np.testing.assert_array_equal(found.robustness, 4 / (found.lipschitz + 4))
    with pytest.raises(InvalidOptionError, match="below"):
        dr.sample_robustness(X, y * 9, labels=bound).compute()
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidOptionError):
            dr.LabelMap("real", bound=wrong)


@pytest.mark.parametrize("how", ["numpy", "dask", "store"])
def test_angular_names_a_zero_row(how, tmp_path):
    X, y = good()
    X[5] = 0
    arguments = given_as(how, own.Data(X, y, None, "categorical"), tmp_path)
    scores = dr.sample_robustness(
        *arguments, metric="angular", options=dr.RunOptions(scratch=str(tmp_path))
    )
    with pytest.raises(InvalidDataError, match="row 5 is all zeros"):
        scores.compute()


def test_mahalanobis_that_does_not_fit():
    X, y = good()
    with pytest.raises(InvalidOptionError, match="3 columns"):
        dr.sample_robustness(X, y, metric=dr.Mahalanobis(np.eye(4)))
    with pytest.raises(InvalidOptionError, match="singular"):
        dr.Mahalanobis.fit(np.repeat(X, 2, axis=1))
    for VI in (np.ones((2, 2)), -np.eye(2), np.triu(np.ones((3, 3))), np.ones(3)):
        with pytest.raises(InvalidOptionError):
            dr.Mahalanobis(VI)


def test_unknown_chunks_and_lazy_names(raise_if_dask_computes):
    X, y = good()
    lazy = da.from_array(X, chunks=5)
    with raise_if_dask_computes():
        with pytest.raises(InvalidDataError, match="compute_chunk_sizes"):
            dr.sample_robustness(lazy[lazy[:, 0] > -9], y)
        with pytest.raises(InvalidDataError, match="split is a Dask array"):
            dr.sample_robustness(X, y, da.from_array(y))
        with pytest.raises(InvalidDataError, match="text labels"):
            dr.sample_robustness(X, da.from_array(y.astype(str)))


def test_a_store_has_its_own_labels(tmp_path):
    X, y = good()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y)
    with pytest.raises(InvalidOptionError, match="own labels"):
        dr.sample_robustness(store, y)
    with pytest.raises(InvalidOptionError, match="need labels"):
        dr.sample_robustness(X)
    with pytest.raises(InvalidOptionError, match="of a store"):
        dr.sample_robustness(X, y).write()
    with pytest.raises(InvalidOptionError, match="there is no group 'b'"):
        dr.sample_robustness(store).robustness_within("b")


def test_a_path_is_an_address(tmp_path):
    data = sample()
    stored(data, tmp_path)
    path = tmp_path / "own.zarr"
    brute.assert_same(dr.sample_robustness(str(path)).compute(), expected(data))
    brute.assert_same(dr.sample_robustness(path).compute(), expected(data))


def test_too_little_memory_is_refused_before_anything_runs(tmp_path, raise_if_dask_computes):
    store = stored(sample(), tmp_path)
    options = dr.RunOptions(dr.Resources(2, 1, 200 * 2**20))
    with raise_if_dask_computes(), pytest.raises(MemoryPlanError, match="200 MiB"):
        dr.sample_robustness(store, options=options)


@pytest.mark.parametrize("options", [{"block_rows": 0}, {"panel_rows": 0}, {"block_rows": -3}])
def test_sizes_that_mean_nothing(options):
    with pytest.raises(InvalidOptionError):
        dr.sample_robustness(*good(), options=dr.RunOptions(own.UNLIMITED, **options))
