"""Selections by robustness: complements, nested, lazy; and what labels they hold."""

import dask.array as da
import numpy as np
import pytest
import strategies as own
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import ranking
from dskrobust.errors import InvalidOptionError
from dskrobust.store import Block, write_store
from dskrobust.subsets import QUANTILES, class_name, robustness_spans, select_subset, whole

pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


def arrays_of(n=90, labels="categorical", kind="ties", seed=0):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, 3, "float32", kind, 0)  # few columns: many samples are equally robust
    y = own.label_values(rng, n, labels, True)
    y[:4] = np.array([0, 0, 1, 1]).reshape((-1, *[1] * (y.ndim - 1)))
    return X, y, np.array(["test", "train"])[np.arange(n) % 2]


@pytest.fixture(scope="module")
def scores():
    return dr.sample_robustness(*arrays_of()).compute()


def order_of(scores, group=None):
    """Row numbers from the least to the most robust; ties by row number."""
    rows = np.arange(scores.rows)
    if group is not None:
        rows = rows[np.array(scores.groups)[scores.split] == group]
    return sorted(rows.tolist(), key=lambda r: (scores.robustness[r], r))


def test_there_are_many_ties(scores):
    assert len(np.unique(scores.robustness)) < 20


@pytest.mark.parametrize("within", [None, "train", "test"])
def test_least_and_most_are_complements(scores, within):
    order = order_of(scores, within)
    n = len(order)
    for k in range(1, n):
        least = dr.least_robust(scores, k, within)
        most = dr.most_robust(scores, n - k, within)
        assert np.asarray(least).tolist() == order[:k]
        assert np.asarray(most).tolist() == order[k:]
        assert len(least) + len(most) == n
        assert not set(np.asarray(least)) & set(np.asarray(most))
    assert np.asarray(dr.least_robust(scores, n, within)).tolist() == order
    assert np.asarray(dr.most_robust(scores, n, within)).tolist() == order
    assert np.asarray(whole(scores, within)).tolist() == order


@given(seed=st.integers(0, 1000), draw=st.data())
def test_complements_of_any_size(seed, draw):
    n = 30
    X, y, split = arrays_of(n, seed=seed)
    scores = dr.sample_robustness(X, y, split).compute()
    k = draw.draw(st.integers(1, n - 1))
    both = [*np.asarray(dr.least_robust(scores, k)), *np.asarray(dr.most_robust(scores, n - k))]
    assert both == order_of(scores)


def test_names_are_those_of_the_paper(scores):
    half = dr.least_robust(scores, 20, within="train")
    assert half.name == "train_L20"
    assert dr.most_robust(scores, 7).name == "all_M7"
    assert dr.most_robust(scores, 7, within=half).name == "train_L20_M7"
    assert whole(scores, "test").name == "test"
    assert half.indices.dtype == np.int64


def test_nested_selections(scores):
    order = order_of(scores, "train")
    half = dr.least_robust(scores, 20, within="train")
    assert np.asarray(dr.least_robust(scores, 5, within=half)).tolist() == order[:5]
    assert np.asarray(dr.most_robust(scores, 5, within=half)).tolist() == order[15:20]
    inner = dr.least_robust(scores, 2, within=dr.most_robust(scores, 5, within=half))
    assert np.asarray(inner).tolist() == order[15:17]


@pytest.mark.parametrize("how", ["numpy", "dask", "store", "result"])
def test_selections_are_lazy(how, scores, tmp_path, raise_if_dask_computes):
    X, y, split = arrays_of()
    if how == "dask":
        X = da.from_array(X, chunks=(40, -1))
    arguments = X, y, split
    if how in ("store", "result"):
        arguments = (dr.create_store(str(tmp_path / "own.zarr"), *arguments),)
    if how == "result":
        dr.sample_robustness(*arguments).write()
    with raise_if_dask_computes():
        lazy = dr.sample_robustness(*arguments)
        subset = dr.least_robust(lazy, 20, within="train")
        nested = dr.most_robust(lazy, 5, within=subset)
        assert isinstance(subset.indices, da.Array)
        assert (subset.size, subset.indices.shape) == (20, (20,))
        assert (nested.size, nested.indices.shape) == (5, (5,))
        assert len(whole(lazy, "test")) == 45
    order = order_of(scores, "train")
    assert subset.compute().indices.tolist() == order[:20]
    assert nested.compute().indices.tolist() == order[15:20]
    assert isinstance(nested.compute().indices, np.ndarray)
    assert nested.compute().name == nested.name


