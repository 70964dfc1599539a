"""Corners that a plain property test does not reach, each with what went wrong there once."""

import pickle

import dask.array as da
import numpy as np
import pytest
import zarr
from scipy.spatial.distance import cdist

import dskrobust as dr
from dskrobust.errors import InvalidDataError, InvalidOptionError, StaleResultsError, StoreError


@pytest.fixture
def some():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 10)), rng.integers(0, 3, 200)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", ["real", "vector-l1"])
def test_largest_quotients_of_angles(seed, labels):
    """An angle is up to π/2 times its chord, so quotients of chords bound none of angles."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(150, 10))
    y = rng.normal(size=(150, 2) if labels != "real" else 150)
    scores = dr.sample_robustness(X, y, metric="angular", labels=labels).compute()
    angles = np.arccos(np.clip(1 - cdist(X, X, "cosine"), -1, 1))
    dy = cdist(y.reshape(150, -1), y.reshape(150, -1), "cityblock")
    np.fill_diagonal(angles, np.inf)
    np.testing.assert_allclose(scores.lipschitz, (dy / angles).max(axis=1), rtol=1e-6)


def test_nested_selection_ranks_by_the_scores_given(some):
    a = dr.sample_robustness(*some).compute()
    b = dr.sample_robustness(*some, metric="chebyshev").compute()
    outer = dr.least_robust(a, 100)
    inner = dr.least_robust(b, 10, within=outer)
    rows = np.sort(outer.indices)
    wanted = rows[np.argsort(b.robustness[rows], kind="stable")[:10]]
    assert inner.indices.tolist() == wanted.tolist()


def test_rows_that_do_not_exist(tmp_path, some):
    store = dr.create_store(str(tmp_path / "a.zarr"), *some)
    for rows in ([0, 200], [-201], np.ones(5, bool)):
        with pytest.raises(IndexError):
            store.features[np.asarray(rows)]
    assert (store.features[[-1, 0]] == some[0][[-1, 0]]).all()


def test_a_store_that_changed_under_lazy_scores(tmp_path, some):
    X, y = some
    path = tmp_path / "a.zarr"
    scores = dr.sample_robustness(dr.create_store(path, X, y))
    dr.create_store(path, 2 * X, y, overwrite=True)
    with pytest.raises(StaleResultsError, match="other data"):
        scores.compute(scheduler="sync")


def test_a_function_that_changed_is_another_metric(tmp_path, some):
    def metric(factor):
        return eval(f"lambda a, b: {factor} * abs(a - b).max()")

    store = dr.create_store(tmp_path / "a.zarr", some[0][:40], some[1][:40])
    first = dr.sample_robustness(store, metric=metric(1.0)).write()
    assert dr.sample_robustness(store, metric=metric(1.0)).result is not None
    second = dr.sample_robustness(store, metric=metric(2.0))
    assert second.result is None
    assert np.allclose(second.compute().reach, 2 * np.asarray(first.reach))


def test_a_zarr_array_that_changed_is_scored_anew(tmp_path, some):
    X, y = some
    array = zarr.create_array(str(tmp_path / "x.zarr"), shape=X.shape, dtype=X.dtype)
    array[:] = X
    before = dr.sample_robustness(array, y)
    reach = before.reach.compute()
    array[:] = 2 * X
    after = dr.sample_robustness(array, y)
    assert after.reach.name != before.reach.name
    assert (after.reach.compute() == 2 * reach).all()


def test_linked_arrays_are_found_from_another_folder(tmp_path, some, monkeypatch):
    X, y = some
    monkeypatch.chdir(tmp_path)
    for name, values in (("x.zarr", X), ("y.zarr", y)):
        zarr.create_array(name, shape=values.shape, dtype=values.dtype)[:] = values
    dr.link_store(tmp_path / "l.zarr", zarr.open_array("x.zarr"), zarr.open_array("y.zarr"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (dr.open_store(tmp_path / "l.zarr").features[:] == X).all()


def test_foreign_byte_order_is_not_linked(tmp_path, some):
    X, y = some
    for name, values in (("x.zarr", X.astype(">f8")), ("y.zarr", y)):
        array = zarr.create_array(
            str(tmp_path / name), shape=values.shape, dtype=values.dtype, zarr_format=2
        )
        array[:] = values
    arrays = [zarr.open_array(str(tmp_path / n)) for n in ("x.zarr", "y.zarr")]
    with pytest.raises(StoreError, match="byte order"):
        dr.link_store(tmp_path / "l.zarr", *arrays)
    assert (dr.create_store(tmp_path / "c.zarr", *arrays).features[:] == X).all()


def test_addresses_take_nested_storage_options(tmp_path, some):
    store = dr.create_store(tmp_path / "a.zarr", *some)
    store.storage_options = {"client_kwargs": {"endpoint_url": "somewhere"}}
    address = pickle.loads(pickle.dumps(store.address))
    assert hash(address) == hash(store.address)
    assert address.storage_options == store.storage_options


@pytest.mark.parametrize("scale", [-1.0, 0.0, np.nan, np.inf])
def test_scale_must_be_positive(some, scale):
    with pytest.raises(InvalidOptionError, match="scale"):
        dr.sample_robustness(*some, scale=scale)


def test_named_classes_are_no_numbers(tmp_path, some):
    X, y = some
    names = np.array(["a", "b", "c"])[y]
    with pytest.raises(InvalidOptionError, match="numbers"):
        dr.sample_robustness(X, names, labels="real")
    with pytest.raises(InvalidOptionError, match="numbers"):
        dr.sample_robustness(dr.create_store(tmp_path / "a.zarr", X, names), labels="real")


@pytest.mark.parametrize("missing", [np.nan, None])
def test_split_without_a_name(tmp_path, some, missing):
    split = np.array(["train", missing] * 100, dtype=object)
    if missing is not None:
        split = np.array([0.0, missing] * 100)
    with pytest.raises(InvalidDataError, match="split"):
        dr.sample_robustness(*some, split)
    with pytest.raises(InvalidDataError, match="split"):
        dr.create_store(tmp_path / "a.zarr", *some, split)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_fitted_labels_are_within_the_norm(norm):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    model = dr.SampleRobustness(labels=f"vector-{norm}").fit(X, y)
    assert (model.score_samples(X + 0.1, y) < 1).all()
    with pytest.raises(InvalidDataError, match="beyond"):
        model.score_samples(X, 1.1 * y)


def test_a_label_map_for_categories_in_the_estimator(some):
    X, y = some
    names = np.array(["a", "b", "c"])[y]
    model = dr.SampleRobustness(labels=dr.LabelMap("categorical")).fit(X, names)
    plain = dr.SampleRobustness().fit(X, y)
    assert (model.score_samples(X + 0.1, names) == plain.score_samples(X + 0.1, y)).all()


def test_scratch_goes_with_compute_and_comes_back(client, some):
    X, y = some
    scores = dr.sample_robustness(da.from_array(X, chunks=(50, 10)), y)
    done = scores.compute()
    from pathlib import Path

    assert not Path(scores.scratch).exists()
    assert (scores.reach.compute() == done.reach).all()
    assert (dr.sample_robustness(X, y, options=dr.RunOptions()).compute().reach == done.reach).all()


# -- what would vanish, overflow or is no number -------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (1e100, {"scale": 1e300}),
        (1e-100, {"scale": 1e-300}),
        (1.0, {"scale": 1e-320}),
        (1e100, {"metric": dr.Mahalanobis(np.eye(3) * 1e200)}),
    ],
)
def test_distances_that_no_float64_holds_are_refused(size, options):
    X, y = size * (1 + np.random.default_rng(0).random((40, 3))), np.arange(40) % 2
    with pytest.raises(InvalidDataError, match="vanish or overflow"):
        dr.sample_robustness(X, y, **options).compute()


@pytest.mark.parametrize(
    ("matrix", "center", "said"),
    [
        ("abc", None, "VI must hold numbers"),
        (np.diag([1.0, np.nan]), None, "VI must be finite"),
        (np.eye(2), [0.0, np.nan], "center must be finite"),
        (np.eye(2), [0.0], "center must have the shape"),
    ],
)
def test_mahalanobis_needs_numbers(matrix, center, said):
    with pytest.raises(InvalidOptionError, match=said):
        dr.Mahalanobis(matrix, center)


@pytest.mark.parametrize("scale", [np.float32(1.5), np.int64(2), 3])
def test_scales_of_any_number_type(scale):
    X, y = np.random.default_rng(0).random((9, 2)), np.arange(9) % 2
    found = dr.sample_robustness(X, y, scale=scale).compute()
    np.testing.assert_array_equal(
        found.robustness, dr.sample_robustness(X, y, scale=float(scale)).compute().robustness
    )


def test_what_is_no_number_is_named():
    X, y = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
    with pytest.raises(InvalidOptionError, match="scale must be a number, not 'a'"):
        dr.sample_robustness(X, y, scale="a")
    with pytest.raises(InvalidDataError, match="X is no array"):
        dr.sample_robustness([[1, 2], [3]], [0, 1])
    with pytest.raises(InvalidDataError, match="returned 'far' for rows 0 and"):
        dr.sample_robustness(X, y, metric=lambda a, b: "far").compute()