def test_selections_of_a_cluster(client, scores, tmp_path):
    store = dr.create_store(str(tmp_path / "own.zarr"), *arrays_of())
    subset = dr.least_robust(dr.sample_robustness(store), 20, within="train")
    assert subset.compute().indices.tolist() == order_of(scores, "train")[:20]


@pytest.mark.parametrize("size", [0, -1, 91, 2.0, True, "5", None])
def test_sizes_that_mean_nothing(scores, size):
    for choose in (dr.least_robust, dr.most_robust):
        with pytest.raises(InvalidOptionError, match="from 1 to 90"):
            choose(scores, size)


def test_too_many_and_unknown_groups(scores):
    with pytest.raises(InvalidOptionError, match="45 samples in train"):
        dr.least_robust(scores, 46, within="train")
    with pytest.raises(InvalidOptionError, match="there is no group 'x'"):
        dr.least_robust(scores, 1, within="x")
    with pytest.raises(InvalidOptionError, match="5 samples in train_L5"):
        dr.most_robust(scores, 6, within=dr.least_robust(scores, 5, within="train"))


# -- what labels they hold ---------------------------------------------------------------------


def test_class_counts(tmp_path):
    X, y, split = arrays_of()
    spec = dr.StoreSpec("own", "categorical", classes=("cat", "dog"))
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split, spec=spec)
    scores = dr.sample_robustness(store).compute()
    subsets = [dr.least_robust(scores, 20, "train"), dr.most_robust(scores, 25, "train")]
    wholes = [whole(scores, "train")] * 2
    table = dr.class_counts(store, subsets, wholes)
    assert table.subsets == ("train_L20", "train_M25")
    assert table.labels == ("cat", "dog")
    rows = split == "train"
    for k, subset in enumerate(subsets):
        counts = np.bincount(y[np.asarray(subset)], minlength=2)
        np.testing.assert_array_equal(table.values[:, k], counts)
        np.testing.assert_array_equal(table.shares[:, k], counts / np.bincount(y[rows]))
    np.testing.assert_array_equal(table.values.sum(axis=1), np.bincount(y[rows]))
    np.testing.assert_allclose(table.shares.sum(axis=1), 1)
    assert dr.class_counts(store, subsets).shares is None


@pytest.mark.parametrize("values", [[3, 7, 1000], [-5, 0, 5], [0.5, 1.5, 2.5]])
def test_counts_of_labels_that_are_no_positions(tmp_path, values):
    X, _, split = arrays_of()
    labels = np.array(values)[np.arange(90) % 3]
    labels[:4] = np.array(values)[[0, 0, 1, 1]]
    spec = dr.StoreSpec("own", "categorical")
    store = dr.create_store(str(tmp_path / "own.zarr"), X, labels, split, spec=spec)
    scores = dr.sample_robustness(store).compute()
    table = dr.class_counts(store, [dr.least_robust(scores, 50), whole(scores)])
    assert table.labels == tuple(f"{v:g}" for v in values)
    np.testing.assert_array_equal(table.values[:, 1], [(labels == v).sum() for v in values])
    assert table.values[:, 0].sum() == 50


def test_class_names(tmp_path):
    X, _, split = arrays_of()
    text = np.array(["ant", "bee"])[np.arange(90) // 2 % 2]
    store = dr.create_store(str(tmp_path / "own.zarr"), X, text, split)
    assert [class_name(store, k) for k in (0, 1, 2)] == ["ant", "bee", "2"]


@pytest.mark.parametrize("labels", ["real", "vector-l2", "vector-l1", "vector-linf"])
def test_quantiles_of_real_labels(tmp_path, labels):
    X, y, split = arrays_of(labels=labels)
    kind, _, norm = labels.partition("-")
    spec = dr.StoreSpec("own", kind, label_norm=norm or "l2")
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split, spec=spec)
    scores = dr.sample_robustness(store).compute()
    subset = dr.least_robust(scores, 20, "train")
    table = dr.class_counts(store, [subset])
    order = {"l1": 1, "l2": 2, "linf": np.inf}
    sizes = y if y.ndim == 1 else np.linalg.norm(y, order[norm], axis=1)
    np.testing.assert_allclose(table.values[:, 0], np.quantile(sizes[subset.indices], QUANTILES))
    assert table.labels == ("0%", "5%", "25%", "50%", "75%", "95%", "100%")
    assert table.shares is None


def counted(labels, rows):
    return [int((labels[rows] == label).sum()) for label in np.unique(labels)]


def test_counts_in_chunks_are_those_of_all_rows(tmp_path, monkeypatch):
    """Of joined selections, of rows alone (some twice, some lazy), and of whole groups."""
    monkeypatch.setattr(ranking, "RUN_ROWS", 30)
    X, _, split = arrays_of()
    labels = np.random.default_rng(1).integers(0, 5, 90)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, labels, split)
    dr.sample_robustness(store).write()
    scores = dr.sample_robustness(store)
    rows = np.array([3, 3, 89, 0])
    texts = ("train:L20-L5", "train:M9+test:L4", "test", "all", "train+test")
    subsets = [select_subset(scores, text) for text in texts]
    subsets += [dr.Subset("rows", rows, 4), dr.Subset("lazy", da.from_array(rows, chunks=3), 4)]
    subsets += [dr.least_robust(scores, 9, subsets[1]), dr.most_robust(scores.compute(), 9, "test")]
    table = dr.class_counts(store, subsets)
    for k, subset in enumerate(subsets):
        assert table.values[:, k].tolist() == counted(labels, np.asarray(subset))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantiles_in_chunks_are_those_of_numpy(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(ranking, "RUN_ROWS", 30)
    X, _, split = arrays_of()
    y = np.random.default_rng(1).normal(size=90).astype(dtype)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    scores = dr.sample_robustness(store)
    subsets = [select_subset(scores, text) for text in ("train", "test:L1", "train:L20+M3")]
    table = dr.class_counts(store, subsets)
    for k, subset in enumerate(subsets):
        assert table.values[:, k].tolist() == np.quantile(y[np.asarray(subset)], QUANTILES).tolist()


@pytest.mark.parametrize("text", ["all-test", "train-all", "all:L50-train:L10", "all+train-train"])
def test_all_is_joined_with_no_group_on_either_side(text):
    rng = np.random.default_rng(0)
    split = np.where(np.arange(60) < 40, "train", "test")
    scores = dr.sample_robustness(rng.standard_normal((60, 2)), np.arange(60) % 3, split)
    with pytest.raises(InvalidOptionError, match="joins all"):
        dr.select_subset(scores, text)


def test_a_group_without_rows_is_refused(tmp_path):
    spec = dr.StoreSpec("own", "real", groups=("train", "none"))
    rng = np.random.default_rng(0)
    blocks = [Block(rng.standard_normal((30, 2)), rng.random(30), np.zeros(30, np.int16))]
    store = write_store(str(tmp_path / "s.zarr"), spec, blocks)
    scores = dr.sample_robustness(store).write()
    none = whole(scores, "none")
    for ask in (lambda: robustness_spans(scores, [none]), lambda: dr.class_counts(store, [none])):
        with pytest.raises(InvalidOptionError, match="none has no samples"):
            ask()
